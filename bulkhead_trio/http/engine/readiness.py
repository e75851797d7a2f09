"""Wakes connections when their sockets have something: one epoll for all, one task that asks it.

Each socket is registered once, edge-triggered, for as long as it lives. So waiting costs a
connection no system call, a connection that nobody reads costs nothing at all, and the peer's end
is noticed whatever the connection is doing.

Having something is not yet having a turn: turns on the loop are given account by account
(`Turns`), a round of them at a time, with everything else that is ready in between.
"""

from __future__ import annotations

import os
import select
import socket
from typing import Protocol

import trio

from bulkhead_trio.http.engine._turn_rules import Account, Turns
from bulkhead_trio.http.engine.meter import LoopMeter
from bulkhead_trio.http.engine.outbox import Outbox

MOST_EVENTS = 1024
"""Taken from the kernel at once; what is left comes with the next turn."""

GONE = select.EPOLLHUP | select.EPOLLERR
"""The peer is gone, in both directions."""

BROKEN = select.EPOLLERR
"""It has broken off; without this, what it had sent before can still be read."""

FINISHED = select.EPOLLRDHUP
"""The peer will send no more."""


class Watcher(Protocol):
    """What is told that a socket is ready."""

    def on_ready(self, events: int) -> None:
        """Called by the task that asks the kernel, with a mask of epoll's events; never waits."""

    def on_turn(self, taken_for: float, *, is_measured: bool) -> None:
        """The turn that it asked for has come, and was taken for so many seconds; never waits."""


class Readiness:
    """Tells watchers of their sockets and of their turns; `run` must be running."""

    def __init__(self) -> None:
        self.turns: Turns[Watcher] = Turns()
        self.outbox = Outbox()
        self._meter = LoopMeter()
        self._epoll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        # Rung when somebody asks for a turn while `run` waits for the kernel's news.
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._is_asleep = False

    def watch(self, sock: socket.socket, watcher: Watcher) -> None:
        """Tell ``watcher`` whenever ``sock`` comes to have something to read, or an end."""
        number = sock.fileno()
        self._watchers[number] = watcher
        self._epoll.register(number, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def forget(self, sock: socket.socket) -> None:
        """Tell of ``sock`` no more; to be called before it is closed."""
        number = sock.fileno()
        if self._watchers.pop(number, None) is not None:
            self._epoll.unregister(number)

    def ask(self, account: Account[Watcher], watcher: Watcher, party: str) -> None:
        """Give ``watcher``, which is of that party, a turn on ``account`` when it is its time."""
        self.turns.ask(account, watcher, party)
        if self._is_asleep:
            self._is_asleep = False
            os.eventfd_write(self._bell, 1)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask and tell until cancelled."""
        trio.lowlevel.add_instrument(self.outbox)
        task_status.started()
        try:
            await self._ask_and_tell()
        finally:
            trio.lowlevel.remove_instrument(self.outbox)

    async def _ask_and_tell(self) -> None:
        turns, epoll, watchers, meter = self.turns, self._epoll, self._watchers, self._meter
        while True:
            if turns.are_wanted:
                await trio.lowlevel.checkpoint()  # those whose turn it is, and all others, go first
            else:
                self._is_asleep = True
                await trio.lowlevel.wait_readable(epoll.fileno())
                self._is_asleep = False
            for number, events in epoll.poll(0, MOST_EVENTS):
                # It may have been forgotten by what another one was told just now.
                if (watcher := watchers.get(number)) is not None:
                    watcher.on_ready(events)
                elif number == self._bell:
                    os.eventfd_read(self._bell)
            if turns.are_wanted:
                meter.next_round()
                for watcher, taken_for in turns.take():
                    watcher.on_turn(taken_for, is_measured=meter.is_on)

    def close(self) -> None:
        """Give the kernel's side back, once nothing is watched any more."""
        self._meter.turn_off()
        self._epoll.close()
        os.close(self._bell)
