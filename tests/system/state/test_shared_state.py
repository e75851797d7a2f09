"""A real Redis that hangs, dies, refuses and comes back: nobody waits for it."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
import trustme

from bulkhead_trio.errors import StateUnavailable
from bulkhead_trio.state import RedisChanged, SharedState
from bulkhead_trio.state._commands import Command
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations
from bulkhead_trio.testing.redis import RedisServer

from .conftest import eventually

LIMIT = 0.05
SLACK = 0.1
"""What a busy machine adds to a limit."""


def echo(text: str) -> Command:
    return Command(b"ECHO", (text,), b"")


@asynccontextmanager
async def running(url: str, **options: object) -> AsyncIterator[SharedState]:
    state = SharedState(url, **options)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(state.run)
        yield state
        nursery.cancel_scope.cancel()


async def seconds_to_fail(state: SharedState) -> float:
    began = trio.current_time()
    with pytest.raises(StateUnavailable):
        await state.call(echo("x"))
    return trio.current_time() - began


async def test_calls_at_the_same_time_get_their_own_answers(redis_server: RedisServer) -> None:
    """Over one connection, whatever their order."""
    async with running(redis_server.url) as state:

        async def ask(number: int) -> None:
            texts = [f"{number}-{part}" for part in range(number % 4 + 1)]
            answers = await state.calls([echo(text) for text in texts])
            assert answers == [text.encode() for text in texts]

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(ask, number)
        statistics = state.statistics()
        assert (statistics.connections, statistics.in_flight, statistics.calls) == (1, 0, 200)


async def test_stopped_redis_costs_one_wait(redis_server: RedisServer) -> None:
    """The calls under way end at their limit; those after them do not wait at all."""
    async with running(redis_server.url) as state:
        redis_server.freeze()
        waits: list[float] = []

        async def ask() -> None:
            waits.append(await seconds_to_fail(state))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert max(waits) < LIMIT + SLACK
        assert not state.is_up
        for _ in range(100):
            assert await seconds_to_fail(state) < SLACK / 4
        assert state.statistics().refused == 100


async def test_redis_that_goes_on_is_used_again(redis_server: RedisServer) -> None:
    """By itself, and no answer of before is ever read: a late one has gone with its connection."""
    async with running(redis_server.url) as state:
        redis_server.freeze()
        await seconds_to_fail(state)
        await trio.sleep(0.3)
        redis_server.thaw()
        await eventually(lambda: state.is_up)
        assert await state.call(echo("after")) == b"after"
        assert state.statistics().sessions == 2


async def test_redis_that_is_killed_and_restarted_is_used_again(redis_server: RedisServer) -> None:
    """On the same address, empty."""
    changes: list[RedisChanged] = []
    async with running(redis_server.url, listeners=[changes.append]) as state:
        redis_server.kill()
        await eventually(lambda: not state.is_up)
        assert await seconds_to_fail(state) < SLACK / 4
        await trio.sleep(0.4)
        redis_server.start()
        await eventually(lambda: state.is_up)
        assert await state.call(echo("new")) == b"new"
    assert [each.is_up for each in changes] == [True, False, True], "however many tries there were"
    assert changes[1].reason


async def test_calls_under_way_when_redis_dies_fail_as_such(redis_server: RedisServer) -> None:
    """Whether they were on their way there or back: what broke is never taken for an answer."""
    async with running(redis_server.url, call_seconds=2.0) as state:
        ended: list[object] = []

        async def ask() -> None:
            for _ in range(100):
                try:
                    assert await state.call(echo("x" * 10_000)) == b"x" * 10_000
                except StateUnavailable as error:
                    ended.append(error)
                    return

        for _ in range(10):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(ask)
                await trio.sleep(0.005)
                redis_server.kill()
            redis_server.start()
            await eventually(lambda: state.is_up)
        assert ended


async def test_redis_that_is_not_there_yet_is_found(redis_server: RedisServer) -> None:
    """A start without it is no failure, and has started after one try."""
    redis_server.kill()
    async with running(redis_server.url) as state:
        assert not state.is_up
        redis_server.start()
        await eventually(lambda: state.is_up)


async def test_redis_that_hangs_while_connecting_keeps_nobody(redis_server: RedisServer) -> None:
    """Its kernel takes the connection, and nothing answers."""
    redis_server.freeze()
    began = trio.current_time()
    async with running(redis_server.url, connect_seconds=0.1) as state:
        assert trio.current_time() - began < 0.1 + SLACK
        assert await seconds_to_fail(state) < SLACK / 4
        redis_server.thaw()
        await eventually(lambda: state.is_up)


async def test_cancelled_caller_leaves_the_connection_good(redis_server: RedisServer) -> None:
    """Its answer is taken off the connection, and the others' calls go on."""
    async with running(redis_server.url) as state:
        for _ in range(50):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(state.call, echo("lost"))
                    await trio.lowlevel.checkpoint()
                    scope.cancel()
            assert await state.call(echo("kept")) == b"kept"
        statistics = state.statistics()
        assert (statistics.sessions, statistics.failed, statistics.in_flight) == (1, 0, 0)


async def test_call_cancelled_anywhere_holds_nothing(redis_server: RedisServer) -> None:
    """At each of its checkpoints; whoever went along with it has an answer."""
    async with running(redis_server.url, call_seconds=2.0) as state:

        async def scenario(point: CancellationPoint) -> None:
            async with trio.open_nursery() as nursery:

                async def along() -> None:
                    assert await state.call(echo("along")) == b"along"

                nursery.start_soon(along)
                with point:
                    assert await state.call(echo("mine")) == b"mine"
                    await trio.lowlevel.checkpoint()
            assert state.statistics().in_flight == 0

        assert await sweep_cancellations(scenario) >= 2
        statistics = state.statistics()
        assert (statistics.sessions, statistics.failed) == (1, 0)


