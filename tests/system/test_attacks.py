"""Clients that take their time, or send what nobody can use: who behaves does not notice them."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Awaitable, Callable, Iterator

import attrs
import pytest
import trio

from ._client import Address, ask, open_wire
from ._fronts import FRONTS, FrontProcess, running_front

ATTACKERS = 100
PROBES = 80
WINDOWS = 3
"""Of so many, the best counts: other processes may disturb one, an attack disturbs all."""

PROBE_GAP = 0.003
TOLERATED = 1.2
NOISE_SECONDS = 0.0003
RAMP_SECONDS = 0.6
END_SECONDS = 8.0
IDLE_SHARE = 0.1

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

MOST_BYTES_EACH = 256 * 1024
"""Of memory for one attacker: an answer's piece or two, and what is read at once."""

Attack = Callable[[Address], Awaitable[None]]


@pytest.fixture(scope="module", params=FRONTS)
def front(request: pytest.FixtureRequest) -> Iterator[FrontProcess]:
    with running_front(
        request.param, head=3.0, body=3.0, body_gap=2.0, write=3.0, linger=0.5
    ) as process:
        yield process


async def drip(address: Address, beginning: bytes, drop: bytes) -> None:
    """A beginning, and then a little at a time, until the server has had enough."""
    async with open_wire(address) as wire, trio.open_nursery() as nursery:

        async def dripping() -> None:
            while True:
                await wire.send(drop)
                await trio.sleep(0.25)

        await wire.send(beginning)
        nursery.start_soon(dripping)
        await wire.drain_until_closed(60)
        nursery.cancel_scope.cancel()


async def slow_head(address: Address) -> None:
    """Slowloris: a header field every now and then, and never the end."""
    await drip(address, HEAD, b"X-A: b\r\n")


async def slow_body(address: Address) -> None:
    """The same with chunks."""
    await drip(address, POST, b"1\r\na\r\n")


async def slow_read(address: Address) -> None:
    """Asks for what has no end, and reads none of it."""
    async with open_wire(address) as wire:
        await wire.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.sleep(60)


async def header_flood(address: Address) -> None:
    """Header fields without an end, again as soon as it is refused."""
    while True:
        async with open_wire(address) as wire:
            await wire.send(HEAD + b"".join(b"X-%d: value\r\n" % n for n in range(3000)))
            assert (await wire.answer(timeout=10)).status == 431
        await trio.sleep(1)


async def tiny_chunks(address: Address) -> None:
    """A body of chunks of one byte each, as much as is read at once, again and again."""
    while True:
        async with open_wire(address) as wire:
            await wire.send(POST + b"1\r\na\r\n" * 5000 + b"0\r\n\r\n")
            assert (await wire.answer(timeout=10)).status == 200
        await trio.sleep(2)


async def garbage(address: Address) -> None:
    """What is no request at all."""
    while True:
        async with open_wire(address) as wire:
            await wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
            assert (await wire.answer(timeout=10)).status == 400
        await trio.sleep(1)


@attrs.frozen
class Attackers:
    """One kind of attack, and how many of them at once."""

    attack: Attack
    count: int = ATTACKERS


ATTACKS = {
    "slow head": Attackers(slow_head),
    "slow body": Attackers(slow_body),
    "slow read": Attackers(slow_read),
    "header flood": Attackers(header_flood, 20),
    "tiny chunks": Attackers(tiny_chunks, 5),
    "garbage": Attackers(garbage, 50),
}


async def seconds_of_an_answer(address: Address) -> float:
    """The median over many requests of a client that behaves."""
    times = []
    async with open_wire(address) as wire:
        for _ in range(PROBES):
            began = trio.current_time()
            assert (await wire.ask("/", timeout=5)).status == 200
            times.append(trio.current_time() - began)
            await trio.sleep(PROBE_GAP)
    return statistics.median(times)


async def share_of_a_core(front: FrontProcess) -> float:
    """What the server takes while nobody asks anything."""
    used, began = front.processor_seconds, trio.current_time()
    await trio.sleep(0.3)
    return (front.processor_seconds - used) / (trio.current_time() - began)


async def attack_one_after_the_other(attackers: Attackers, address: Address) -> None:
    async with trio.open_nursery() as nursery:
        for number in itertools.count():
            if number == attackers.count:
                break
            nursery.start_soon(attackers.attack, address)
            await trio.sleep(RAMP_SECONDS / attackers.count)


@pytest.mark.parametrize("name", ATTACKS)
async def test_attack_slows_nobody_and_ends(front: FrontProcess, name: str) -> None:
    """The median stays, memory is bounded, and afterwards nothing is left of it."""
    address, attackers = front.address, ATTACKS[name]
    await seconds_of_an_answer(address)
    files, before = front.open_files, front.memory
    alone = await seconds_of_an_answer(address)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attack_one_after_the_other, attackers, address)
        await trio.sleep(RAMP_SECONDS)
        among = min([await seconds_of_an_answer(address) for _ in range(WINDOWS)])
        grown = front.memory - before
        nursery.cancel_scope.cancel()
    with trio.fail_after(END_SECONDS):
        while front.open_files > files:
            await trio.sleep(0.05)
    with trio.fail_after(END_SECONDS):
        while await share_of_a_core(front) > IDLE_SHARE:
            pass
    alone = max(alone, await seconds_of_an_answer(address))
    told = f"{among * 1e3:.2f} ms, {alone * 1e3:.2f} alone, {grown / 1024:.0f} KiB"
    print(f"{front.name}, {name}: {told}")
    assert grown <= attackers.count * MOST_BYTES_EACH, told
    assert among <= TOLERATED * alone + NOISE_SECONDS, told
    front.assert_well()


@pytest.mark.parametrize("attack", [slow_head, slow_body], ids=["head", "body"])
async def test_slow_client_is_given_up(front: FrontProcess, attack: Attack) -> None:
    """However long it drips: the limit is on the whole."""
    began = trio.current_time()
    with trio.fail_after(END_SECONDS):
        await attack(front.address)
    assert trio.current_time() - began > 2.5
    assert (await ask(front.address, "/")).status == 200
    front.assert_well()
