"""Bodies where none belong, too large, malformed, slow or cut off; and slow heads."""

from __future__ import annotations

import pytest
import trio

from ._client import Answer, ask, ask_data, open_wire, request_bytes
from ._problems import assert_problem, assert_refused
from ._server import Server, bulkheads, wait_at_rest
from .conftest import StartServer

MAX_BODY = 1000
SLOW_SECONDS = 20.0
"""A request that is still not complete after so long should have been given up."""

GET = b"GET /api/data HTTP/1.1\r\nHost: test\r\nX-Tenant-Tier: free\r\n"
POST = b"POST /admin/nowhere HTTP/1.1\r\nHost: test\r\n"
TENANTS = b"POST /nowhere HTTP/1.1\r\nHost: test\r\n"
"""To a path that is none of ours, and so a tenant's, but without a key."""
HEADS = pytest.mark.parametrize("head", [POST, TENANTS, GET], ids=["nowhere", "tenants", "data"])
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module", params=["engine", "hypercorn"])
def server(start_server: StartServer, request: pytest.FixtureRequest) -> Server:
    return start_server(
        {
            "HTTP": request.param,
            "BULKHEAD_TIERS__FREE__RATE_LIMIT": "",
            "MAX_BODY_BYTES": str(MAX_BODY),
        }
    )


async def exchange(server: Server, raw: bytes) -> Answer:
    """Send these bytes while reading one answer."""
    async with open_wire(server.address) as wire, trio.open_nursery() as nursery:
        nursery.start_soon(wire.send, raw)
        answer = await wire.answer()
        nursery.cancel_scope.cancel()
    return answer


