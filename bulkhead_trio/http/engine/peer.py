"""One client's socket: what comes and goes on it, what waits for it, and since when.

Limits cost no timer: a peer's connection says in ``deadline`` by when it must have got on, and the
server looks at all of them a few times a second.
"""

from __future__ import annotations

import enum
import socket

import trio

from bulkhead_trio.http.engine.readiness import BROKEN, FINISHED, GONE, Readiness
from bulkhead_trio.http.engine.turn_taker import TurnTaker
from bulkhead_trio.http.limits import ConnectionLimits

READ_BYTES = 65_536
"""Read at once, and the most that is held of a body that the application has not asked for."""

SENT_ON_BYTES = 65_536
"""Sent without a pause to a peer that takes all of it; then others have the loop first."""

WRITE_IS_LIKE_BYTES = 4096
"""What each write adds to that: many small ones hold the loop up as well."""

NEVER = float("inf")


class Phase(enum.Enum):
    """What a connection is waiting for."""

    IDLE = "a request to begin"
    HEAD = "the rest of a head"
    BODY = "more of a body"
    APPLICATION = "the application"
    WRITE = "the peer to read"
    TURN = "a turn on the event loop"
    REFUSED = "its turn to be read again"
    HANDED_OVER = "another protocol"
    TUNNEL = "bytes of another protocol"
    CLOSING = "the peer to close"


class Peer(TurnTaker):
    """A socket, and whoever is at its other end.

    Args:
        readiness: tells of the socket, and gives turns.
        account: the name of the account that pays for them.
        sock: connected, not blocking.
        limits: on waiting.

    Attributes:
        scope: of everything that is done for it; cancelled when it goes, or a limit has passed.
        deadline: when that is.
        phase: what it waits for.
        is_finished: whether it will send no more.
        has_gone: whether it has gone.
        is_tunnel: whether another protocol is spoken.
    """

    __slots__ = (
        "_is_readable", "_limits", "_outgoing", "_sent_on", "deadline", "has_gone", "is_finished",
        "is_tunnel", "phase", "scope", "sock",
    )  # fmt: skip

    def __init__(
        self, readiness: Readiness, account: str, sock: socket.socket, limits: ConnectionLimits
    ) -> None:
        super().__init__(readiness, account)
        self.sock = sock
        self.scope = trio.CancelScope()
        self.deadline = NEVER
        self.phase = Phase.HEAD
        self.is_finished = False
        self.is_tunnel = False
        self.has_gone = False
        self._limits = limits
        self._is_readable = False
        self._outgoing = b""
        self._sent_on = 0

    def _allow(self, seconds: float) -> None:
        self.deadline = trio.current_time() + seconds

    def _allow_our_turn(self) -> None:
        """No limit while it is for us to get on; unless the peer has finished sending.

        That looks just as if it had gone. An answer that is nearly ready may still get out.
        """
        if self.is_finished and not self.is_tunnel:
            self._allow(self._limits.half_closed)
        else:
            self.deadline = NEVER

    # --- reading ---------------------------------------------------------------------------------

    def sock_recv(self) -> bytes | None:
        """What has come: ``None`` for nothing yet, ``b""`` for the end."""
        if not self._is_readable:
            return None
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            self._is_readable = False
            return None
        # A short read has emptied the socket; whatever comes later is news again. But an end that
        # has been announced already will not be announced twice.
        self._is_readable = len(data) == READ_BYTES or self.is_finished
        return data

    async def receive(self) -> bytes:
        """What comes next, ``b""`` at the end; who sends without a pause waits for its turns.

        Raises:
            OSError: the peer has gone.
        """
        if self._is_readable:
            await self.next_turn()
        while (data := self.sock_recv()) is None:
            await self.park()
        return data

    async def until_gone(self) -> None:
        """Park until the peer has gone; what it sends meanwhile stays where it is.

        A peer that has only finished sending has gone when the time is over that an answer has to
        get out still.
        """
        while not self.is_finished:
            await self.park()
        if not self.has_gone:
            await trio.sleep(self._limits.half_closed)

    # --- what others tell it ---------------------------------------------------------------------

    def on_ready(self, events: int) -> None:
        """The kernel has news of the socket."""
        self._is_readable = True
        if events & GONE:
            self.is_finished = True
            # In a tunnel both may have finished; what came before can still be read.
            if events & BROKEN or not self.is_tunnel:
                self.has_gone = True
                self.scope.cancel()
        elif events & FINISHED and not self.is_finished:
            self.is_finished = True
            if not self.is_tunnel and self.phase in (
                Phase.APPLICATION,
                Phase.WRITE,
                Phase.TURN,
                Phase.REFUSED,
            ):
                self._allow_our_turn()
        if self.is_parked:
            self.ask_for_turn()

    # --- writing ---------------------------------------------------------------------------------

    def write_soon(self, data: bytes) -> bool:
        """Give the end of an answer to the kernel together with others, in a moment.

        What the kernel does not take then is written before anything else is. Until that is done,
        no more can wait: then nothing happens, and `write` has to be used.
        """
        if self._outgoing:
            return False
        self._outgoing = data
        self._readiness.outbox.put(self)
        return True

    def send_waiting(self) -> None:
        """Called when the moment has come."""
        if not (data := self._outgoing):
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(data)  # the peer has gone; the kernel tells the task
        self._outgoing = data[sent:]
        if self._outgoing and self._task is not None:
            self.ask_for_turn()

    async def write(self, data: bytes) -> None:
        """Give all of ``data`` to the kernel; waits while the peer does not read.

        Raises:
            OSError: the peer has gone.
        """
        if self._outgoing:
            data, self._outgoing = self._outgoing + data, b""
        elif not data:
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            self._sent_on += sent + WRITE_IS_LIKE_BYTES
            if self._sent_on >= SENT_ON_BYTES:
                self._sent_on = 0
                await trio.lowlevel.checkpoint()
            return
        view = memoryview(data)
        before, self.phase = self.phase, Phase.WRITE
        while sent < len(view):
            self._allow(self._limits.write)
            await trio.lowlevel.wait_writable(self.sock)
            try:
                sent += self.sock.send(view[sent:])
            except BlockingIOError:
                continue
        self.phase = before
        self._allow_our_turn()
