"""When worker processes end: with their call, their bulkhead, or whoever has started them."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio

from bulkhead_trio.errors import DeadlineUnreachable, WorkerCrashed
from bulkhead_trio.policies.bulkhead.processes import (
    ProcessBulkhead,
    ProcessBulkheadEvent,
    WorkerEnded,
    WorkerStarted,
)
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations

from . import _work
from ._processes import child_processes, open_files, wait_gone, wait_written

pytestmark = pytest.mark.usefixtures("nothing_is_left")


async def test_process_of_a_cancelled_call_is_killed_with_its_children(tmp_path: Path) -> None:
    """When the caller goes on they are gone, and the process is reaped."""
    started = tmp_path / "pid"
    async with ProcessBulkhead("work", 1) as bulkhead:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bulkhead.call, _work.sleep_with_child, str(started))
            pid = await wait_written(started)
            nursery.cancel_scope.cancel()
        assert not Path(f"/proc/{pid}").exists()
        await wait_gone(int(started.with_suffix(".child").read_text()))
        held = bulkhead.statistics()
        assert (held.active, held.idle, held.crashed) == (0, 0, 0)


async def test_process_call_ends_with_its_deadline() -> None:
    """A deadline is Trio's, and nothing else."""
    async with ProcessBulkhead("work", 1) as bulkhead:
        with trio.move_on_after(0.1) as scope:
            await bulkhead.call(_work.sleep)
        assert scope.cancelled_caught
        assert bulkhead.statistics().active == 0


async def test_process_call_cancelled_anywhere_is_at_rest() -> None:
    """Opening, a first and a second call, closing: nothing is left, wherever it stops."""
    children = child_processes()

    async def scenario(point: CancellationPoint) -> None:
        bulkhead = ProcessBulkhead("work", 1)
        with point:
            async with bulkhead:
                await bulkhead.call(_work.double, 1)
                await bulkhead.call(_work.double, 2)
        held = bulkhead.statistics()
        assert (held.active, held.queued, held.idle, held.crashed) == (0, 0, 0, 0)
        assert child_processes() == children
        async with bulkhead:
            assert bulkhead.statistics().idle == 0

    await sweep_cancellations(scenario)


async def test_process_bulkhead_never_opened_cancelled_anywhere_is_at_rest() -> None:
    """The same where nobody keeps processes."""
    children = child_processes()

    async def scenario(point: CancellationPoint) -> None:
        bulkhead = ProcessBulkhead("work", 1)
        with point:
            await bulkhead.call(_work.double, 1)
        assert bulkhead.statistics().active == 0
        assert child_processes() == children

    await sweep_cancellations(scenario)


async def test_command_cancelled_anywhere_is_at_rest() -> None:
    """No permit, process or file is left at any checkpoint."""
    files, children = len(open_files()), child_processes()

    async def scenario(point: CancellationPoint) -> None:
        bulkhead = ProcessBulkhead("work", 1)
        with point:
            await bulkhead.run_command(["cat"], stdin=b"x")
        assert bulkhead.statistics().active == 0
        assert child_processes() == children
        assert len(open_files()) == files

    await sweep_cancellations(scenario)


async def test_process_bulkhead_closing_ends_what_runs_and_what_waits(tmp_path: Path) -> None:
    """Calls that run and calls that wait are told that it is closed."""
    closed: list[str] = []

    async def caller(bulkhead: ProcessBulkhead, started: str) -> None:
        try:
            await bulkhead.call(_work.sleep, started)
        except trio.ClosedResourceError as error:
            closed.append(str(error))

    async with trio.open_nursery() as nursery:
        async with ProcessBulkhead("work", 1, max_wait=math.inf) as bulkhead:
            nursery.start_soon(caller, bulkhead, str(tmp_path / "first"))
            await wait_written(tmp_path / "first")
            nursery.start_soon(caller, bulkhead, str(tmp_path / "second"))
            await trio.testing.wait_all_tasks_blocked()
            assert bulkhead.statistics().queued == 1
    assert closed == ["work is closed"] * 2
    assert bulkhead.statistics().active == 0