async def test_small_body_on_get_is_ignored(server: Server) -> None:
    """A body that has no meaning here does no harm, and the connection goes on behind it."""
    async with open_wire(server.address) as wire:
        for _ in range(3):
            await wire.send(GET + b"Content-Length: 5\r\n\r\nhello")
            assert (await wire.answer()).status == 200
            await wire.send(GET + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
            assert (await wire.answer()).status == 200


async def test_small_body_where_there_is_no_path_is_not_found(server: Server) -> None:
    """The path decides, and the connection goes on behind the body."""
    async with open_wire(server.address) as wire:
        for _ in range(3):
            await wire.send(POST + b"Content-Length: 5\r\n\r\nhello")
            assert_problem(await wire.answer(), 404, "not_found")
            await wire.send(TENANTS + b"Content-Length: 5\r\n\r\nhello")
            assert_problem(await wire.answer(), 401, "api_key_missing")


@pytest.mark.parametrize("length", [MAX_BODY + 1, 10**9, 10**15])
async def test_body_announced_too_large_is_refused(server: Server, length: int) -> None:
    """413 by its announced length, without waiting for what will never come."""
    raw = GET + b"Content-Length: %d\r\n\r\n" % length
    assert_problem(await exchange(server, raw), 413, "body_too_large")


@pytest.mark.parametrize("length", [10**18, 10**19, 10**30, 10**300])
async def test_body_of_an_absurd_length_is_refused(server: Server, length: int) -> None:
    """Numbers beyond a machine word are refused too."""
    answer = await exchange(server, GET + b"Content-Length: %d\r\n\r\n" % length)
    assert answer.status in {400, 413}, str(answer)
    assert_refused(answer)


async def test_body_sent_too_large_is_refused(server: Server) -> None:
    """The caller who sends megabytes gets to read the refusal, not a broken connection."""
    raw = GET + b"Content-Length: 5000000\r\n\r\n" + b"a" * 5_000_000
    assert_problem(await exchange(server, raw), 413, "body_too_large")


async def test_body_in_chunks_too_large_is_bounded(server: Server) -> None:
    """Without an announced length the limit holds all the same, or the body is not read at all."""
    chunk = b"2000\r\n" + b"a" * 0x2000 + b"\r\n"
    answer = await exchange(server, GET + CHUNKED + chunk * 300 + b"0\r\n\r\n")
    assert answer.status in {200, 413}, str(answer)


async def test_body_at_the_limit_is_accepted(server: Server) -> None:
    """Exactly MAX_BODY_BYTES is not too large."""
    raw = GET + b"Content-Length: %d\r\n\r\n" % MAX_BODY + b"a" * MAX_BODY
    assert (await exchange(server, raw)).status == 200


@HEADS
@pytest.mark.parametrize(
    "chunk",
    [
        b"ZZ\r\n",
        b"-1\r\n",
        b"5\r\nhelloXX",
        b"\r\n",
        b"FFFFFFFFFFFFFFFFFFFFF\r\n",
        b"5;" + b"x" * 30000,
    ],
    ids=["words", "negative", "no_end", "empty", "overflow", "extension"],
)
async def test_chunk_that_is_malformed_is_answered(
    server: Server, head: bytes, chunk: bytes
) -> None:
    """The request was understood, so it gets an answer: its own, or a refusal of the body."""
    answer = await exchange(server, head + CHUNKED + chunk)
    assert answer.status in {200, 400, 401, 404, 413, 431}, str(answer)
    if answer.status >= 400:
        assert_refused(answer)


@HEADS
async def test_malformed_chunks_a_hundred_times_harm_nobody(server: Server, head: bytes) -> None:
    """The server lives, at once and one after the other."""

    async def one() -> None:
        answer = await exchange(server, head + CHUNKED + b"ZZ\r\n" * 3)
        assert answer.status in {200, 400, 401, 404}, str(answer)

    for _ in range(5):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
    assert (await ask(server.address, "/health")).status == 200
    assert (await ask_data(server.address)).status == 200
    await wait_at_rest(server)
    assert "Traceback" not in server.output, server.tail()


async def test_length_and_chunks_together_smuggle_nothing(server: Server) -> None:
    """RFC 9112 6.1: refused, or read by its chunks; the connection ends either way."""
    raw = POST + b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n"
    async with open_wire(server.address) as wire:
        await wire.send(raw + request_bytes("/health"))
        answer = await wire.answer()
        assert answer.status in {400, 404}, str(answer)
        rest = await wire.drain_until_closed(10)
    assert b"healthy" not in rest


async def test_requests_sent_ahead_are_answered_in_order(server: Server) -> None:
    """Pipelining: one answer each, in the order of the requests."""
    targets = ["/health", "/nowhere", "/api/data", "/admin/nowhere", "/health"]
    raw = b"".join(
        request_bytes(target, headers={"X-Tenant-Tier": "free", "X-Request-Id": f"n{number}"})
        for number, target in enumerate(targets)
    )
    async with open_wire(server.address) as wire:
        await wire.send(raw)
        answers = [await wire.answer() for _ in targets]
    assert [answer.status for answer in answers] == [200, 401, 200, 404, 200]
    assert [answer.header("x-request-id") for answer in answers] == ["n0", "n1", "n2", "n3", "n4"]


async def test_request_in_single_bytes_is_understood(server: Server) -> None:
    """How the bytes are cut into packets does not matter."""
    async with open_wire(server.address) as wire:
        for byte in GET + b"\r\n":
            await wire.send(bytes([byte]))
        assert (await wire.answer()).status == 200


@pytest.mark.parametrize("target", ["/health", "/nowhere", "/admin/nowhere", "/api/data"])
async def test_half_closed_caller_is_answered(server: Server, target: str) -> None:
    """Who has finished sending may still be reading."""
    async with open_wire(server.address) as wire:
        await wire.send(request_bytes(target))
        await wire.finish_sending()
        assert (await wire.answer()).status in {200, 400, 401, 404}


@pytest.mark.parametrize(("head", "status"), [(POST, 404), (TENANTS, 401)])
async def test_expect_continue_is_answered(server: Server, head: bytes, status: int) -> None:
    """A client that waits for the go-ahead gets it or a final answer."""
    async with open_wire(server.address) as wire:
        await wire.send(head + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        with trio.move_on_after(1):
            await trio.sleep(0.2)
        await wire.send(b"hello")
        assert (await wire.answer()).status == status


async def given_up_after(server: Server, raw: bytes, drip: bytes) -> float:
    """Send a beginning, then a byte every half second; how long until the server ends it."""
    started = trio.current_time()
    async with open_wire(server.address) as wire, trio.open_nursery() as nursery:

        async def trickle() -> None:
            while drip:
                await trio.sleep(0.5)
                await wire.send(drip)

        await wire.send(raw)
        nursery.start_soon(trickle)
        await wire.drain_until_closed(SLOW_SECONDS)
        nursery.cancel_scope.cancel()
    return trio.current_time() - started


async def test_slow_connections_are_given_up_and_harm_nobody(server: Server) -> None:
    """Cut off in the head or in the body, or dripping: all end, while others are served."""
    beginnings = {
        "head cut off": (b"GET /api/data HTTP/1.1\r\nHost: te", b""),
        "head dripping": (b"GET /api/data HTTP/1.1\r\nHost: test\r\nX-Drip: ", b"a"),
        "body cut off": (GET + b"Content-Length: 900\r\n\r\nabc", b""),
        "chunks cut off": (POST + CHUNKED + b"384\r\nabc", b""),
        "chunks cut off, without a key": (TENANTS + CHUNKED + b"384\r\nabc", b""),
    }
    lasted: dict[str, float] = {}

    async def one(name: str) -> None:
        try:
            lasted[name] = await given_up_after(server, *beginnings[name])
        except trio.TooSlowError:
            lasted[name] = float("inf")

    async def others() -> None:
        while True:
            assert (await ask_data(server.address, timeout=2)).status == 200
            await bulkheads(server)
            await trio.sleep(0.2)

    async with trio.open_nursery() as watching:
        watching.start_soon(others)
        async with trio.open_nursery() as slow:
            for name in beginnings:
                for _ in range(8):
                    slow.start_soon(one, name)
        watching.cancel_scope.cancel()
    assert {name: time for name, time in lasted.items() if time > SLOW_SECONDS} == {}
    await wait_at_rest(server)
