"""The data plane answers as the framework behind it would, only sooner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from bulkhead_trio.api.data_plane import DataPlane
from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.quart_app import create_quart_app
from bulkhead_trio.api.routes import Route
from bulkhead_trio.http.extensions import ACCOUNT, CANCELS, REFUSED
from bulkhead_trio.testing import ASGIClient

from ._world import make_world, running

JSON = {"Content-Type": "application/json"}
USER = {"X-User-Id": "u1"}

REQUESTS: tuple[tuple[str, str, Mapping[str, str], bytes], ...] = (
    ("GET", "/health", {}, b""),
    ("GET", "/ready", {}, b""),
    ("GET", "/api/data", {}, b""),
    ("GET", "/api/data", {"X-Tenant-Tier": "free"}, b""),
    ("GET", "/api/%64ata", {"X-Tenant-Tier": "free"}, b""),
    ("GET", "/api%2fdata", {"X-Tenant-Tier": "free"}, b""),
    ("GET", "/api/data/", {"X-Tenant-Tier": "free"}, b""),
    ("GET", "/api/data?limit=1", {"X-Tenant-Tier": "free"}, b""),
    ("GET", "/api/data?limit=0", {"X-Tenant-Tier": "free"}, b""),
    ("GET", "/api/data?limit=1&limit=2", {"X-Tenant-Tier": "free"}, b""),
    ("GET", "/api/data?force_error=true", {"X-Tenant-Tier": "pro"}, b""),
    ("GET", "/api/data", {"X-Tenant-Tier": "gold"}, b""),
    ("GET", "/api/data", {"X-Tenant-Tier": "free", "X-API-Key": "bh_x"}, b""),
    ("GET", "/api/data", {"X-Tenant-Tier": "free", "X-Request-Timeout": "0"}, b""),
    ("HEAD", "/api/data", {"X-Tenant-Tier": "free"}, b""),
    ("POST", "/api/data", {"X-Tenant-Tier": "free"}, b""),
    ("OPTIONS", "/api/data", {}, b""),
    ("POST", "/api/orders", {**USER, **JSON}, b'{"orderId":"a","amount":1}'),
    ("POST", "/api/orders", {**USER, **JSON}, b'{"orderId":"a","amount":-1}'),
    ("POST", "/api/orders", {**USER, **JSON}, b"{"),
    ("POST", "/api/orders", {**USER, "Content-Type": "text/plain"}, b"{}"),
    ("POST", "/api/orders", JSON, b'{"orderId":"a","amount":1}'),
    ("POST", "/api/orders", {**USER, **JSON}, b"x" * 2000),
    ("GET", "/api/orders", USER, b""),
)

VARYING = {"x-request-id", "x-ratelimit-reset", "date", "content-length"}


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: f"{each[0]} {each[1][:30]}")
async def test_data_plane_answers_as_the_framework_does(
    request_: Any, autojump_clock: trio.testing.MockClock
) -> None:
    """Status, headers and body are the same, whoever answers."""
    method, target, headers, body = request_
    answers = []
    for is_hot in (True, False):
        world = make_world()
        async with running(world):
            app: Any = create_quart_app(world.resources, gate=world.gate, max_body_bytes=1024)
            if not is_hot:
                inner = app.asgi_app
                app.asgi_app = DataPlane(inner._app, (), gate=world.gate, max_body_bytes=1024)
            limits = RequestLimits()
            client = ASGIClient(Edge(app, gate=world.gate, limits=limits, listener="public"))
            answers.append(await client.request(method, target, headers, body))
            assert world.gate.in_flight == 0
    ours, theirs = answers
    assert ours.status == theirs.status
    if "json" in ours.headers.get("content-type", ""):
        assert ours.body == theirs.body
    assert {name: value for name, value in ours.headers.items() if name not in VARYING} == {
        name: value for name, value in theirs.headers.items() if name not in VARYING
    }


class Resources:
    """One hot route that waits, one that reads."""

    name = "waiting"

    def __init__(self) -> None:
        self.began = trio.Event()
        self.cancelled = 0

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/wait", self.wait, is_hot=True),
            Route("POST", "/read", self.read, reads_body=True, is_hot=True),
        )

    async def wait(self, request: Request) -> Response:  # noqa: ARG002
        self.began.set()
        try:
            await trio.sleep(100)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return Response.json({})

    def read(self, request: Request) -> Response:
        return Response.json({"size": len(request.body)})


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("this was to be answered before")


def plane_of(resources: Resources, gate: DrainGate) -> Any:
    return DataPlane(nothing, (resources,), gate=gate, max_body_bytes=10)


def scope_of(method: str, path: str, *, cancels: bool) -> dict[str, Any]:
    extensions: dict[str, Any] = {CANCELS: {}} if cancels else {}
    return {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [], "extensions": extensions,
    }  # fmt: skip


async def ignore(message: Any) -> None:
    pass


@pytest.mark.parametrize("extensions", [None, {}, ...])
@pytest.mark.parametrize(("path", "status"), [("/read", 200), ("//", 404), ("/wait", 200)])
async def test_server_need_not_have_extensions(
    autojump_clock: trio.testing.MockClock, extensions: Any, path: str, status: int
) -> None:
    """ASGI lets a server leave that member out of its scopes, or empty; the answer is the same."""
    edge = Edge(
        plane_of(Resources(), DrainGate()),
        gate=DrainGate(),
        limits=RequestLimits(),
        listener="public",
    )
    scope = scope_of("POST" if path == "/read" else "GET", path, cancels=False)
    del scope["extensions"]
    if extensions is not ...:
        scope["extensions"] = extensions
    received: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if received:
            return received.pop()
        await trio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    await edge(scope, receive, send)
    assert sent[0]["status"] == status
    assert len(sent) == 2


@pytest.mark.parametrize("extensions", [None, ...])
async def test_web_socket_is_refused_without_extensions(extensions: Any) -> None:
    """By closing it, where the server has no way to answer a handshake."""
    edge = Edge(nothing, gate=DrainGate(), limits=RequestLimits(), listener="public")
    scope = {"type": "websocket", "path": "/", "raw_path": b"/", "headers": []}
    if extensions is not ...:
        scope["extensions"] = extensions
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await edge(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_client_that_goes_cancels_its_work_under_any_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A server that only tells of it is listened to while the work is done."""
    resources, gate = Resources(), DrainGate()
    gone = trio.Event()
    edge = Edge(plane_of(resources, gate), gate=gate, limits=RequestLimits(), listener="public")

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(edge, scope_of("GET", "/wait", cancels=False), receive, ignore)
        await resources.began.wait()
        assert gate.in_flight == 1
        gone.set()
    assert resources.cancelled == 1
    assert gate.in_flight == 0
    assert trio.current_time() < 1


