"""Ten thousand connections that do nothing: what they cost, and that nobody notices them."""

from __future__ import annotations

import resource
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from ._client import Address
from ._fronts import FrontProcess, running_front

WANTED = 10_000
SPARE_FILES = 500
MOST_BYTES = 10 * 1024
"""A connection may cost so much of the server's memory."""

REQUEST = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
PROBES = 1500
TOLERATED = 1.2
NOISE_SECONDS = 0.0003


@pytest.fixture
def count() -> Iterator[int]:
    """How many connections there can be here; this process needs a descriptor for each as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield min(WANTED, hard - SPARE_FILES) if hard != resource.RLIM_INFINITY else WANTED
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def front(count: int) -> Iterator[FrontProcess]:
    room = count + 100
    with running_front(
        "engine", connections=room, connections_per_address=room, head=300, idle=300
    ) as process:
        yield process


def ask(sock: socket.socket) -> None:
    """One request and its answer, which is small enough to come in one piece."""
    sock.sendall(REQUEST)
    answer = sock.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200"), answer


def seconds_of_an_answer(address: Address) -> float:
    """The median over many requests on one connection."""
    with socket.create_connection(address, timeout=10) as sock:
        for _ in range(100):
            ask(sock)
        times = []
        for _ in range(PROBES):
            began = time.perf_counter()
            ask(sock)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


@contextmanager
def idle_connections(address: Address, count: int) -> Iterator[None]:
    """So many, each of which has asked once and now says nothing."""
    with ExitStack() as stack:
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection(address, timeout=10))
            ask(sock)
        yield


def wait_for_files(front: FrontProcess, at_most: int) -> None:
    deadline = time.monotonic() + 10
    while front.open_files > at_most:
        assert time.monotonic() < deadline, f"{front.open_files} descriptors are left"
        time.sleep(0.05)


def test_idle_connections_cost_little_and_slow_nobody(front: FrontProcess, count: int) -> None:
    """At most 10 KiB each; and who is busy is answered as fast as without them."""
    files = front.open_files
    seconds_of_an_answer(front.address)
    wait_for_files(front, files)
    before = front.memory
    alone = [seconds_of_an_answer(front.address)]
    wait_for_files(front, files)
    with idle_connections(front.address, count):
        each = (front.memory - before) / count
        assert front.open_files == files + count
        among = min(seconds_of_an_answer(front.address) for _ in range(3))
        used = front.processor_seconds
        time.sleep(1)
        idle_share = front.processor_seconds - used
    wait_for_files(front, files)
    alone.append(seconds_of_an_answer(front.address))
    told = (
        f"{count:,} connections: {each / 1024:.1f} KiB each, {among * 1e3:.3f} ms among them, "
        f"{max(alone) * 1e3:.3f} ms alone, {idle_share:.1%} of a core while nobody asks"
    )
    print(told)
    front.assert_well()
    assert each <= MOST_BYTES, told
    assert among <= TOLERATED * max(alone) + NOISE_SECONDS, told
    assert idle_share < 0.1, told
