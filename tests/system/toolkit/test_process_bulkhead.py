"""The process bulkhead, with real processes."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
import trio

from bulkhead_trio.errors import BulkheadFull, QueueTimeout, RemoteError, WorkerCrashed
from bulkhead_trio.policies.bulkhead.bulkhead import BulkheadLeft
from bulkhead_trio.policies.bulkhead.processes import (
    ProcessBulkhead,
    ProcessBulkheadEvent,
    WorkerEnded,
)
from bulkhead_trio.policies.policy import Kind

from . import _decorated, _work
from ._processes import PATIENCE_SECONDS

MEMORY_BYTES = 300 * 2**20

pytestmark = pytest.mark.usefixtures("nothing_is_left")


# --- functions -----------------------------------------------------------------------------------


async def test_process_call_returns_what_the_function_returns() -> None:
    """Functions of any module run in another process, with their arguments."""
    async with ProcessBulkhead("work", 1) as bulkhead:
        assert await bulkhead.call(math.hypot, 3.0, 4.0) == 5.0
        assert await bulkhead.call(_work.double, 4) == 8
        assert await bulkhead.call(_work.pid) != os.getpid()


async def test_process_is_kept_for_the_next_call_while_open() -> None:
    """The process used last is used next; as many are started as ran at the same time."""
    async with ProcessBulkhead("work", 2) as bulkhead:
        first = await bulkhead.call(_work.pid)
        assert await bulkhead.call(_work.pid) == first
        held = bulkhead.statistics()
        assert (held.idle, held.started, held.active) == (1, 1, 0)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(bulkhead.call, _work.pid)
        assert bulkhead.statistics().idle == bulkhead.statistics().started == 2
    assert bulkhead.statistics().idle == 0


async def test_process_bulkhead_never_opened_starts_one_for_each_call() -> None:
    """Nothing outlives its call where nobody would end it."""
    bulkhead = ProcessBulkhead("work", 1)
    first = await bulkhead.call(_work.pid)
    assert await bulkhead.call(_work.pid) != first
    assert bulkhead.statistics().idle == 0
    with pytest.raises(LookupError):
        await bulkhead.call(_work.fail, "x")
    with pytest.raises(WorkerCrashed):
        await bulkhead.call(_work.leave, 3)


async def test_process_decorator_makes_a_plain_function_async() -> None:
    """The worker finds the function behind its decoration."""
    assert await _decorated.power(3) == 9
    assert await _decorated.power(3, exponent=3) == 27


async def test_process_is_replaced_after_its_calls() -> None:
    """``calls_per_worker`` bounds what a process can gather."""
    async with ProcessBulkhead("work", 1, calls_per_worker=2) as bulkhead:
        pids = [await bulkhead.call(_work.pid) for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
    assert len(set(pids)) == 3


async def test_process_prints_and_reads_elsewhere_than_its_channel(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What a function prints is not taken for its answer, and there is nothing to read."""
    async with ProcessBulkhead("work", 1) as bulkhead:
        assert await bulkhead.call(_work.talk) == ""
        assert await bulkhead.call(_work.double, 2) == 4


