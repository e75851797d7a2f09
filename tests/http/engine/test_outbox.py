"""Small answers go out together at the end of a round: all of them, in order, and none too late."""

from __future__ import annotations

import os
import socket
from typing import Any

import trio
import trio.testing

from bulkhead_trio.http.engine.outbox import MOST_WAITING, Outbox

from ._serving import LIMITS, SMALL_ANSWER, serving

REQUESTS = 400
"""So many answers that the two sockets' buffers hold a part of them only."""


class _Recorded:
    def __init__(self, sent: list[int], number: int) -> None:
        self._sent = sent
        self._number = number

    def send_waiting(self) -> None:
        self._sent.append(self._number)


async def test_outbox_sends_when_everybody_who_can_run_has_run() -> None:
    """Nothing goes out between two tasks of one round; all of it has, when the round is over."""
    outbox, sent = Outbox(), list[int]()
    trio.lowlevel.add_instrument(outbox)
    seen: list[list[int]] = []

    async def put(number: int) -> None:
        seen.append(list(sent))
        outbox.put(_Recorded(sent, number))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(put, number)
    trio.lowlevel.remove_instrument(outbox)
    assert seen == [[], [], []]
    assert sorted(sent) == [0, 1, 2]


def test_outbox_that_is_full_sends_at_once() -> None:
    """However long a round is, nobody waits for more than so many others."""
    outbox, sent = Outbox(), list[int]()
    for number in range(MOST_WAITING + 1):
        outbox.put(_Recorded(sent, number))
    assert sent == list(range(MOST_WAITING))


def _request(number: int) -> bytes:
    return b"GET /small?%d HTTP/1.1\r\nHost: x\r\n\r\n" % number


def _send(client: trio.socket.SocketType, data: bytes) -> None:
    """The client's own buffer takes all of it."""
    with socket.socket(fileno=os.dup(client.fileno())) as sock:
        assert sock.send(data) == len(data)


async def _answers(client: trio.socket.SocketType, count: int) -> list[int]:
    data = b""
    while data.count(b"HTTP/1.1 200") < count or not data.endswith(b"%d" % (count - 1)):
        piece = await client.recv(65_536)
        assert piece
        data += piece
        await trio.sleep(0.001)
    return [int(part.rstrip(b".")[-SMALL_ANSWER:].rpartition(b".")[2])
            for part in data.split(b"HTTP/1.1 200")[1:]]  # fmt: skip


async def test_answers_that_the_kernel_does_not_take_come_later_and_in_order(
    autojump_clock: Any,
) -> None:
    """A peer that sends ahead and reads late gets every answer once, in order."""
    async with serving() as served:
        client = trio.socket.from_stdlib_socket(served.connect())
        with client:
            _send(client, b"".join(map(_request, range(REQUESTS))))
            await trio.sleep(LIMITS.write / 2)
            assert await _answers(client, REQUESTS) == list(range(REQUESTS))
            _send(client, _request(0))
            assert await _answers(client, 1) == [0]
            await trio.sleep(LIMITS.idle + 1)
            assert await client.recv(1) == b""
        await served.wait_at_rest()


async def test_last_answer_that_the_kernel_does_not_take_comes_when_the_peer_reads(
    autojump_clock: Any,
) -> None:
    """What is left of an answer follows by itself, though no further request comes."""
    async with serving() as served:
        client = trio.socket.from_stdlib_socket(served.connect())
        with client:
            count = 0
            while served.server.statistics().connections.get("write", 0) == 0:
                _send(client, _request(count))
                count += 1
                while served.application.ended["done"] < count:
                    await trio.sleep(0.001)
                await trio.testing.wait_all_tasks_blocked(0.001)
            began = trio.current_time()
            assert await _answers(client, count) == list(range(count))
            assert trio.current_time() - began < LIMITS.write / 2
        await served.wait_at_rest()


async def test_peer_that_never_reads_is_cut_off(autojump_clock: Any) -> None:
    """The limit for a slow reader holds for what is sent at the end of a round as well."""
    async with serving() as served:
        with served.connect() as client:
            client.sendall(b"".join(map(_request, range(REQUESTS))))
            with trio.fail_after(LIMITS.write + LIMITS.linger + 1):
                while not served.application.ended["done"]:
                    await trio.sleep(0.01)
                while served.server.connections:
                    await trio.sleep(0.1)
        assert served.application.ended["done"] < REQUESTS


async def test_answer_to_a_peer_that_stops_sending_is_not_lost(autojump_clock: Any) -> None:
    """An answer that is about to go out does, also where the connection ends in that moment."""
    async with serving() as served:
        with served.connect() as client:
            client.sendall(_request(7))
            client.shutdown(socket.SHUT_WR)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
            answer = b"".join([piece async for piece in stream])
            assert answer.endswith(b".7")
        await served.wait_at_rest()


async def test_answers_under_way_survive_the_end_of_the_server(autojump_clock: Any) -> None:
    """A server that is cancelled has still sent what its application had answered."""
    async with serving() as served:
        client = trio.socket.from_stdlib_socket(served.connect())
        with client:
            _send(client, _request(3))
            while not served.application.ended["done"]:
                await trio.lowlevel.checkpoint()
            served.scope.cancel()
            answer = b""
            while piece := await client.recv(65_536):
                answer += piece
            assert answer.endswith(b".3")
