"""A request for a WebSocket reaches the application as any other, and may become a tunnel there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.api._asgi import EXCHANGE
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits
from bulkhead_trio.http.engine.errors import LocalProtocolError
from bulkhead_trio.http.engine.server import HTTPServer
from bulkhead_trio.http.tunnel import TUNNEL
from bulkhead_trio.policies.context import RequestContext

from ..http.tunnel._ends import FRONTS, UPGRADE, echo, read_all, read_until, serving, upgraded


class Log:
    """An access log that is kept."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int | None, dict[str, str]]] = []

    def is_wanted(self, *, is_quiet: bool) -> bool:
        return not is_quiet

    def request(
        self,
        context: RequestContext,  # noqa: ARG002
        method: str,  # noqa: ARG002
        path: str,
        status: int | None,
        seconds: float,  # noqa: ARG002
        notes: Mapping[str, str],
    ) -> None:
        self.lines.append((path, status, dict(notes)))


def edge_of(app: Any, log: Log) -> Edge:
    return Edge(app, gate=DrainGate(), limits=RequestLimits(), listener="public", access_log=log)


@pytest.mark.parametrize("kind", FRONTS)
async def test_tunnel_is_an_answer_with_an_id_and_a_line(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The id is on the 101, and the log says so when it is over."""
    log = Log()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["bulkhead_trio.notes"]["tier"] = "pro"
        await echo(await scope[EXCHANGE].open_tunnel([(b"upgrade", b"websocket")]))

    async with serving(kind, edge_of(app, log), tmp_path) as front, front.connect() as stream:
        asked = UPGRADE.replace(b"Host:", b"X-Request-Id: my-id\r\nHost:")
        await stream.send_all(asked)
        head = await read_until(stream, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert head.count(b"x-request-id: my-id\r\n") == 1
        await stream.send_all(b"hello")
        await read_until(stream, b"hello")
        if isinstance(front.front, HTTPServer):
            assert front.front.readiness.turns.spent()["pro"] >= 0
        await trio.sleep(1)
        assert log.lines == []
        await stream.aclose()
        await front.wait_at_rest()
    assert log.lines == [("/chat", 101, {"tier": "pro"})]


@pytest.mark.parametrize("kind", FRONTS)
async def test_refusals_are_those_of_any_request(
    kind: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What the edge refuses, and what the application does, comes as a problem."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert TUNNEL in scope["extensions"]
        with pytest.raises(LocalProtocolError):
            await scope[EXCHANGE].open_tunnel([(b"a", b"\r\n")])
        raise RuntimeError("a secret")

    log = Log()
    asked = (UPGRADE, UPGRADE.replace(b"/chat", b"//chat"), UPGRADE.replace(b"/chat", b"/" * 9000))
    statuses = (500, 404, 414)
    for request, status in zip(asked, statuses, strict=True):
        # The edge answers, and logs, what an application raises; the front never hears of it.
        async with (
            serving(kind, edge_of(app, log), tmp_path, logs_mistakes=True) as front,
            front.connect() as stream,
        ):
            await stream.send_all(request)
            said = await read_all(stream)
            assert said.startswith(b"HTTP/1.1 %d " % status), said
            assert b"application/problem+json" in said or status == 414
            assert b"a secret" not in said


async def test_draining_cuts_a_tunnel_off_when_the_grace_is_over(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It counts as a request under way until then, and nothing is said into it."""
    gate = DrainGate()
    log = Log()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with gate.passage():
            await echo(await scope[EXCHANGE].open_tunnel([(b"upgrade", b"websocket")]))

    edge = Edge(app, gate=gate, limits=RequestLimits(), listener="public", access_log=log)
    async with serving("engine", edge, tmp_path) as front, front.connect() as stream:
        await upgraded(stream)
        await trio.sleep(1)
        gate.close()
        assert gate.in_flight == 1
        with trio.move_on_after(5):
            await gate.wait_idle()
        await stream.send_all(b"hello")
        await read_until(stream, b"hello")
        gate.cut_off()
        assert await read_all(stream) == b""
        with trio.fail_after(1):
            await gate.wait_idle()
    assert log.lines == [("/chat", 101, {})]
