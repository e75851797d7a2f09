"""Commands in a process bulkhead."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
import trio

from bulkhead_trio.errors import WorkerCrashed
from bulkhead_trio.policies.bulkhead.processes import (
    ProcessBulkhead,
)

from ._processes import PATIENCE_SECONDS, wait_gone, wait_written

MEMORY_BYTES = 300 * 2**20


pytestmark = pytest.mark.usefixtures("nothing_is_left")


async def test_command_gives_back_what_it_writes_and_exits_with() -> None:
    """It reads what it is given; an exit code is a result and no error."""
    bulkhead = ProcessBulkhead("work", 1)
    script = 'cat; echo "$0 $WORD" >&2; pwd; exit 3'
    result = await bulkhead.run_command(
        ["sh", "-c", script, "a b;c"],
        stdin=b"in\n",
        env={"WORD": "x", "PATH": os.environ["PATH"]},
        cwd="/",
    )
    assert result.exit_code == 3
    assert (result.stdout, result.stderr) == (b"in\n/\n", b"a b;c x\n")
    assert not result.is_truncated
    held = bulkhead.statistics()
    assert (held.active, held.completed, held.crashed, held.started) == (0, 1, 0, 1)


async def test_command_output_is_bounded() -> None:
    """The beginning of stdout and the end of stderr are kept; the command can write on."""
    bulkhead = ProcessBulkhead("work", 1)
    script = "seq 100000; seq 100000 >&2"
    result = await bulkhead.run_command(["sh", "-c", script], max_output_bytes=10)
    assert (result.exit_code, result.is_truncated) == (0, True)
    assert result.stdout == b"1\n2\n3\n4\n5\n"
    assert result.stderr == b"99\n100000\n"
    exact = await bulkhead.run_command(["printf", "0123456789"], max_output_bytes=10)
    assert (exact.stdout, exact.is_truncated) == (b"0123456789", False)


async def test_command_that_does_not_read_is_no_error() -> None:
    """What it is given is more than a pipe holds."""
    bulkhead = ProcessBulkhead("work", 1)
    assert (await bulkhead.run_command(["true"], stdin=bytes(10**6))).exit_code == 0


async def test_command_that_cannot_be_started_says_so() -> None:
    """As `open` would."""
    bulkhead = ProcessBulkhead("work", 1)
    with pytest.raises(FileNotFoundError) as caught:
        await bulkhead.run_command(["no-such-command-anywhere"])
    assert caught.value.filename == "no-such-command-anywhere"
    with pytest.raises(PermissionError):
        await bulkhead.run_command(["/dev/null"])
    with pytest.raises(FileNotFoundError):
        await bulkhead.run_command(["true"], cwd="/no/such/directory")
    assert bulkhead.statistics().active == 0


@pytest.mark.parametrize("command", [[], ["true", "a\0b"]])
async def test_command_that_is_none_is_refused(command: list[str]) -> None:
    """Before anything is started."""
    bulkhead = ProcessBulkhead("work", 1)
    with pytest.raises(ValueError, match="command"):
        await bulkhead.run_command(command)


async def test_command_ended_by_a_signal_is_a_crash() -> None:
    """The signal is named."""
    bulkhead = ProcessBulkhead("work", 1)
    with pytest.raises(WorkerCrashed, match=r"command sh .*SIGTERM") as caught:
        await bulkhead.run_command(["sh", "-c", "kill -TERM $$"])
    assert caught.value.signal == "SIGTERM"
    assert bulkhead.statistics().crashed == 1


async def test_command_keeps_to_its_limits() -> None:
    """Memory and CPU time; whoever ignores the warning is killed a second later."""
    bulkhead = ProcessBulkhead("work", 2, memory_bytes=MEMORY_BYTES, cpu_seconds=1)
    shown = await bulkhead.run_command(["sh", "-c", "ulimit -v; ulimit -t; ulimit -c"])
    assert shown.stdout.split() == [str(MEMORY_BYTES // 1024).encode(), b"1", b"0"]
    with trio.fail_after(PATIENCE_SECONDS), pytest.raises(WorkerCrashed) as caught:
        await bulkhead.run_command(["sh", "-c", "trap '' XCPU; while :; do :; done"])
    assert caught.value.signal == "SIGKILL"


async def test_command_leaves_no_children_behind(tmp_path: Path) -> None:
    """Those that hold its output open end with it, and do not keep its caller."""
    bulkhead = ProcessBulkhead("work", 1)
    with trio.fail_after(PATIENCE_SECONDS):
        result = await bulkhead.run_command(["sh", "-c", "sleep 1000 & echo $!"])
    await wait_gone(int(result.stdout))


async def test_command_whose_child_leaves_the_group_does_not_keep_its_caller() -> None:
    """Nobody can end that child, but its caller need not wait for it."""
    bulkhead = ProcessBulkhead("work", 1)
    with trio.fail_after(PATIENCE_SECONDS):
        result = await bulkhead.run_command(["sh", "-c", "setsid sleep 1000 & echo $!; sleep 0.2"])
    assert result.exit_code == 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(result.stdout), signal.SIGKILL)
    await wait_gone(int(result.stdout))


async def test_command_of_a_cancelled_call_is_killed(tmp_path: Path) -> None:
    """And reaped, before the caller goes on."""
    started = tmp_path / "pid"
    bulkhead = ProcessBulkhead("work", 1)
    async with trio.open_nursery() as nursery:
        script = 'echo $$ > "$0"; sleep 1000'
        nursery.start_soon(bulkhead.run_command, ["sh", "-c", script, str(started)])
        pid = await wait_written(started)
        nursery.cancel_scope.cancel()
    assert not Path(f"/proc/{pid}").exists()
    assert bulkhead.statistics().active == 0
