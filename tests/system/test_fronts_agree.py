"""Generated requests to both fronts: the same answers, the same meaning, the same end."""

from __future__ import annotations

import json
from collections.abc import Iterator

import attrs
import h11
import pytest
import trio
from hypothesis import HealthCheck, given, settings

from tests.http.engine._grammar import streams
from tests.http.engine._reading import Seen, read

from ._client import Address, open_wire
from ._fronts import FRONTS, FrontProcess, running_front

BOUNDED = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
END_SECONDS = 3.0


@attrs.frozen
class Said:
    """One answer: its status, and what the application had been asked."""

    status: int
    method: str = ""
    target: str = ""
    body: str = ""


@pytest.fixture(scope="module")
def fronts() -> Iterator[list[FrontProcess]]:
    with running_front("engine") as engine, running_front("hypercorn") as hypercorn:
        yield [engine, hypercorn]


async def conversation(address: Address, data: bytes, methods: list[str]) -> list[Said]:
    """What is said to ``data`` from its first byte until the connection ends."""
    async with open_wire(address) as wire:
        await wire.send(data)
        await wire.finish_sending()
        said = await wire.drain_until_closed(END_SECONDS)
    answers: list[Said] = []
    for method in [*methods, "GET"]:
        if not said:
            break
        answer, said = first_answer(said, method)
        answers.append(answer)
    assert not said, f"more than was asked for: {said[:200]!r}"
    return answers


def first_answer(said: bytes, method: str) -> tuple[Said, bytes]:
    """The first answer in ``said``, as h11 reads it, and what is behind it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="HEAD" if method == "HEAD" else "GET", target="/",
                            headers=[("Host", "x")]))  # fmt: skip
    client.send(h11.EndOfMessage())
    client.receive_data(said)
    status, body = 0, b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            assert isinstance(event, h11.InformationalResponse), f"{event}: {said[:200]!r}"
    rest = client.trailing_data[0]
    if status != 200 or method == "HEAD":
        return Said(status), rest
    asked = json.loads(body)
    return Said(status, asked["method"], asked["target"], asked["body"]), rest


def as_asgi(target: bytes) -> str:
    """ASGI does not tell an empty query from none."""
    path, _, query = target.decode("latin-1").partition("?")
    return f"{path}?{query}" if query else path


def expected(seen: Seen) -> list[Said]:
    """What the core alone makes of it; what is not complete when the client ends is refused."""
    said = [
        Said(200)
        if request.method == "HEAD"
        else Said(200, request.method, as_asgi(request.target), request.body.decode("latin-1"))
        for request in seen.requests
    ]
    if seen.is_refused:
        said.append(Said(seen.status))
    elif seen.is_half_way:
        said.append(Said(400))
    return said


@BOUNDED
@given(data=streams(share=25))
async def test_generated_requests_mean_the_same_to_both_fronts(
    fronts: list[FrontProcess], data: bytes
) -> None:
    """Each front says what the core says of them, and then closes."""
    seen = read(data)
    methods = [request.method for request in seen.requests]
    whole = expected(seen)
    said: dict[str, list[Said]] = {}

    async def ask(front: FrontProcess) -> None:
        said[front.name] = await conversation(front.address, data, methods)

    async with trio.open_nursery() as nursery:
        for front in fronts:
            nursery.start_soon(ask, front)
    assert said["engine"] == whole
    # h11 keeps no connection of HTTP/1.0, so that what comes behind its answer is not seen.
    count = len(said["hypercorn"]) if b"HTTP/1.0\r\n" in data else len(whole)
    assert said["hypercorn"] == whole[:count]


def test_fronts_are_well_after_all_that(fronts: list[FrontProcess]) -> None:
    """Both run on, and neither has logged an accident."""
    assert [front.name for front in fronts] == list(FRONTS)
    for front in fronts:
        front.assert_well()
