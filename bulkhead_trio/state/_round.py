"""What is asked of Redis in one turn of the event loop, by whichever tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import trio

from bulkhead_trio.state._commands import Command


class Part:
    """One caller's commands, and what has become of them."""

    __slots__ = ("_task", "answers", "commands", "is_settled")

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.answers: Sequence[Any] | None = None
        self.is_settled = False
        self._task: trio.lowlevel.Task | None = None

    def settle(self, answers: Sequence[Any] | None) -> None:
        """The answers, errors among them; ``None``: there are none."""
        self.answers = answers
        self.is_settled = True
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)

    async def wait(self) -> None:
        """Wait until it is settled, which has a limit; a caller that is cancelled goes then."""
        if self.is_settled:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)


class Round:
    """The parts that go together; whoever came first sends them."""

    __slots__ = ("deadline", "parts")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.deadline = math.inf

    def join(self, part: Part, deadline: float) -> None:
        """One more; the earliest limit is everybody's."""
        self.parts.append(part)
        self.deadline = min(self.deadline, deadline)

    @property
    def commands(self) -> list[Command]:
        """Those of all parts."""
        return [command for part in self.parts for command in part.commands]

    def settle(self, answers: Sequence[Any] | None) -> None:
        """Give every part its own."""
        at = 0
        for part in self.parts:
            size = len(part.commands)
            part.settle(None if answers is None else answers[at : at + size])
            at += size
