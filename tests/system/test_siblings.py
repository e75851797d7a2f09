"""Workers ask each other for their numbers, over real sockets and within a real deadline."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from bulkhead_trio.http.listeners import UnixAddress, open_sockets
from bulkhead_trio.observe.snapshots import ProcessSnapshot, ServingSnapshot, TierSnapshot
from bulkhead_trio.workers.snapshots import CENSUS_SECONDS, Siblings, decode, encode


@pytest.fixture
def directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="bulkhead-") as name:
        yield name


Handle = Callable[[trio.SocketStream], Awaitable[None]]


class Reader:
    """Reads numbers that a test has chosen."""

    def __init__(self, ok: int) -> None:
        self.ok = ok

    def read(self) -> ProcessSnapshot:
        tier = TierSnapshot(active=1, outcomes={"ok": self.ok}, latency={3: self.ok})
        return ProcessSnapshot(
            tiers={"free": tier}, serving=ServingSnapshot(loop_seconds={"free": 0.5})
        )

    read_counters = read


def sibling(directory: str, worker: int, ok: int, *, workers: int = 3) -> Siblings:
    return Siblings(directory, worker=worker, workers=workers).join(Reader(ok))


async def test_census_is_the_same_whoever_takes_it(directory: str) -> None:
    """Everybody's numbers, in order, each with the worker that they are of."""
    siblings = [sibling(directory, number, ok=10**number) for number in range(3)]
    async with trio.open_nursery() as nursery:
        for each in siblings:
            await nursery.start(each.serve)
        for each in siblings:
            census = await each.take()
            assert [process.worker for process in census.processes] == [0, 1, 2]
            assert [tier.outcomes["ok"] for tier in census.tier("free").values()] == [1, 10, 100]
            assert census.missing == ()
        for path in Path(directory).iterdir():
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        nursery.cancel_scope.cancel()
    assert list(Path(directory).iterdir()) == []


@pytest.mark.parametrize("trouble", ["absent", "silent", "nonsense", "cut off"])
async def test_sibling_that_does_not_answer_is_left_out_in_time(
    directory: str, trouble: str
) -> None:
    """Whatever is wrong with it; the others' numbers are there, and so is its absence."""

    async def misbehave(stream: trio.SocketStream) -> None:
        async with stream:
            if trouble == "silent":
                await trio.sleep_forever()
            elif trouble == "nonsense":
                await stream.send_all(b"\xff" * 1000)
            else:
                await stream.send_all(encode(Reader(5).read())[:-3])

    own, other = sibling(directory, 0, 1), sibling(directory, 2, 100)
    async with trio.open_nursery() as nursery:
        await nursery.start(own.serve)
        await nursery.start(other.serve)
        if trouble != "absent":
            await nursery.start(serve_at, f"{directory}/worker-1.sock", misbehave)
        began = trio.current_time()
        census = await own.take()
        assert trio.current_time() - began < CENSUS_SECONDS + 0.3
        assert census.missing == (1,)
        assert [process.worker for process in census.processes] == [0, 2]
        nursery.cancel_scope.cancel()


async def serve_at(path: str, handle: Handle, *, task_status: trio.TaskStatus[None]) -> None:
    async with open_sockets([UnixAddress(path)]) as sockets, trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, handle, sockets.listeners(0))
        task_status.started()


async def test_successor_goes_on_counting(directory: str) -> None:
    """What travels to the main process and back is what had been counted."""
    first = sibling(directory, 1, ok=7)
    reported = decode(encode(first.counted()))
    second = Siblings(directory, worker=1, workers=3, past=reported).join(Reader(5))
    now = second.own()
    assert now.tiers["free"].outcomes == {"ok": 12}
    assert now.tiers["free"].active == 1
    assert now.serving.loop_seconds == {"free": 1.0}
    assert now.worker == 1
