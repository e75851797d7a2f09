"""What endpoints answer, and what a receiver remembers of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec
import pytest
import trio
import trio.testing

from bulkhead_trio.testing.receiver import (
    Answers,
    Behaviour,
    EndpointSeen,
    InTurn,
    Receiver,
    Resets,
    busy,
    dead,
    flapping,
    gone,
    ok,
    redirecting,
    slow,
)
from bulkhead_trio.testing.receiver.commands import Behave, Command, Look, Show, Sum, Trust
from bulkhead_trio.testing.receiver.running import obey

from ._client import exchange, post, request_bytes


def is_first(secrets: Sequence[str], headers: Mapping[str, str], body: bytes) -> bool | None:
    """A signature is a secret itself; none where the body is empty."""
    return headers.get("webhook-signature") in secrets if body else None


@pytest.fixture
async def receiver(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Receiver]:
    async with Receiver(is_first) as opened:
        yield opened


@pytest.mark.parametrize(
    ("behaviour", "first_line"),
    [
        (ok(), "HTTP/1.1 200 OK"),
        (dead(), "HTTP/1.1 503 Service Unavailable"),
        (gone(), "HTTP/1.1 410 Gone"),
        (Answers(status=204), "HTTP/1.1 204 No Content"),
        (Resets(), ""),
    ],
)
async def test_endpoint_behaves_as_told(
    receiver: Receiver, behaviour: Behaviour, first_line: str
) -> None:
    """Each in its way; others take everything."""
    receiver.behave({1: behaviour})
    assert (await post(receiver, 1)).partition("\r\n")[0] == first_line
    assert (await post(receiver, 2)).startswith("HTTP/1.1 200")


async def test_endpoint_says_when_and_where_else(receiver: Receiver) -> None:
    """`Retry-After` and `Location`."""
    receiver.behave({1: busy(7), 2: redirecting("http://elsewhere.test/")})
    assert "\r\nRetry-After: 7\r\n" in await post(receiver, 1)
    assert "\r\nLocation: http://elsewhere.test/\r\n" in await post(receiver, 2)


async def test_endpoint_that_is_slow_takes_its_time(receiver: Receiver) -> None:
    """By the clock of whoever opened it."""
    receiver.behave({1: slow(30)})
    began = trio.current_time()
    await post(receiver, 1)
    assert trio.current_time() - began == pytest.approx(30, abs=1)


async def test_endpoint_that_flaps_goes_round(receiver: Receiver) -> None:
    """Good, good, bad, and again; or until the last, which stays."""
    receiver.behave({1: flapping(2, 1), 2: InTurn(steps=(dead(), ok()), is_last_kept=True)})
    turns = [(await post(receiver, 1))[9:12] for _ in range(6)]
    assert turns == ["200", "200", "503"] * 2
    assert [(await post(receiver, 2))[9:12] for _ in range(3)] == ["503", "200", "200"]
    receiver.behave({1: flapping(1, 1)})
    assert (await post(receiver, 1))[9:12] == "200"


async def test_arrivals_are_remembered(receiver: Receiver) -> None:
    """Id, endpoint, moment, answer, signature; the same digest for the same bytes."""
    receiver.behave({2: gone()})
    receiver.trust({1: ["a", "b"]})
    for endpoint, signature, body in (
        (1, "a", b"x"),
        (1, "c", b"x"),
        (1, "a", b""),
        (2, "a", b"y"),
    ):
        await post(receiver, endpoint, body, {"Webhook-Id": "m", "Webhook-Signature": signature})
    found = receiver.arrivals()
    assert [(a.endpoint, a.id, a.status, a.is_valid) for a in found] == [
        (1, "m", 200, True), (1, "m", 200, False), (1, "m", 200, None), (2, "m", 410, None),
    ]  # fmt: skip
    assert found[0].digest == found[1].digest != found[3].digest
    assert receiver.arrivals(3) == found[3:]
    (received,) = receiver.received(2)
    assert (received.method, received.target, received.body) == ("POST", "/e/2", "y")
    assert received.headers["webhook-id"] == "m"
    receiver.forget()
    assert receiver.arrivals() == []
    assert (await post(receiver, 2)).startswith("HTTP/1.1 200")


async def test_sums_are_of_each_endpoint(receiver: Receiver) -> None:
    """Requests, those taken, and the most at once."""
    receiver.behave({1: slow(5), 2: dead()})
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(post, receiver, 1)
        await post(receiver, 2)
        await trio.sleep(1)
        assert receiver.sums()[1].in_flight == 3
    assert receiver.sums() == {1: EndpointSeen(3, 3, 0, 3), 2: EndpointSeen(1, 0, 0, 1)}


async def test_sender_that_goes_amid_an_answer_is_none_that_took(receiver: Receiver) -> None:
    """The connection ends; nothing is in flight afterwards."""
    receiver.behave({1: Resets(seconds=1)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(post, receiver, 1)
        await trio.sleep(0.5)
        assert receiver.sums()[1].in_flight == 1
    assert receiver.sums()[1] == EndpointSeen(1, 0, 0, 1)


async def test_connection_is_kept_for_the_next_request(receiver: Receiver) -> None:
    """Two requests, one after the other, on one connection; chunked bodies too."""
    chunked = request_bytes("/e/1").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    data = request_bytes("/e/1", b"one") + chunked + b"3\r\ntwo\r\n0\r\n\r\n"
    last = request_bytes("/e/1", b"three", {"Connection": "close"})
    answer = await exchange(receiver, data + last)
    assert answer.count("HTTP/1.1 200") == 3
    assert [each.body for each in receiver.received(1)] == ["one", "two", "three"]


@pytest.mark.parametrize("target", ["/", "/e/", "/e/x", "/f/1", "/e/-1", "/e/1/2", "/e/²"])
async def test_other_paths_are_not_found(receiver: Receiver, target: str) -> None:
    """404, and nothing is noted."""
    data = request_bytes("/e/9999", headers={"Connection": "close"}).replace(
        b"/e/9999", target.encode()
    )
    assert (await exchange(receiver, data))[9:12] in ("404", "400")
    assert receiver.arrivals() == []


async def test_bytes_that_are_no_request_end_the_connection(receiver: Receiver) -> None:
    """400, and others are served."""
    assert (await exchange(receiver, b"nonsense\r\n\r\n")).startswith("HTTP/1.1 400")
    assert (await post(receiver, 1)).startswith("HTTP/1.1 200")


async def test_lines_say_and_ask_the_same(receiver: Receiver) -> None:
    """What the process is told in JSON; what is no command is told so."""

    def tell(command: Command) -> object:
        return msgspec.to_builtins(obey(receiver, msgspec.json.encode(command)))

    assert tell(Behave({1: flapping(1, 1), 2: Resets()})) == {}
    assert tell(Trust({1: ("a",)})) == {}
    await post(receiver, 1, b"x", {"Webhook-Id": "m", "Webhook-Signature": "a"})
    (arrival,) = obey(receiver, msgspec.json.encode(Look())).arrivals
    assert (arrival.id, arrival.is_valid) == ("m", True)
    assert obey(receiver, msgspec.json.encode(Show(1))).received[0].body == "x"
    assert obey(receiver, msgspec.json.encode(Sum())).sums[1].taken == 1
    assert "error" in msgspec.to_builtins(obey(receiver, b'{"do":"nothing"}'))
    assert "error" in msgspec.to_builtins(obey(receiver, b"{"))
    assert "at least one" in str(
        obey(receiver, b'{"do":"behave","endpoints":{"1":{"do":"inTurn","steps":[]}}}').error
    )
