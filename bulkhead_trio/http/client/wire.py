"""A socket to an upstream: what waits for it, and what a limit wakes.

It is watched by one epoll for all sockets of a client, registered once and edge-triggered, as the
server's are. So a request costs no system call for waiting, and no timer: by when something has to
have come is a number, ``deadline``, that the client looks at ten times a second. Trio's own way,
``wait_readable`` within a cancel scope that has a deadline, takes 20 microseconds more a request.
"""

from __future__ import annotations

import math
import socket

import outcome
import trio

from bulkhead_trio.http.engine.readiness import FINISHED, GONE, Readiness

READ_BYTES = 65_536
"""Read at once, and the most that is held of a body that nobody has asked for yet."""

NEVER = math.inf


class LimitPassed(Exception):
    """Somebody has waited too long."""


class NothingThere(Exception):
    """Nothing can be read without waiting."""


class Wire:
    """One socket, connected or to be connected; one task reads from it, one may write to it.

    Args:
        sock: not blocking; the wire closes it.
        readiness: tells of it; `watch` begins that.
    """

    __slots__ = ("_is_broken", "_is_finished", "_is_readable", "_is_watched", "_readiness", "_task",
                 "_waiting", "deadline", "is_closed", "on_news", "sock")  # fmt: skip

    def __init__(self, sock: socket.socket, readiness: Readiness) -> None:
        self.sock = sock
        self.deadline = NEVER
        self.is_closed = False
        self.on_news: Watched | None = None
        self._readiness = readiness
        self._is_watched = False
        self._is_readable = False
        self._is_finished = False
        self._is_broken = False
        self._waiting = b""
        self._task: trio.lowlevel.Task | None = None

    def watch(self) -> None:
        """Be told of the socket from now on."""
        self._readiness.watch(self.sock, self)
        self._is_watched = True

    # --- reading ---------------------------------------------------------------------------------

    def recv_now(self) -> bytes | None:
        """What has come: ``None`` for nothing yet, ``b""`` for the end.

        Raises:
            OSError: the peer is gone.
        """
        if not self._is_readable:
            return None
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            self._is_readable = False
            return None
        # A short read has emptied the socket; whatever comes later is news again. But an end that
        # has been announced already will not be announced twice.
        self._is_readable = len(data) == READ_BYTES or self._is_finished
        return data

    async def receive(self) -> bytes:
        """What comes next, ``b""`` at the end; others have a turn before.

        Raises:
            LimitPassed: ``deadline`` has.
            OSError: the peer is gone.
            trio.ClosedResourceError: the client was closed meanwhile.
        """
        if self._is_readable:
            await trio.lowlevel.checkpoint()
        while (data := self.recv_now()) is None:
            await self._park()
        return data

    async def _park(self) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError
        if self._is_broken:
            raise ConnectionResetError("the request could not be sent")
        self._task = trio.lowlevel.current_task()

        def leave(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    @property
    def may_have_news(self) -> bool:
        """Whether the kernel has told of something that has not been read, as far as is known."""
        return self._is_readable

    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody has asked for, nor the end; what has is lost."""
        if self.is_closed:
            return False
        try:
            self.sock.recv(1)
        except BlockingIOError:
            self._is_readable = False
            return True
        except OSError:
            return False
        return False

    # --- writing ---------------------------------------------------------------------------------

    def send_now(self, data: bytes | memoryview) -> int:
        """Give the kernel what it takes of ``data`` without waiting; says how much.

        Raises:
            OSError: the peer is gone.
        """
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    def send_soon(self, data: bytes) -> None:
        """Give ``data``, which is little, to the kernel together with what others send.

        Where it cannot be sent, or not all of it, whoever reads is told.
        """
        self._waiting = data
        self._readiness.outbox.put(self)

    def send_waiting(self) -> None:
        """Called when the moment has come."""
        data, self._waiting = self._waiting, b""
        if not data or self.is_closed:
            return
        try:
            is_sent = self.sock.send(data) == len(data)
        except OSError:
            is_sent = False
        if not is_sent:
            self._is_broken = True
            self._wake(ConnectionResetError("the request could not be sent"))

    async def send_all(self, data: bytes | memoryview, seconds: float) -> None:
        """Give all of ``data`` to the kernel.

        Args:
            data: the bytes.
            seconds: the longest time in which it takes none.

        Raises:
            LimitPassed: the peer does not read.
            OSError: the peer is gone.
            trio.ClosedResourceError: the client was closed meanwhile.
        """
        sent = self.send_now(data)
        if sent == len(data):
            return
        with memoryview(data) as view:
            while sent < len(view):
                await self.writable(seconds)
                sent += self.send_now(view[sent:])

    async def writable(self, seconds: float) -> None:
        """Wait until the socket takes something, or is connected.

        Raises:
            LimitPassed: it does not.
            trio.ClosedResourceError: the client was closed meanwhile.
        """
        if self.is_closed:
            raise trio.ClosedResourceError
        with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
            await trio.lowlevel.wait_writable(self.sock)
        if scope.cancelled_caught:
            raise LimitPassed

    # --- what others tell it ---------------------------------------------------------------------

    def on_ready(self, events: int) -> None:
        """The kernel has news of the socket."""
        self._is_readable = True
        if events & (GONE | FINISHED):
            self._is_finished = True
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)
        elif self.on_news is not None:
            self.on_news.on_news()

    def on_turn(self, taken_for: float, *, is_measured: bool) -> None:
        """Never called: an answer is not kept waiting for a turn."""

    def check_deadline(self, now: float) -> None:
        """Wake who has waited too long."""
        if self.deadline <= now:
            self._wake(LimitPassed())

    def close(self) -> None:
        """Close the socket; whoever waits for it gets `trio.ClosedResourceError`."""
        if self.is_closed:
            return
        self.is_closed = True
        self._wake(trio.ClosedResourceError())
        if self._is_watched:
            self._readiness.forget(self.sock)
        trio.lowlevel.notify_closing(self.sock)
        self.sock.close()

    def _wake(self, error: Exception) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task, outcome.Error(error))


class Watched:
    """What is told that something came on a wire which nobody reads."""

    __slots__ = ()

    def on_news(self) -> None:
        """Called by the task that asks the kernel; never waits."""
        raise NotImplementedError


class WireStream(trio.abc.Stream):
    """A wire as Trio's streams are, for TLS on top of it.

    Attributes:
        may_wait: whether `receive_some` waits; otherwise it raises `NothingThere`.

    Args:
        wire: it.
        write_seconds: the longest time in which the peer takes nothing.
    """

    def __init__(self, wire: Wire, write_seconds: float) -> None:
        self._wire = wire
        self._write_seconds = write_seconds
        self.may_wait = True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it; raises what `Wire.send_all` does."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._wire.send_all(bytes(data), self._write_seconds)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until something could be sent."""
        await self._wire.writable(self._write_seconds)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002
        """What comes next, however much it is.

        Raises:
            NothingThere: nothing has come, and it may not wait.
        """
        if self.may_wait:
            return await self._wire.receive()
        data = self._wire.recv_now()
        if data is None:
            raise NothingThere
        return data

    async def aclose(self) -> None:
        """Close the socket."""
        self._wire.close()
        await trio.lowlevel.checkpoint()