def test_process_runs_functions_of_the_main_module(tmp_path: Path) -> None:
    """A script's own functions and classes go there and back; the script does not run again."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import trio
        from bulkhead_trio.policies.bulkhead.processes import ProcessBulkhead

        class Answer:
            pass

        def work(n):
            answer = Answer()
            answer.n = n + 1
            return answer

        async def main():
            async with ProcessBulkhead("work", 1) as bulkhead:
                answer = await bulkhead.call(work, 1)
                assert type(answer) is Answer
                print(answer.n)

        if __name__ == "__main__":
            trio.run(main)
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_process_cannot_run_functions_of_a_main_module_without_a_file() -> None:
    """It says so."""
    script = textwrap.dedent("""
        import trio
        from bulkhead_trio.errors import RemoteError
        from bulkhead_trio.policies.bulkhead.processes import ProcessBulkhead
        def work(): pass
        async def main():
            try:
                await ProcessBulkhead("work", 1).call(work)
            except RemoteError as error:
                print(error)
        trio.run(main)
        """)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "__main__ has no file" in done.stdout


# --- errors --------------------------------------------------------------------------------------


async def test_process_call_raises_what_the_function_raises() -> None:
    """With a note that shows where; the process goes on, and listeners hear of the error."""
    events: list[ProcessBulkheadEvent] = []
    async with ProcessBulkhead("work", 1, listeners=[events.append]) as bulkhead:
        with pytest.raises(LookupError, match="nothing there") as caught:
            await bulkhead.call(_work.fail, "nothing there")
        assert "In worker process" in caught.value.__notes__[0]
        assert "raise LookupError(text)" in caught.value.__notes__[0]
        assert bulkhead.statistics().idle == 1
        assert bulkhead.statistics().crashed == 0
    left = next(event for event in events if isinstance(event, BulkheadLeft))
    assert left.error is caught.value


@pytest.mark.parametrize(
    ("work", "type_name", "text"),
    [
        (_work.fail_uncarried, f"{_work.__name__}.TwoArgumentsError", "this and that"),
        (_work.fail_silently, f"{_work.__name__}.SilentError", "cannot say"),
        (_work.fail_unloadable, "builtins.LookupError", "Unloadable"),
        (_work.return_unsendable, "builtins.AttributeError", "pickle"),
        (_work.return_unloadable, "builtins.LookupError", "not here"),
    ],
)
async def test_process_call_that_cannot_be_answered_says_so(
    work: object, type_name: str, text: str
) -> None:
    """Type and text of what cannot be carried over are there, and the process goes on."""
    assert callable(work)
    async with ProcessBulkhead("work", 1) as bulkhead:
        if work is _work.fail_silently:
            with pytest.raises(_work.SilentError):
                await bulkhead.call(work)
            return
        with pytest.raises(RemoteError) as caught:
            await bulkhead.call(work)
        assert caught.value.type_name == type_name
        assert text in caught.value.text
        assert bulkhead.statistics().idle == 1


async def test_process_call_that_cannot_be_sent_is_refused_before_it_begins() -> None:
    """No process is started, no permit taken."""
    bulkhead = ProcessBulkhead("work", 1, max_message_bytes=1000)
    with pytest.raises(ValueError, match="cannot be sent"):
        await bulkhead.call(lambda: None)
    with pytest.raises(ValueError, match="1000 allowed"):
        await bulkhead.call(len, bytes(1001))
    with pytest.raises(TypeError, match="async"):
        assert await bulkhead.call(trio.sleep, 1) is None
    assert bulkhead.statistics().completed == bulkhead.statistics().started == 0


async def test_process_call_that_cannot_be_loaded_says_so() -> None:
    """The worker lives on."""
    async with ProcessBulkhead("work", 1) as bulkhead:
        with pytest.raises(RemoteError, match="could not load") as caught:
            await bulkhead.call(len, (_work.Unloadable(),))
        assert caught.value.type_name == "builtins.LookupError"
        assert bulkhead.statistics().idle == 1


async def test_process_answer_that_is_too_long_is_an_error() -> None:
    """Just within the bound it comes."""
    async with ProcessBulkhead("work", 1, max_message_bytes=100_000) as bulkhead:
        assert len(await bulkhead.call(_work.large, 99_000)) == 99_000
        with pytest.raises(RemoteError, match="100000 allowed"):
            await bulkhead.call(_work.large, 100_000)
        assert bulkhead.statistics().idle == 1


@pytest.mark.parametrize(
    ("crash", "exit_code", "name"),
    [
        (partial(_work.segfault), None, "SIGSEGV"),
        (partial(_work.leave, 3), 3, None),
        (partial(_work.leave, 0), 0, None),
        (partial(_work.exit_normally, 4), 4, None),
        (partial(_work.kill_self, signal.SIGKILL), None, "SIGKILL"),
        (partial(_work.kill_self, signal.SIGRTMIN + 1), None, f"signal {signal.SIGRTMIN + 1}"),
        (partial(_work.fork_and_die), 7, None),
        (partial(_work.close_everything), None, None),
        (partial(_work.write_garbage), None, None),
    ],
)
async def test_process_that_crashes_fails_its_own_call_alone(
    crash: partial[None], exit_code: int | None, name: str | None
) -> None:
    """The call beside it is not touched, and the next one has a new process."""
    async with ProcessBulkhead("work", 2) as bulkhead:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bulkhead.call, _work.double, 1)
            with trio.fail_after(PATIENCE_SECONDS), pytest.raises(WorkerCrashed) as caught:
                await bulkhead.call(crash)
        assert (caught.value.exit_code, caught.value.signal) == (exit_code, name)
        assert str(exit_code if name is None and exit_code is not None else name or "") in str(
            caught.value
        )
        assert bulkhead.statistics().crashed == 1
        assert bulkhead.statistics().active == 0
        assert await bulkhead.call(_work.double, 2) == 4


async def test_process_that_dies_idle_is_reaped_and_replaced() -> None:
    """No call is lost by it, and no zombie stays until the next one."""
    ended = trio.Event()

    def listen(event: ProcessBulkheadEvent) -> None:
        if isinstance(event, WorkerEnded):
            ended.set()

    async with ProcessBulkhead("work", 1, listeners=[listen]) as bulkhead:
        pid = await bulkhead.call(_work.pid)
        os.kill(pid, signal.SIGKILL)
        with trio.fail_after(PATIENCE_SECONDS):
            await ended.wait()
        assert bulkhead.statistics().idle == 0
        assert not Path(f"/proc/{pid}").exists()
        assert await bulkhead.call(_work.pid) != pid
        assert bulkhead.statistics().crashed == 0


# --- limits --------------------------------------------------------------------------------------


async def test_process_out_of_memory_fails_its_own_call() -> None:
    """The limit holds, there is no core dump, and the process is replaced."""
    async with ProcessBulkhead("work", 1, memory_bytes=MEMORY_BYTES) as bulkhead:
        assert await bulkhead.call(_work.limits) == (0, MEMORY_BYTES)
        with pytest.raises(MemoryError):
            await bulkhead.call(_work.take_memory, MEMORY_BYTES)
        assert bulkhead.statistics().idle == 0
        assert await bulkhead.call(_work.take_memory, 1000) == 1000


async def test_process_out_of_cpu_time_fails_its_own_call() -> None:
    """The limit is a call's, and not that of all calls of a process."""
    async with ProcessBulkhead("work", 1, cpu_seconds=0.5) as bulkhead:
        with (
            trio.fail_after(PATIENCE_SECONDS),
            pytest.raises(WorkerCrashed, match=r"0\.5 s") as why,
        ):
            await bulkhead.call(_work.spin)
        assert why.value.signal == "SIGXCPU"
        assert await bulkhead.call(_work.double, 1) == 2


