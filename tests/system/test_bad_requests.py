"""Requests that are wrong, as bytes: each gets an answer, none gets a 500, and the server lives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from ._client import Answer, ask, open_wire, request_bytes
from ._problems import assert_decent, assert_problem, assert_refused
from ._server import Server, wait_at_rest
from .conftest import StartServer

MAX_BODY = 1000
HOST = b"Host: test\r\n"
FREE = b"X-Tenant-Tier: free\r\n"


@pytest.fixture(scope="module", params=["engine", "hypercorn"])
def server(start_server: StartServer, request: pytest.FixtureRequest) -> Server:
    return start_server(
        {
            "HTTP": request.param,
            "BULKHEAD_TIERS__FREE__RATE_LIMIT": "",
            "MAX_BODY_BYTES": str(MAX_BODY),
        }
    )


@pytest.fixture(autouse=True)
def alive_afterwards(server: Server) -> Iterator[None]:
    """Whatever a test sent, the process is the same one and has logged no accident."""
    before = server.output.count("Traceback")
    yield
    assert server.process.poll() is None, server.tail()
    assert server.output.count("Traceback") == before, server.tail()


async def exchange(server: Server, raw: bytes, *, method: str = "GET") -> Answer:
    """Send these bytes, read one answer, and see that the server still serves."""
    async with open_wire(server.address) as wire, trio.open_nursery() as nursery:
        # Sent beside reading: a server may well answer before it has read everything.
        nursery.start_soon(wire.send, raw)
        answer = await wire.answer(method=method)
        nursery.cancel_scope.cancel()
    assert (await ask(server.address, "/health", timeout=5)).status == 200
    return answer


UNPARSABLE = {
    "tls_hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
    "garbage": b"GARBAGE\r\n\r\n",
    "binary": bytes(range(128, 256)) + b"\r\n\r\n",
    "no_version": b"GET /health\r\n\r\n",
    "version_malformed": b"GET /health HTTP/x\r\n" + HOST + b"\r\n",
    "not_http": b"GET /health FTP/1.1\r\n" + HOST + b"\r\n",
    "space_in_target": b"GET /he alth HTTP/1.1\r\n" + HOST + b"\r\n",
    "leading_space": b" GET /health HTTP/1.1\r\n" + HOST + b"\r\n",
    "empty_method": b" /health HTTP/1.1\r\n" + HOST + b"\r\n",
    "method_with_brackets": b"G(E)T /health HTTP/1.1\r\n" + HOST + b"\r\n",
    "nul_in_target": b"GET /he\x00alth HTTP/1.1\r\n" + HOST + b"\r\n",
    "non_ascii_target": "GET /hé HTTP/1.1\r\n".encode() + HOST + b"\r\n",
    "missing_host": b"GET /health HTTP/1.1\r\n\r\n",
    "two_hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "header_without_colon": b"GET /health HTTP/1.1\r\n" + HOST + b"No colon here\r\n\r\n",
    "header_without_name": b"GET /health HTTP/1.1\r\n" + HOST + b": value\r\n\r\n",
    "space_before_colon": b"GET /health HTTP/1.1\r\n" + HOST + b"X-Tenant-Tier : free\r\n\r\n",
    "nul_in_header_value": b"GET /health HTTP/1.1\r\n" + HOST + b"X-A: a\x00b\r\n\r\n",
    "nul_in_header_name": b"GET /health HTTP/1.1\r\n" + HOST + b"X\x00A: b\r\n\r\n",
    "bare_cr_in_value": b"GET /health HTTP/1.1\r\n" + HOST + b"X-A: a\rb\r\n\r\n",
    "length_of_words": b"POST /health HTTP/1.1\r\n" + HOST + b"Content-Length: ten\r\n\r\n",
    "length_negative": b"POST /health HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    "length_signed": b"POST /health HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nabcde",
    "length_hexadecimal": b"POST /health HTTP/1.1\r\n" + HOST + b"Content-Length: 0x5\r\n\r\nabcde",
    "lengths_differ": b"POST /health HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "lengths_in_one": b"POST /health HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 6\r\n\r\nabcdef",
    "coding_unknown": b"POST /health HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "coding_not_last": b"POST /health HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "coding_obscured": b"POST /health HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", UNPARSABLE)
async def test_bytes_that_are_no_request_are_refused(server: Server, name: str) -> None:
    """What cannot be parsed is answered with a refusal, never with silence."""
    assert_refused(await exchange(server, UNPARSABLE[name]))


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"a" * 100_000 + b"\r\n",
        b"".join(b"X-Many-%d: value\r\n" % number for number in range(10_000)),
        b"X" * 100_000 + b": value\r\n",
        b"Cookie: " + b"c=1; " * 20_000 + b"\r\n",
    ],
    ids=["value", "count", "name", "cookie"],
)
@pytest.mark.parametrize("path", [b"/health", b"/api/data", b"/nowhere"])
async def test_headers_of_a_hundred_kilobytes_are_too_large(
    server: Server, head: bytes, path: bytes
) -> None:
    """431 by name, so that the caller knows what to shorten."""
    raw = b"GET " + path + b" HTTP/1.1\r\n" + HOST + FREE + head + b"\r\n"
    assert_problem(await exchange(server, raw), 431, "headers_too_large")


@pytest.mark.parametrize("size", [20_000, 200_000])
@pytest.mark.parametrize("path", [b"/api/data?q=", b"/nowhere/"])
async def test_target_of_twenty_kilobytes_is_too_long(
    server: Server, path: bytes, size: int
) -> None:
    """414 by name."""
    raw = b"GET " + path + b"a" * size + b" HTTP/1.1\r\n" + HOST + FREE + b"\r\n"
    assert_problem(await exchange(server, raw), 414, "uri_too_long")


async def test_two_hundred_headers_are_no_accident(server: Server) -> None:
    """Many small headers are served, or refused by name."""
    head = b"".join(b"X-Many-%d: value\r\n" % number for number in range(200))
    answer = await exchange(server, b"GET /api/data HTTP/1.1\r\n" + HOST + FREE + head + b"\r\n")
    assert_decent(answer)
    assert answer.status in {200, 431}


PATHS = {
    "slash_encoded": "/api%2fdata",
    "nul_encoded": "/api/data%00",
    "newline_encoded": "/api/data%0d%0aX-Evil:%201",
    "dot_segments": "/api/../api/data",
    "dot_segments_encoded": "/api/%2e%2e/api/data",
    "above_the_root": "/../../../../etc/passwd",
    "above_the_root_encoded": "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "double_slash": "//api//data",
    "other_host": "//example.com/api/data",
    "other_host_backslash": "/\\example.com",
    "trailing_slash": "/api/data/",
    "utf8_invalid": "/api/%ff%fe",
    "utf8_overlong": "/api/%c0%afdata",
    "utf8_surrogate": "/%ed%a0%80",
    "utf8_valid": "/%C3%A9%F0%9F%98%80",
    "percent_cut": "/api/data%",
    "percent_cut_short": "/api/data%4",
    "percent_of_words": "/api/data%zz",
    "semicolon": "/api/data;jsessionid=1",
    "question_marks": "/api/data???",
    "fragment": "/api/data#part",
    "brackets": "/[::1]/{x}",
    "quotes": "/\"'<script>",
    "plus": "/api+data",
    "upper_case": "/API/DATA",
}


@pytest.mark.parametrize("name", PATHS)
async def test_path_written_oddly_is_one_of_the_contracts_answers(
    server: Server, name: str
) -> None:
    """Found, not found, some tenant's or refused; never another host, no header of the caller's."""
    target = PATHS[name]
    answer = await exchange(server, request_bytes(target, headers={"X-Tenant-Tier": "free"}))
    assert answer.header("x-evil") is None
    location = answer.header("location")
    if location is not None:
        assert answer.status in {301, 307, 308}
        assert not location.startswith(("//", "/\\", "http://example", "https://")), location
        return
    assert_decent(answer)
    assert answer.status in {200, 400, 401, 404}, str(answer)


TARGETS = {
    "absolute_form": (b"GET http://test/health HTTP/1.1\r\n" + HOST, {200, 400, 404}),
    "absolute_form_elsewhere": (
        b"GET http://example.com/health HTTP/1.1\r\n" + HOST,
        {200, 400, 404, 421},
    ),
    "absolute_form_https": (b"GET https://test:443/health HTTP/1.1\r\n" + HOST, {200, 400, 404}),
    "no_slash": (b"GET health HTTP/1.1\r\n" + HOST, {200, 400, 404}),
    "connect": (b"CONNECT example.com:443 HTTP/1.1\r\n" + HOST, {400, 404, 405, 501}),
    "connect_path": (b"CONNECT /health HTTP/1.1\r\n" + HOST, {400, 404, 405, 501}),
    "options_star": (b"OPTIONS * HTTP/1.1\r\n" + HOST, {200, 204, 400, 404, 405}),
    "get_star": (b"GET * HTTP/1.1\r\n" + HOST, {400, 404}),
    "empty_query": (b"GET ? HTTP/1.1\r\n" + HOST, {400, 404}),
    "http_1_0": (b"GET /health HTTP/1.0\r\n", {200}),
    "http_1_0_kept": (b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n", {200}),
    "http_1_0_error": (b"GET /admin/nowhere HTTP/1.0\r\n", {404}),
    "http_1_0_without_a_key": (b"GET /nowhere HTTP/1.0\r\n", {401}),
    "version_of_the_future": (b"GET /health HTTP/9.9\r\n" + HOST, {200, 400, 505}),
    "lower_case_method": (b"get /health HTTP/1.1\r\n" + HOST, {200, 400, 405, 501}),
    "empty_line_first": (b"\r\nGET /health HTTP/1.1\r\n" + HOST, {200, 400}),
    "empty_host": (b"GET /health HTTP/1.1\r\nHost:\r\n", {200, 400}),
    "odd_host": (b"GET /health HTTP/1.1\r\nHost: \"'<>@[::\r\n", {200, 400}),
    "host_with_port_of_words": (b"GET /nowhere HTTP/1.1\r\nHost: a:b:c\r\n", {400, 401}),
    "folded_header": (b"GET /health HTTP/1.1\r\n" + HOST + b"X-A: a\r\n b\r\n", {200, 400}),
    "non_ascii_header": (b"GET /health HTTP/1.1\r\n" + HOST + b"X-A: \xff\xfe\x80\r\n", {200, 400}),
    "expect_unknown": (b"GET /health HTTP/1.1\r\n" + HOST + b"Expect: a-pony\r\n", {200, 400, 417}),
    "upgrade_unknown": (
        b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: a-pony\r\n",
        {200},
    ),
    "upgrade_websocket": (
        b"GET /health HTTP/1.1\r\n"
        + HOST
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        {200, 400, 403, 404, 426},
    ),
    "upgrade_websocket_elsewhere": (
        b"GET /nowhere HTTP/1.1\r\n"
        + HOST
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        {401},
    ),
    "upgrade_websocket_wrong": (
        b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        {200, 400, 403, 404, 426},
    ),
    "upgrade_websocket_odd": (
        b"GET /health HTTP/1.1\r\n"
        + HOST
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 99\r\n"
        + b"Sec-WebSocket-Key: \xff\r\n",
        {200, 400, 403, 404, 426},
    ),
}


@pytest.mark.parametrize("name", TARGETS)
async def test_request_of_an_unusual_form_is_answered(server: Server, name: str) -> None:
    """Rare but legal forms, and forms for others than us."""
    head, statuses = TARGETS[name]
    method = "CONNECT" if head.startswith(b"CONNECT") else "GET"
    answer = await exchange(server, head + b"\r\n", method=method)
    assert answer.status in statuses, str(answer)
    if answer.status >= 400:
        assert_refused(answer)


async def test_http2_preface_is_no_accident(server: Server) -> None:
    """HTTP/2 without asking is spoken, refused or closed; the process is not disturbed."""
    async with open_wire(server.address) as wire:
        await wire.send(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        )
        await trio.sleep(0.2)
    assert (await ask(server.address, "/health")).status == 200


@pytest.mark.parametrize("settings", [b"AAMAAABkAARAAAAAAAIAAAAA", b"", b"!!!", b"\xff"])
async def test_upgrade_to_http2_is_no_accident(server: Server, settings: bytes) -> None:
    """`Upgrade: h2c` with any settings leaves the process undisturbed."""
    async with open_wire(server.address) as wire:
        await wire.send(
            b"GET /api/data HTTP/1.1\r\n"
            + HOST
            + FREE
            + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "
            + settings
            + b"\r\n\r\n"
        )
        await trio.sleep(0.2)
    assert (await ask(server.address, "/health")).status == 200
    await wait_at_rest(server)
