"""Connections that are refused, reset, dropped or left hanging; and what is seen of clients."""

from __future__ import annotations

import ssl

import msgspec
import pytest
import trio
import trustme
from trio.testing import MockClock

from bulkhead_trio.errors import UpstreamError, UpstreamUnreachable
from bulkhead_trio.http.client import HTTPClient
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations
from bulkhead_trio.testing.upstream import (
    Answer,
    Cut,
    End,
    Events,
    Raw,
    Script,
    ScriptedUpstream,
    WebSocket,
    always,
    resolve_to_loopback,
)
from bulkhead_trio.testing.upstream.script import Step

from ._raw import GET, raw


async def test_client_keeps_a_connection_to_it(autojump_clock: MockClock) -> None:
    """A real client, a real socket, a mock clock."""
    async with ScriptedUpstream() as upstream, HTTPClient(resolve=resolve_to_loopback) as client:
        for number in range(3):
            answer = await client.post(f"{upstream.url}/a", content=b"%d" % number)
            assert answer.status == 200
        seen = upstream.seen()
        assert (seen.opened, seen.count, seen.open) == (1, 3, 1)
        assert [request.method for request in seen.requests] == ["POST"] * 3
        assert seen.requests[2].header("HOST") == f"127.0.0.1:{upstream.port}"


async def test_refused_connections_keep_the_port(autojump_clock: MockClock) -> None:
    """Refused at once while it does not listen, taken again afterwards, at the same address."""
    async with (
        ScriptedUpstream(Script(is_listening=False)) as upstream,
        HTTPClient(resolve=resolve_to_loopback) as client,
    ):
        for _ in range(3):
            upstream.play(Script(is_listening=False))
            with pytest.raises(UpstreamUnreachable):
                await client.get(upstream.url)
            upstream.play(always(Answer(ending="close")))
            assert (await client.get(upstream.url)).status == 200


@pytest.mark.parametrize(
    "script",
    [
        Script(connections=("reset",)),
        Script(connections=("close",)),
        always(End(how="reset")),
        always(End(how="close")),
        always(Answer(body="hello", cut=Cut(after_bytes=2, how="reset"))),
        always(Answer(body="hello", cut=Cut(after_bytes=4, of="head"))),
        always(Raw(data="HTTP/1.1 200")),
    ],
)
async def test_broken_exchanges_are_errors_to_a_client(
    script: Script, autojump_clock: MockClock
) -> None:
    """Each is an upstream that failed, and never an answer."""
    async with ScriptedUpstream(script) as upstream, HTTPClient(resolve=resolve_to_loopback) as c:
        with trio.fail_after(20), pytest.raises(UpstreamError):
            await c.post(upstream.url, content=b"x")


async def test_reset_is_a_reset_on_a_socket(autojump_clock: MockClock) -> None:
    """Not an orderly end: RST."""
    async with ScriptedUpstream(always(End(how="reset"), End(how="close"))) as upstream:
        for is_reset in (True, False):
            async with await trio.open_tcp_stream("127.0.0.1", upstream.port) as stream:
                await stream.send_all(GET)
                if is_reset:
                    with pytest.raises(trio.BrokenResourceError):
                        await stream.receive_some()
                else:
                    assert await stream.receive_some() == b""


async def test_connections_take_turns(autojump_clock: MockClock) -> None:
    """Each new one gets the next word, over and over."""
    async with ScriptedUpstream(Script(connections=("close", "serve", "hang"))) as upstream:
        answered = []
        for _ in range(6):
            client = await raw(upstream)
            await client.stream.send_all(GET)
            answered.append(bool(await client.rest(3)))
        assert answered == [False, True, False] * 2


async def test_idle_connection_is_closed_without_a_word(autojump_clock: MockClock) -> None:
    """The answer said nothing of it."""
    async with ScriptedUpstream(always(Answer(ending="close"))) as upstream:
        client = await raw(upstream)
        got = await client.ask()
        assert b"close" not in got
        assert await client.is_ended()


@pytest.mark.parametrize(
    "step",
    [
        End(how="hang"),
        Answer(gate="never"),
        Answer(head_seconds=1000),
        Answer(body="abc", piece_bytes=1, piece_seconds=1000),
        Answer(body="abc", cut=Cut(after_bytes=1, how="hang")),
        Events(),
    ],
)
async def test_client_that_goes_is_noticed(step: Step, autojump_clock: MockClock) -> None:
    """Wherever the upstream waits: how a test sees that a cancelled request is given up."""
    async with ScriptedUpstream(always(step)) as upstream:
        client = await raw(upstream)
        await client.stream.send_all(GET)
        await trio.sleep(5)
        assert [request.outcome for request in upstream.seen().requests] == ["open"]
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        seen = upstream.seen()
        assert [request.outcome for request in seen.requests] == ["gone"]
        assert (seen.open, seen.in_flight) == (0, 0)


