"""Wakes connections when their sockets have something: one epoll for all, one task that asks it.

Each socket is registered once, edge-triggered, for as long as it lives. So waiting costs a
connection no system call, a connection that nobody reads costs nothing at all, and the peer's end
is noticed whatever the connection is doing.
"""

from __future__ import annotations

import select
import socket
from typing import Protocol

import trio

MOST_EVENTS = 1024
"""Taken from the kernel at once; what is left comes with the next turn."""

GONE = select.EPOLLHUP | select.EPOLLERR
"""The peer is gone, in both directions."""

FINISHED = select.EPOLLRDHUP
"""The peer will send no more."""


class Watcher(Protocol):
    """What is told that a socket is ready."""

    def on_ready(self, events: int) -> None:
        """Called by the task that asks the kernel, with a mask of epoll's events; never waits."""


class Readiness:
    """Tells watchers of their sockets; `run` must be running."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watchers: dict[int, Watcher] = {}

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

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask and tell until cancelled."""
        task_status.started()
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for number, events in self._epoll.poll(0, MOST_EVENTS):
                # It may have been forgotten by what another one was told just now.
                if (watcher := self._watchers.get(number)) is not None:
                    watcher.on_ready(events)

    def close(self) -> None:
        """Give the kernel's side back, once nothing is watched any more."""
        self._epoll.close()