async def test_request_that_its_server_cancels_is_counted_all_the_same() -> None:
    """Draining waits for it, though somebody else cuts it off."""
    resources, gate = Resources(), DrainGate()
    plane = plane_of(resources, gate)

    async def never() -> Any:
        raise AssertionError("nobody has to listen")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(plane, scope_of("GET", "/wait", cancels=True), never, ignore)
        await resources.began.wait()
        assert gate.in_flight == 1
        nursery.cancel_scope.cancel()
    assert (resources.cancelled, gate.in_flight) == (1, 0)


async def test_body_in_pieces_is_put_together_and_bounded() -> None:
    """Up to its limit, and not a byte beyond, however it comes."""
    for pieces, status, said in (
        ([b"12345", b"", b"67890"], 200, b'{"size":10}'),
        ([b"12345", b"678901"], 413, b"body_too_large"),
    ):
        messages = [
            {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
            for number, piece in enumerate(pieces)
        ]
        waiting = iter(messages)
        sent: list[Any] = []

        async def receive(waiting: Any = waiting) -> Any:
            return next(waiting)

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        plane = plane_of(Resources(), DrainGate())
        await plane(scope_of("POST", "/read", cancels=True), receive, send)
        assert sent[0]["status"] == status
        assert said in sent[1]["body"]


@pytest.mark.parametrize(
    ("method", "path", "length", "status"),
    [
        ("POST", "/read", 10, 200), ("POST", "/read", 11, 413), ("GET", "/wait", 11, 413),
        ("GET", "/read", 11, 413), ("POST", "/of/a/tenant", 11, 202),
        ("POST", "/of/a/tenant", 10**12, 202),
    ],
)  # fmt: skip
async def test_body_announced_too_large_is_refused_for_our_own_paths(
    method: str, path: str, length: int, status: int
) -> None:
    """Before a byte of it is read, and the connection ends; what is passed on has no such bound."""
    gate = DrainGate()
    plane = DataPlane(nothing, (Resources(),), gate=gate, max_body_bytes=10, gateway=accepting)
    edge = Edge(plane, gate=gate, limits=RequestLimits(), listener="public")
    scope = scope_of(method, path, cancels=True)
    scope["headers"] = [(b"content-length", b"%d" % length)]
    sent: list[Any] = []

    async def receive() -> Any:
        assert status != 413
        return {"type": "http.request", "body": b"x" * 10, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await edge(scope, receive, send)
    assert sent[0]["status"] == status
    if status == 413:
        assert b'"code":"body_too_large"' in sent[1]["body"]
        assert b'"instance":"%s"' % path.encode() in sent[1]["body"]
        assert (b"connection", b"close") in sent[0]["headers"]


async def accepting(scope: Any, receive: Any, send: Any) -> None:
    """A gateway, as far as the data plane knows one."""
    await send({"type": "http.response.start", "status": 202, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def test_refusal_is_answered_in_one_step() -> None:
    """What needs no waiting passes no checkpoint before its answer is sent."""
    world = make_world(rate_limit=1)
    async with running(world):
        tier = world.tiers["free"]
        tier.take_quota()
        scope = scope_of("GET", "/api/data", cancels=True)
        scope["headers"] = [(b"x-tenant-tier", b"free")]
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        app: Any = create_quart_app(world.resources, gate=world.gate, max_body_bytes=1024)
        edge = Edge(app, gate=world.gate, limits=RequestLimits(), listener="public")
        with trio.testing.assert_no_checkpoints():
            await edge(scope, None, send)  # type: ignore[arg-type]
        assert sent[0]["status"] == 429
        assert scope[ACCOUNT] == "free"
        assert scope[REFUSED] is True