async def test_dropped_connections_end(autojump_clock: MockClock) -> None:
    """Idle or not; those that come later are served."""
    async with ScriptedUpstream(always(End(how="hang"))) as upstream:
        stream = await trio.open_tcp_stream("127.0.0.1", upstream.port)
        await stream.send_all(GET)
        await trio.testing.wait_all_tasks_blocked(0.02)
        upstream.drop_connections(is_reset=True)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()
        upstream.play(Script())
        assert await (await raw(upstream)).ask()


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\r\n\r\n", b"GET / HTTP/1.1\r\nHost : u\r\n\r\n", b"GET /\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"],
)  # fmt: skip
async def test_malformed_request_is_told_from_others(
    garbage: bytes, autojump_clock: MockClock
) -> None:
    """A proxy that sends such a thing has a fault; the upstream is there to see it."""
    async with ScriptedUpstream() as upstream:
        assert (await (await raw(upstream)).ask(garbage)).startswith(b"HTTP/1.1 400 ")
        assert [request.outcome for request in upstream.seen().requests] == ["malformed"]


async def test_requests_that_come_together_are_answered_in_turn(autojump_clock: MockClock) -> None:
    """Pipelined ones, bodies and all."""
    post = b"POST / HTTP/1.1\r\nHost: u\r\nContent-Length: 2\r\n\r\nhi"
    async with ScriptedUpstream(always(Answer(body="x"))) as upstream:
        got = await (await raw(upstream)).ask(post + GET + post)
        assert got.count(b"HTTP/1.1 200 OK") == 3
        assert [request.length for request in upstream.seen().requests] == [2, 0, 2]


async def test_forgetting_begins_anew(autojump_clock: MockClock) -> None:
    """Counts from nothing, but for what is there."""
    async with ScriptedUpstream(always(Answer(), End(how="hang"))) as upstream:
        client = await raw(upstream)
        await client.ask(GET + GET)
        upstream.forget()
        seen = upstream.seen()
        assert (seen.count, seen.opened, seen.open, seen.most_in_flight) == (0, 0, 1, 1)
        assert seen.requests == ()


async def test_upstream_that_was_cancelled_leaves_nothing(autojump_clock: MockClock) -> None:
    """At every checkpoint of its life and of a request to it, its port is given back."""

    async def scenario(point: CancellationPoint) -> None:
        upstream = ScriptedUpstream(always(Answer(body="x" * 100, content="mirror"), WebSocket()))
        with point:
            async with upstream:
                async with await trio.open_tcp_stream("127.0.0.1", upstream.port) as stream:
                    await stream.send_all(GET)
                    await stream.receive_some()
        with pytest.raises(OSError, match=r"refused|failed"):
            await trio.open_tcp_stream("127.0.0.1", upstream.port)
        assert (upstream.seen().open, upstream.seen().in_flight) == (0, 0)

    assert await sweep_cancellations(scenario) > 3


@pytest.mark.parametrize("reading", ["before", "beside"])
async def test_client_that_goes_amid_its_body_is_noticed(
    reading: str, autojump_clock: MockClock
) -> None:
    """What had come of it is told, and that it was not all."""
    step = msgspec.convert({"do": "answer", "reading": reading, "gate": "never"}, Answer)
    async with ScriptedUpstream(always(step)) as upstream:
        client = await raw(upstream)
        await client.stream.send_all(b"POST / HTTP/1.1\r\nHost: u\r\nContent-Length: 9\r\n\r\nhalf")
        await trio.testing.wait_all_tasks_blocked()
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        (request,) = upstream.seen().requests
        assert (request.outcome, request.length, request.is_complete) == ("gone", 4, False)


async def test_head_that_is_not_finished_is_no_request(autojump_clock: MockClock) -> None:
    """A client that goes amid it, or never ends it, costs a connection and nothing else."""
    async with ScriptedUpstream() as upstream:
        client = await raw(upstream)
        await client.stream.send_all(b"GET / HT")
        await client.stream.aclose()
        endless = await raw(upstream)
        await endless.stream.send_all(b"X: " + b"a" * 1_100_000)
        assert await endless.is_ended()
        await trio.testing.wait_all_tasks_blocked()
        assert (upstream.seen().count, upstream.seen().open) == (0, 0)


async def test_upstream_speaks_tls(autojump_clock: MockClock) -> None:
    """Answers, resets and closing are the same underneath."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    script = always(Answer(body="hello"), End(how="reset"), End(how="close"))
    async with (
        ScriptedUpstream(script, tls=server) as upstream,
        HTTPClient(resolve=resolve_to_loopback, tls_context=trusting) as client,
    ):
        assert upstream.url.startswith("https://")
        assert (await client.get(upstream.url)).content == b"hello"
        for _ in range(2):
            with pytest.raises(UpstreamError):
                await client.post(upstream.url, content=b"x")


async def test_upstream_outside_its_block_does_nothing() -> None:
    """It has no tasks there, and its address is nobody's."""
    upstream = ScriptedUpstream()
    with pytest.raises(RuntimeError):
        await upstream.connect()
    with pytest.raises(OSError, match="Cannot assign"):
        async with ScriptedUpstream(host="192.0.2.1"):
            pass
