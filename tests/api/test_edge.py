"""What holds for every request: its id, the limits on what it may be, the net under mistakes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.edge import Edge, RequestLimits
from bulkhead_trio.policies.context import current_request
from bulkhead_trio.testing import ASGIClient

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def client_of(app: Any, **limits: int) -> ASGIClient:
    return ASGIClient(
        Edge(app, gate=DrainGate(), limits=RequestLimits(**limits), listener="public")
    )


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the path that it was given, and what is bound to the log."""
    bound = current_request()
    text = f"{scope['path']} {bound and bound.request_id} {bound and bound.trace_id}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


async def broken(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("a secret that must not get out")


@pytest.mark.parametrize("given", ["a", "Request-1/2:3", "~" * 128])
async def test_request_id_of_the_caller_is_kept(given: str) -> None:
    """A visible ASCII id of up to 128 characters comes back, and is in the log lines."""
    answer = await client_of(echo).get("/", {"X-Request-Id": given})
    assert answer.headers["x-request-id"] == given
    assert answer.body.decode().split()[1] == given


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 129, "\xe9", "a\tb"])
async def test_request_id_that_cannot_be_kept_is_replaced(given: str) -> None:
    """Anything else is replaced by a fresh one, the same in the answer and in the log."""
    answer = await client_of(echo).get("/", {"X-Request-Id": given})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.body.decode().split()[1] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("given", "trace_id"),
    [
        (f"00-{TRACE_ID}-00f067aa0ba902b7-01", TRACE_ID),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", "None"),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "None"),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "None"),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "None"),
        ("nonsense", "None"),
    ],
)  # fmt: skip
async def test_traceparent_is_carried_when_valid(given: str, trace_id: str) -> None:
    """A valid W3C trace id is bound to the request's log lines; anything else is ignored."""
    answer = await client_of(echo).get("/", {"traceparent": given})
    assert answer.body.decode().split()[2] == trace_id


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a%20b", "/a b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%2fb", "/a%2fb"),
        ("/a%5cb", "/a%5cb"),
        ("/a%00b", "/a%00b"),
        ("/%61", "/a"),
        ("/a/../b", "/a/../b"),
    ],
)
async def test_path_never_means_something_else_than_it_looks_like(target: str, path: str) -> None:
    """Escapes are decoded, but not those that would make another path of it."""
    answer = await client_of(echo).get(target)
    assert answer.body.decode().rsplit(" ", 2)[0] == path


@pytest.mark.parametrize(
    ("target", "headers", "status", "code"),
    [
        ("/" + "a" * 64, {}, 414, "uri_too_long"),
        ("/?" + "a" * 64, {}, 414, "uri_too_long"),
        ("/", {"X-Long": "a" * 512}, 431, "headers_too_large"),
        ("/", {f"X-{number}": "" for number in range(20)}, 431, "headers_too_large"),
        ("http://test/", {}, 400, "bad_request"),
        ("*", {}, 400, "bad_request"),
        ("//", {}, 404, "not_found"),
        ("//test/", {}, 404, "not_found"),
    ],
)
async def test_request_beyond_the_limits_is_refused(
    target: str, headers: dict[str, str], status: int, code: str
) -> None:
    """Each limit has its own answer, and the connection is not used again."""
    client = client_of(echo, max_target_bytes=64, max_header_bytes=512, max_header_count=20)
    answer = await client.get(target, headers)
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert answer.json()["instance"]
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"]


async def test_mistake_of_ours_is_answered_without_a_word_of_it() -> None:
    """An exception that nobody expected is a 500 that tells nothing of the inside."""
    answer = await client_of(broken).get("/api/x", {"X-Request-Id": "r"})
    assert (answer.status, answer.json()["code"]) == (500, "internal")
    assert b"secret" not in answer.body
    assert answer.headers["x-request-id"] == "r"


@pytest.mark.parametrize("can_answer", [True, False])
async def test_web_socket_is_refused_as_a_path_that_is_not_there(can_answer: bool) -> None:
    """With a 404 of the contract where the server can send one, otherwise by closing."""
    extensions: dict[str, Any] = {"websocket.http.response": {}} if can_answer else {}
    scope = {
        "type": "websocket", "raw_path": b"/chat", "path": "/chat", "query_string": b"",
        "headers": [(b"x-request-id", b"r-1")], "extensions": extensions,
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    edge = Edge(broken, gate=DrainGate(), limits=RequestLimits(), listener="public")
    await edge(scope, receive, send)
    if not can_answer:
        assert sent == [{"type": "websocket.close", "code": 1008}]
        return
    head, body = sent
    assert (head["type"], head["status"]) == ("websocket.http.response.start", 404)
    assert (b"x-request-id", b"r-1") in head["headers"]
    assert b'"code":"not_found"' in body["body"]
