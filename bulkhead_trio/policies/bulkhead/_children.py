"""Child processes that never outlive their call: started in a group of their own, killed, reaped.

A process is held by a pidfd, and its group is killed before it is reaped: until then its number
cannot mean anybody else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import trio

REAP_SECONDS: Final = 5.0
"""A killed process is gone within milliseconds, unless the system holds it (a lost disk)."""

DRAIN_SECONDS: Final = 1.0
"""For what is left in the pipes of a process that has ended; it matters only where some process
left its group and keeps them open."""

_CHUNK_BYTES: Final = 65_536

_log = logging.getLogger("bulkhead_trio.processes")


@attrs.define(eq=False)
class Child:
    """One child process, the leader of its own process group."""

    process: trio.Process
    _pidfd: int
    _is_ended: bool = False

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> Child:
        """Start ``command``. A cancellation takes effect before or after it, never in between.

        Raises:
            OSError: it cannot be started.
        """
        process = await trio.lowlevel.open_process(
            list(command),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        try:
            return cls(process, os.pidfd_open(process.pid))
        except OSError:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            raise

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    async def wait_ended(self) -> None:
        """Wait until it has ended, and leave it to be reaped.

        Raises:
            trio.ClosedResourceError: it has been reaped meanwhile.
        """
        if self._is_ended:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(self._pidfd)

    def has_ended(self) -> bool:
        """Whether it has ended, reaped or not."""
        if self._is_ended:
            return True
        state = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return state is not None

    def kill(self) -> None:
        """Kill whoever lives in its group: itself, and what it has started."""
        if not self._is_ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def end_politely(self, seconds: float) -> int | None:
        """Ask it to end, and `end` it after ``seconds`` or when it has."""
        if not self._is_ended:
            self.process.terminate()
            with trio.move_on_after(seconds, shield=True):
                await self.wait_ended()
        return await self.end()

    async def end(self) -> int | None:
        """Kill it and its group, and reap it; what it ended with, minus the signal's number if one.

        It takes no part in its caller's cancellation, and 5 seconds at most. ``None`` if it is not
        gone by then.
        """
        if not self._is_ended:
            self.kill()
            self._is_ended = True
            await self._reap()
        return self.process.returncode

    async def _reap(self) -> None:
        try:
            with trio.move_on_after(REAP_SECONDS, shield=True) as scope:
                await self.process.wait()
            if scope.cancelled_caught:
                _log.error("process %d is not gone %g s after its kill", self.pid, REAP_SECONDS)
        finally:
            trio.lowlevel.notify_closing(self._pidfd)
            os.close(self._pidfd)
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                if stream is not None:
                    with trio.CancelScope(shield=True):
                        await stream.aclose()


@attrs.frozen
class Finished:
    """What a child process has left.

    Attributes:
        exit_code: what it exited with; minus the signal's number where a signal ended it; ``None``
            if it would not go.
        stdout: the first bytes that it wrote.
        stderr: the last bytes that it wrote.
        is_truncated: whether it wrote more than is kept, to either.
    """

    exit_code: int | None
    stdout: bytes
    stderr: bytes
    is_truncated: bool


class Kept:
    """The first or the last ``most`` bytes of a stream."""

    def __init__(self, most: int, *, is_tail: bool) -> None:
        self.data = bytearray()
        self.is_truncated = False
        self._most = most
        self._is_tail = is_tail

    def add(self, chunk: bytes | bytearray) -> None:
        """The next bytes."""
        self.data += chunk
        excess = len(self.data) - self._most
        if excess > 0:
            self.is_truncated = True
            if self._is_tail:
                del self.data[:excess]
            else:
                del self.data[self._most :]


async def converse(child: Child, stdin: bytes, *, most_bytes: int) -> Finished:
    """Write ``stdin`` to ``child``, keep what it writes, wait for its end; it is reaped then.

    What it leaves behind in its process group is killed with it. If this is cancelled, the child
    runs on: whoever has started it ends it.
    """
    out, err = Kept(most_bytes, is_tail=False), Kept(most_bytes, is_tail=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_feed, child.process.stdin, stdin)
        nursery.start_soon(_drain, child.process.stdout, out)
        nursery.start_soon(_drain, child.process.stderr, err)
        await child.wait_ended()
        child.kill()  # what it has started holds the pipes open, and goes with it
        nursery.cancel_scope.deadline = trio.current_time() + DRAIN_SECONDS
    exit_code = await child.end()
    is_truncated = out.is_truncated or err.is_truncated
    return Finished(exit_code, bytes(out.data), bytes(err.data), is_truncated)


async def _feed(stream: trio.abc.SendStream | None, data: bytes) -> None:
    if stream is None:
        return
    async with stream:
        with contextlib.suppress(trio.BrokenResourceError):  # it need not read what it is told
            await stream.send_all(data)


async def _drain(stream: trio.abc.ReceiveStream | None, kept: Kept) -> None:
    if stream is None:
        return
    async with stream:
        while chunk := await stream.receive_some(_CHUNK_BYTES):
            kept.add(chunk)