async def test_process_bulkhead_keeps_to_its_number() -> None:
    """Calls beyond it wait or are refused; permits come back."""
    async with ProcessBulkhead("work", 1, max_wait=0.05, max_queued=1) as bulkhead:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bulkhead.call, _work.sleep, "")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(QueueTimeout):
                await bulkhead.call(_work.pid)
            with pytest.raises(QueueTimeout):
                await bulkhead.run_command(["true"])
            nursery.cancel_scope.cancel()
        assert bulkhead.statistics().active == 0
        assert bulkhead.statistics().refused == 2


async def test_process_bulkhead_resized_ends_idle_ones() -> None:
    """Commands and idle workers together are never more than it allows."""
    async with ProcessBulkhead("work", 2) as bulkhead:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(bulkhead.call, _work.pid)
        assert bulkhead.statistics().idle == 2
        await bulkhead.run_command(["true"])
        assert bulkhead.statistics().idle == 1
        await bulkhead.call(_work.pid)
        assert bulkhead.statistics().idle == 1
        bulkhead.resize(1)
        await bulkhead.run_command(["true"])
        assert bulkhead.statistics().idle == 0


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "make"),
    [
        ("max_concurrent", partial(ProcessBulkhead, "work", 0)),
        ("memory_bytes", partial(ProcessBulkhead, "work", 1, memory_bytes=0)),
        ("cpu_seconds", partial(ProcessBulkhead, "work", 1, cpu_seconds=0)),
        ("cpu_seconds", partial(ProcessBulkhead, "work", 1, cpu_seconds=math.nan)),
        ("max_wait", partial(ProcessBulkhead, "work", 1, max_wait=-1.0)),
        ("max_queued", partial(ProcessBulkhead, "work", 1, max_queued=-1)),
        ("calls_per_worker", partial(ProcessBulkhead, "work", 1, calls_per_worker=0)),
        ("max_message_bytes", partial(ProcessBulkhead, "work", 1, max_message_bytes=0)),
    ],
)
def test_process_bulkhead_of_nonsense_is_refused(
    parameter: str, make: partial[ProcessBulkhead]
) -> None:
    """The parameter is named."""
    with pytest.raises(ValueError, match=parameter):
        make()


async def test_process_bulkhead_says_what_it_is() -> None:
    """What whoever composes policies looks at; without a wait it refuses at once."""
    bulkhead = ProcessBulkhead("work", 1, max_wait=3.0)
    assert (bulkhead.name, bulkhead.kind, bulkhead.max_wait) == ("work", Kind.BULKHEAD, 3.0)
    assert bulkhead.obeys_cancellation
    full = ProcessBulkhead("work", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(full.call, _work.sleep, "")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BulkheadFull):
            await full.call(_work.pid)
        nursery.cancel_scope.cancel()
