"""The corpus of requests against the fronts as processes: status, meaning, and who closes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import trio

from tests.http.engine._corpus import CASES, Case
from tests.http.engine._reading import read

from ._client import Wire, open_wire
from ._fronts import FRONTS, FrontProcess, running_front
from ._problems import assert_problem, assert_refused
from ._server import Server
from .conftest import StartServer

SILENCE_SECONDS = 0.1
CLOSE_SECONDS = 3.0
FOLLOWING = b"GET /following HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

CLOSED_BY_H11 = {"HTTP/1.0 that stays"}
"""h11 closes every connection of HTTP/1.0, whatever the client asks for."""


@pytest.fixture(scope="module", params=FRONTS)
def front(request: pytest.FixtureRequest) -> Iterator[FrontProcess]:
    with running_front(request.param) as process:
        yield process


@pytest.fixture(scope="module", params=FRONTS)
def server(start_server: StartServer, request: pytest.FixtureRequest) -> Server:
    return start_server({"HTTP": request.param, "BULKHEAD_TIERS__FREE__RATE_LIMIT": ""})


async def send(wire: Wire, case: Case) -> None:
    await wire.send(case.data)
    if case.ends:
        await wire.finish_sending()


def as_fields(pairs: Iterable[list[str]]) -> list[tuple[str, str]]:
    """As h11 has them too, which writes the one transfer coding that there is in lower case."""
    return [
        (name, value.lower() if name == "transfer-encoding" else value) for name, value in pairs
    ]


async def assert_silent(wire: Wire, case: Case) -> None:
    """Nothing is said; whether the connection closes, the case says."""
    try:
        assert await wire.drain_until_closed(SILENCE_SECONDS) == b""
    except trio.TooSlowError:
        assert not case.closes
    else:
        assert case.closes


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_case_is_answered_as_the_corpus_says(front: FrontProcess, case: Case) -> None:
    """Every answer's status, what the application saw, and whether the connection stays."""
    is_cut_short = front.name == "hypercorn" and case.name in CLOSED_BY_H11
    count = 1 if is_cut_short else case.answers
    requests = read(case.data).requests
    methods = [request.method for request in requests] + ["GET"] * count
    async with open_wire(front.address) as wire:
        await send(wire, case)
        for number in range(count):
            answer = await wire.answer(method=methods[number], timeout=5)
            expected = case.last if number == count - 1 and count > 1 else case.first
            assert answer.status in expected, f"{number}: {answer}"
            if answer.status != 200:
                assert_refused(answer)
            elif methods[number] != "HEAD":
                asked, request = answer.json(), requests[number]
                assert asked["method"] == request.method
                assert asked["target"].encode("latin-1") == request.target
                assert asked["body"].encode("latin-1") == request.body
                assert as_fields(asked["headers"]) == as_fields(
                    [name.decode("latin-1"), value.decode("latin-1")]
                    for name, value in request.headers
                )
        if not count:
            await assert_silent(wire, case)
        elif case.closes or case.ends or is_cut_short:
            assert await wire.drain_until_closed(CLOSE_SECONDS) == b""
        else:
            await wire.send(FOLLOWING)
            assert (await wire.answer(timeout=5)).json()["target"] == "/following"
            assert await wire.drain_until_closed(CLOSE_SECONDS) == b""
    front.assert_well()


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.is_refused], ids=lambda case: case.name
)
async def test_case_that_is_refused_is_refused_by_the_service(server: Server, case: Case) -> None:
    """The real command: the refusal is a problem of the contract, and the connection closes."""
    head, _, body = case.data.partition(b"\r\n\r\n")
    # Where only the body is at fault, what is known from the head may be said first.
    is_head_good = bool(body) and read(head + b"\r\n\r\n").status == 200
    async with open_wire(server.address) as wire:
        await send(wire, case)
        answer = await wire.answer(timeout=5)
        # Its path is a tenant's, and there is no key.
        assert answer.status in case.first or (is_head_good and answer.status == 401), str(answer)
        assert answer.body, "a refusal says why"
        assert_refused(answer)
        assert answer.header("connection") == "close"
        assert await wire.drain_until_closed(CLOSE_SECONDS) == b""
    assert "Traceback" not in server.output, server.tail()


PATHS = [
    "/api%2fdata", "/api%2Fdata", "/api%5cdata", "/api/data%00", "/api/data%00.html", "/%00",
    "/api/../api/data", "/api/./data", "/api/%2e%2e/api/data", "/api/%2e/data", "/x/../api/data",
    "/api//data", "/api/data/", "/api/data;x", "/api\\data", "/%2fapi/data", "//api/data",
    "/api/data%", "/api/data%zz", "/api/%c0%afdata", "/API/data", "/api/data%20",
    "/api/data%3flimit=1", "/.%2e/api/data", "/api/data%0d%0a", "/api%252fdata",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_path_means_nothing_else_than_it_looks_like(server: Server, path: str) -> None:
    """What is not written as a path of ours is none, whatever it would be after decoding.

    So it is some tenant's, and there is no key; of two slashes at its beginning it is nobody's.
    """
    async with open_wire(server.address) as wire:
        answer = await wire.ask(path, headers={"X-Tenant-Tier": "free"})
    if path.startswith("//"):
        assert_problem(answer, 404, "not_found")
    else:
        assert_problem(answer, 401, "api_key_missing")