async def test_process_bulkhead_closed_says_so_until_it_is_opened_again() -> None:
    """Use after closing is an error; so is opening it twice, and closing it twice."""
    bulkhead = ProcessBulkhead("work", 1)
    async with bulkhead:
        with pytest.raises(RuntimeError, match="open already"):
            await bulkhead.__aenter__()
    with pytest.raises(trio.ClosedResourceError, match="work is closed"):
        await bulkhead.call(_work.pid)
    with pytest.raises(trio.ClosedResourceError, match="work is closed"):
        await bulkhead.run_command(["true"])
    with pytest.raises(RuntimeError, match="not open"):
        await bulkhead.__aexit__(None, None, None)
    async with bulkhead:
        assert await bulkhead.call(_work.double, 1) == 2


async def test_process_bulkhead_lets_the_blocks_own_error_through() -> None:
    """It is not wrapped in a group."""
    with pytest.raises(LookupError, match="mine"):
        async with ProcessBulkhead("work", 1) as bulkhead:
            await bulkhead.call(_work.pid)
            raise LookupError("mine")


async def test_process_events_tell_of_starts_and_ends() -> None:
    """Each start has its end."""
    events: list[ProcessBulkheadEvent] = []
    async with ProcessBulkhead("work", 1, listeners=[events.append]) as bulkhead:
        await bulkhead.call(_work.pid)
        await bulkhead.run_command(["sh", "-c", "exit 3"])
    started = [event.pid for event in events if isinstance(event, WorkerStarted)]
    ended = {event.pid: event.exit_code for event in events if isinstance(event, WorkerEnded)}
    assert len(started) == 2
    assert ended == {started[0]: -signal.SIGKILL, started[1]: 3}


class Population:
    """A listener that counts the processes there are."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    def __call__(self, event: ProcessBulkheadEvent) -> None:
        if isinstance(event, WorkerStarted):
            self.now += 1
            self.most = max(self.most, self.now)
        elif isinstance(event, WorkerEnded):
            self.now -= 1


async def act(bulkhead: ProcessBulkhead, action: str, patience: float) -> None:
    """One caller of a random schedule: it gets what it asked for, or its deadline is too short."""
    with trio.move_on_after(patience), contextlib.suppress(DeadlineUnreachable):
        if action == "call":
            assert await bulkhead.call(math.sqrt, 4.0) == 2.0
        elif action == "fail":
            with pytest.raises(ValueError, match="domain"):
                await bulkhead.call(math.sqrt, -1.0)
        elif action == "crash":
            with pytest.raises(WorkerCrashed):
                await bulkhead.call(os._exit, 3)
        else:
            assert (await bulkhead.run_command(["echo", "x"])).stdout == b"x\n"


@pytest.mark.parametrize("seed", range(4))
async def test_processes_are_never_too_many_and_all_end(seed: int) -> None:
    """Random calls, failures, crashes, commands and cancellations at the same time."""
    chance = random.Random(seed)
    population = Population()
    async with ProcessBulkhead("work", 3, max_wait=math.inf, listeners=[population]) as bulkhead:
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                action = chance.choice(["call", "call", "fail", "crash", "command"])
                patience = chance.choice([0.0, 0.02, 0.05, 0.2, math.inf])
                nursery.start_soon(act, bulkhead, action, patience)
        held = bulkhead.statistics()
        assert (held.active, held.queued) == (0, 0)
        assert held.idle == population.now
        assert held.completed <= 40
        assert 1 <= population.most <= 3
    assert population.now == 0


def test_process_ends_with_whoever_has_started_it(tmp_path: Path) -> None:
    """Killed as that may be, in the middle of a call: neither the worker nor its child stays."""
    started = tmp_path / "pid"
    script = textwrap.dedent("""
        import sys, trio
        from bulkhead_trio.policies.bulkhead.processes import ProcessBulkhead
        from tests.system.toolkit import _work
        trio.run(ProcessBulkhead("work", 1).call, _work.sleep_with_child, sys.argv[1])
        """)
    with subprocess.Popen([sys.executable, "-c", script, str(started)]) as starter:
        pid = trio.run(wait_written, started)
        starter.kill()
    trio.run(wait_gone, pid)
    trio.run(wait_gone, int(started.with_suffix(".child").read_text()))