async def test_cancelled_caller_of_a_stopped_redis_goes_at_the_limit(
    redis_server: RedisServer,
) -> None:
    """Not before, and not after."""
    async with running(redis_server.url) as state:
        redis_server.freeze()
        began = trio.current_time()
        with trio.move_on_after(0.01):
            await seconds_to_fail(state)
        assert trio.current_time() - began < LIMIT + SLACK


async def test_refused_command_is_an_error_of_its_own(redis_server: RedisServer) -> None:
    """A Redis that refuses one command is well all the same."""
    async with running(redis_server.url) as state:
        with pytest.raises(StateUnavailable):
            await state.call(Command(b"NONSENSE", (), b""))
        assert state.is_up
        assert await state.call(echo("x")) == b"x"


async def test_redis_that_cannot_be_written_to_is_away(redis_server: RedisServer) -> None:
    """As a replica is, or one that is full, though it answers; until it can be."""
    redis_server.command("REPLICAOF", "127.0.0.1", "1")
    async with running(redis_server.url) as state:
        assert not state.is_up
        redis_server.command("REPLICAOF", "NO", "ONE")
        await eventually(lambda: state.is_up)
        redis_server.command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StateUnavailable):
            await state.call(Command(b"SET", (b"k", b"v"), b"k"))
        assert not state.is_up


async def test_scripts_that_redis_forgot_are_sent_again(redis_server: RedisServer) -> None:
    """As after a failover; the call that finds out is served."""
    from bulkhead_trio.state.instances import INSTANCES

    async with running(redis_server.url, scripts=[INSTANCES]) as state:
        redis_server.command("SCRIPT", "FLUSH")
        assert await state.call(INSTANCES.on([b"k"], ["me", 1000])) == 1
        assert state.statistics().sessions == 1


async def test_messages_reach_whoever_subscribed(redis_server: RedisServer) -> None:
    """In their order, and again after Redis was away; a subscriber that raises harms nobody."""
    heard: list[bytes] = []
    returns: list[int] = []

    def fail(_: bytes) -> None:
        raise ValueError("a listener's own trouble")

    state = SharedState(redis_server.url)
    state.subscribe("news", fail)
    state.subscribe("news", heard.append)
    state.on_return(lambda: returns.append(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(state.run)
        await eventually(lambda: b":1" in redis_server.command("PUBLISH", "news", "0"))
        for text in ("1", "2"):
            redis_server.command("PUBLISH", "news", text)
        await eventually(lambda: heard == [b"0", b"1", b"2"])
        redis_server.kill()
        redis_server.start()
        await eventually(lambda: b":1" in redis_server.command("PUBLISH", "news", "again"))
        await eventually(lambda: heard[-1] == b"again")
        assert len(returns) == 2
        nursery.cancel_scope.cancel()


async def test_password_and_database_are_used(redis_server: RedisServer) -> None:
    """What the URL says of them; a wrong password is a Redis that is away."""
    redis_server.command("CONFIG", "SET", "requirepass", "open sesame")
    path = redis_server.url.removeprefix("unix://")
    async with running(f"unix://:open%20sesame@{path}?db=3") as state:
        await state.call(Command(b"SET", (b"k", b"v"), b"k"))
        assert b"db3" in await state.call(Command(b"INFO", (b"keyspace",), b""))
    async with running(f"unix://:wrong@{path}") as state:
        assert not state.is_up


async def test_connections_are_given_back(redis_server: RedisServer) -> None:
    """Nothing stays open, also where the run ends in the middle of a call."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(running(redis_server.url))
            redis_server.freeze()
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(seconds_to_fail, state)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        redis_server.thaw()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_tls_is_spoken_and_certificates_are_checked(redis_server: RedisServer) -> None:
    """A Redis behind TLS; one that cannot prove who it is, is away."""
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    path = redis_server.url.removeprefix("unix://")

    async def relay(stream: trio.abc.Stream) -> None:
        async with await trio.open_unix_socket(path) as inner, stream:

            async def copy(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
                try:
                    while data := await source.receive_some(65_536):
                        await sink.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                nursery.cancel_scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy, inner, stream)
                nursery.start_soon(copy, stream, inner)

    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_ssl_over_tcp, host="127.0.0.1")
        listeners = await nursery.start(serve, relay, 0, context)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        with authority.cert_pem.tempfile() as good, stranger.cert_pem.tempfile() as bad:
            async with running(f"rediss://localhost:{port}?ssl_ca_certs={good}") as state:
                assert await state.call(echo("secret")) == b"secret"
            async with running(f"rediss://localhost:{port}?ssl_ca_certs={bad}") as state:
                assert not state.is_up
            async with running(f"rediss://127.0.0.1:{port}?ssl_ca_certs={good}") as state:
                assert not state.is_up, "the certificate is another host's"
        nursery.cancel_scope.cancel()


def test_frozen_server_can_be_ended(redis_server: RedisServer) -> None:
    """SIGKILL ends what SIGSTOP holds, and a second end is none."""
    redis_server.freeze()
    redis_server.kill()
    redis_server.kill()
    redis_server.start()
    assert b"PONG" in redis_server.command("PING")
