"""Upstreams that misbehave: each way has its answer, and none costs the next request anything."""

from __future__ import annotations

import pytest
import trio

from bulkhead_trio.testing.upstream import (
    Answer,
    Cut,
    End,
    Raw,
    Rule,
    Script,
    ScriptedUpstreamProcess,
    always,
)
from bulkhead_trio.testing.upstream.script import Step

from .._client import NoAnswerError
from .._problems import assert_problem
from .._server import wait_until_answered
from ._gateway import Gateway, Tenant

TIMEOUT = {"timeout": {"default": 700}}
OK = "HTTP/1.1 200 OK\r\n"


@pytest.fixture
async def tenant(gateway: Gateway, upstream: ScriptedUpstreamProcess) -> Tenant:
    """With one route for everything, and little time for it."""
    tenant = await gateway.tenant()
    await gateway.route(tenant, upstream.url, resilience=TIMEOUT)
    return tenant


BEFORE_THE_ANSWER: dict[str, tuple[Step, int, str]] = {
    "slow head": (Answer(head_seconds=5), 504, "upstream_timeout"),
    "hangs": (End(how="hang"), 504, "upstream_timeout"),
    "hangs amid the head": (
        Answer(cut=Cut(after_bytes=12, of="head", how="hang")),
        504,
        "upstream_timeout",
    ),
    "closes": (End(how="close"), 502, "upstream_error"),
    "resets": (End(how="reset"), 502, "upstream_error"),
    "closes amid the head": (Answer(cut=Cut(after_bytes=12, of="head")), 502, "upstream_error"),
    "garbage": (Raw(data="\x16\x03\x01nonsense\r\n\r\n"), 502, "upstream_error"),
    "another protocol": (Raw(data="SSH-2.0-OpenSSH_9.2\r\n"), 502, "upstream_error"),
    "no status": (Raw(data="HTTP/1.1 OK\r\n\r\n"), 502, "upstream_error"),
    "two lengths": (
        Raw(data=OK + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        502,
        "upstream_error",
    ),
    "length that is none": (Raw(data=OK + "Content-Length: -1\r\n\r\n"), 502, "upstream_error"),
    "both framings": (
        Raw(data=OK + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        502,
        "upstream_error",
    ),
    "head without an end": (Raw(data="X: " + "a" * 1000 + "\r\n", repeat=2000), 502,
                            "upstream_error"),
    "huge header": (Answer(headers=(("X-Huge", "a" * 1_000_000),)), 502, "upstream_error"),
    "too many headers": (
        Answer(headers=tuple((f"X-{n}", "a") for n in range(5000))), 502, "upstream_error"
    ),
    "upgrade that nobody asked for": (
        Raw(data="HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        502,
        "upstream_error",
    ),
    "splits the answer": (
        Raw(data=OK + "X-A: b\rX-Evil: 1\r\nContent-Length: 0\r\n\r\n"), 502, "upstream_error"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE_THE_ANSWER)
async def test_upstream_that_gives_no_answer(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant, name: str
) -> None:
    """An error of the contract in time, and the next request is answered."""
    step, status, code = BEFORE_THE_ANSWER[name]
    upstream.play(Script(rules=(Rule(path="/bad", steps=(step,)),)))
    began = trio.current_time()
    # Not idempotent: what is sent twice is not measured here.
    answer = await gateway.ask(tenant, "/bad", method="POST", body=b"hello")
    assert_problem(answer, status, code)
    assert trio.current_time() - began < 3
    assert (await gateway.ask(tenant, "/good")).status == 200


AMID_THE_ANSWER: dict[str, Step] = {
    "counted, closes": Answer(size=100_000, cut=Cut(after_bytes=70_000)),
    "counted, resets": Answer(size=100_000, cut=Cut(after_bytes=70_000, how="reset")),
    "chunked, amid a chunk": Answer(size=100_000, framing="chunked", cut=Cut(after_bytes=70_000)),
    "chunked, before the last": Answer(
        size=100_000, framing="chunked", cut=Cut(after_bytes=100_000)
    ),
    "chunk size that is none": Raw(
        data=OK + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n", then="hang"
    ),
    "chunk longer than it says": Raw(
        data=OK + "Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n", then="hang"
    ),
}
NEVER_DONE: dict[str, Step] = {
    "counted, hangs": Answer(size=100_000, cut=Cut(after_bytes=70_000, how="hang")),
    "chunked, hangs": Answer(
        size=100_000, framing="chunked", cut=Cut(after_bytes=100_000, how="hang")
    ),
    "slow for ever": Answer(body="a" * 100, piece_bytes=1, piece_seconds=0.3),
}


@pytest.mark.parametrize("name", AMID_THE_ANSWER)
async def test_upstream_that_breaks_off(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant, name: str
) -> None:
    """The caller sees a broken answer, in time, or an error; never one that looks whole."""
    upstream.play(Script(rules=(Rule(path="/bad", steps=(AMID_THE_ANSWER[name],)),)))
    began = trio.current_time()
    try:
        answer = await gateway.ask(tenant, "/bad")
    except NoAnswerError:
        pass
    else:
        assert answer.status in (502, 504), str(answer)
        assert_problem(answer)
    assert trio.current_time() - began < 5
    assert (await gateway.ask(tenant, "/good")).status == 200


@pytest.mark.parametrize("name", NEVER_DONE)
async def test_deadline_ends_an_answer_that_does_not(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant, name: str
) -> None:
    """The caller has said how long it waits, for the body too; the upstream is let go."""
    upstream.play(Script(rules=(Rule(path="/bad", steps=(NEVER_DONE[name],)),)))
    began = trio.current_time()
    with pytest.raises(NoAnswerError):
        await gateway.ask(tenant, "/bad", headers={"X-Request-Timeout": "1"})
    assert 0.9 < trio.current_time() - began < 3

    async def is_given_up() -> bool:
        return upstream.seen().requests[0].outcome == "gone"

    await wait_until_answered(is_given_up, "request given up")
    assert (await gateway.ask(tenant, "/good")).status == 200


async def test_bytes_after_an_answer_are_nobodys(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """A second answer that was not asked for must not become the next request's."""
    stolen = OK + "Content-Length: 6\r\n\r\nstolen"
    upstream.play(
        Script(
            rules=(
                Rule(path="/bad", steps=(Raw(data=stolen.replace("stolen", "honest") + stolen,
                                             then="keep"),)),
                Rule(steps=(Answer(body="mine"),)),
            )
        )
    )  # fmt: skip
    for _ in range(3):
        assert (await gateway.ask(tenant, "/bad")).body in (b"honest", b"")
        assert (await gateway.ask(tenant, "/good")).body == b"mine"


async def test_idle_connection_that_was_closed_costs_nothing(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """An upstream may end a kept connection at any moment; an idempotent request goes through."""
    upstream.play(always(Answer(ending="close")))
    assert await gateway.statuses(tenant, "/x", 20) == [200] * 20
    upstream.play(always(Answer(ending="reset")))
    assert await gateway.statuses(tenant, "/x", 20) == [200] * 20


async def test_connections_that_break_at_once(
    gateway: Gateway, upstream: ScriptedUpstreamProcess, tenant: Tenant
) -> None:
    """Accepted and then closed, reset, or silent."""
    for word, status in (("close", 502), ("reset", 502), ("hang", 504)):
        upstream.play(Script(connections=(word,)))
        upstream.drop_connections()
        assert_problem(await gateway.ask(tenant, "/x"), status)


async def test_upstream_that_fails_others_does_not_slow_down(
    gateway: Gateway,
    upstream: ScriptedUpstreamProcess,
    other_upstream: ScriptedUpstreamProcess,
    tenant: Tenant,
) -> None:
    """Fifty requests hang; another tenant's are answered meanwhile."""
    other = await gateway.tenant(tier="pro")
    await gateway.route(other, other_upstream.url)
    upstream.play(always(End(how="hang")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gateway.at_once, tenant, "/x", 50)
        began = trio.current_time()
        assert await gateway.statuses(other, "/x", 20) == [200] * 20
        assert trio.current_time() - began < 2
