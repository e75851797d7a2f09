"""Header values and query strings that nobody would think of, against the running server."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ._client import ask, open_wire
from ._problems import assert_decent, assert_refused
from ._server import Server, wait_at_rest
from .conftest import StartServer

BOUNDED = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

HEADERS = (
    b"X-Tenant-Tier", b"X-Request-Timeout", b"X-Request-Id", b"traceparent", b"X-API-Key",
    b"X-Admin-Key", b"Accept", b"Cookie", b"Content-Type", b"Range", b"If-None-Match", b"Forwarded",
    b"X-Forwarded-For", b"Authorization", b"Accept-Encoding", b"Connection", b"Host",
)  # fmt: skip
NUMBERS = ("0", "-0", "1", "1e309", "1e-400", "NaN", "+1", " 1 ", "1_0", "0b1", "٣", "1.", ".5")

# What a header value may hold: everything but line ends and NUL, which the parser refuses anyway.
values = st.one_of(
    st.binary(max_size=60).map(
        lambda raw: bytes(b for b in raw if b not in b"\r\n\x00\x0b\x0c").strip()
    ),
    st.sampled_from([number.encode() for number in NUMBERS]),
    st.floats().map(lambda number: repr(number).encode()),
    st.text(max_size=20)
    .map(lambda text: text.encode("utf-8", "surrogatepass"))
    .map(lambda raw: raw.translate(None, b"\r\n\x00\x0b\x0c").strip()),
)
queries = st.one_of(
    st.binary(max_size=60).map(
        lambda raw: b"".join(b"%%%02x" % b if b < 0x21 or b > 0x7E else bytes([b]) for b in raw)
    ),
    st.tuples(
        st.sampled_from(["limit", "force_error", "Limit", "limit[]"]), st.text(max_size=8)
    ).map(
        lambda pair: (
            pair[0].encode()
            + b"="
            + b"".join(b"%%%02X" % b for b in pair[1].encode("utf-8", "surrogatepass"))
        )
    ),
    st.integers().map(lambda number: b"limit=%d" % number),
)


@pytest.fixture(scope="module", params=["engine", "hypercorn"])
def server(start_server: StartServer, request: pytest.FixtureRequest) -> Server:
    return start_server(
        {
            "HTTP": request.param,
            "BULKHEAD_TIERS__FREE__RATE_LIMIT": "",
            "BULKHEAD_TIERS__FREE__FAILURE_THRESHOLD": "100000",
        }
    )


async def check(server: Server, raw: bytes) -> None:
    """The answer to a request whose every byte is legal is one of the contract's."""
    async with open_wire(server.address) as wire:
        await wire.send(raw)
        answer = await wire.answer(timeout=5)
    if answer.status == 400 and not answer.body:
        assert_refused(answer)
    else:
        assert_decent(answer)


@BOUNDED
@given(headers=st.lists(st.tuples(st.sampled_from(HEADERS), values), max_size=4))
async def test_any_header_values_get_an_answer_of_the_contract(
    server: Server, headers: list[tuple[bytes, bytes]]
) -> None:
    """Never a 500, whatever the headers hold."""
    lines = [name + b": " + value for name, value in headers]
    if not any(name == b"Host" for name, _ in headers):
        lines.append(b"Host: test")
    if not any(name == b"X-Tenant-Tier" for name, _ in headers):
        lines.append(b"X-Tenant-Tier: free")
    await check(server, b"\r\n".join([b"GET /api/data HTTP/1.1", *lines, b"", b""]))


@BOUNDED
@given(query=queries)
async def test_any_query_gets_an_answer_of_the_contract(server: Server, query: bytes) -> None:
    """Never a 500, whatever the query holds."""
    head = b"GET /api/data?" + query + b" HTTP/1.1\r\nHost: test\r\nX-Tenant-Tier: free\r\n\r\n"
    await check(server, head)


@BOUNDED
@given(path=st.binary(max_size=40))
async def test_any_path_gets_an_answer_of_the_contract(server: Server, path: bytes) -> None:
    """Never a 500, whatever the path holds, percent-encoded or plain."""
    plain = b"".join(b"%%%02x" % b if b < 0x21 or b > 0x7E else bytes([b]) for b in path)
    await check(server, b"GET /" + plain + b" HTTP/1.1\r\nHost: test\r\n\r\n")


async def test_nothing_is_left_of_all_that(server: Server) -> None:
    """After thousands of odd bytes every permit is back and the log tells of no accident."""
    await wait_at_rest(server)
    assert (await ask(server.address, "/health")).status == 200
    assert "Traceback" not in server.output, server.tail()
