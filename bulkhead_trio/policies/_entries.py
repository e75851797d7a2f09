"""What ``async with policy:`` keeps between its two ends, when many tasks share one policy."""

from __future__ import annotations

import inspect
from typing import Generic, TypeVar

from trio.lowlevel import Task, current_task

T = TypeVar("T")


class Entries(Generic[T]):
    """One stack a task: blocks of one task nest, so what was entered last is left first.

    A block inside an async generator may be left by another task than entered it: Trio's own, when
    the generator is thrown away unfinished. What was entered has to come back then too, so it is
    looked for elsewhere; with the tasks that have ended, first of all.
    """

    __slots__ = ("_stacks",)

    def __init__(self) -> None:
        self._stacks: dict[Task, list[T]] = {}

    def push(self, entry: T) -> None:
        """Keep ``entry`` for the block that the current task enters."""
        task = current_task()
        if task in self._stacks:
            self._stacks[task].append(entry)
        else:
            self._stacks[task] = [entry]

    def pop(self) -> T:
        """The entry of the block that the current task leaves.

        Raises:
            RuntimeError: nobody is in such a block.
        """
        task = current_task()
        if task not in self._stacks:
            task = self._somebody_elses()
        stack = self._stacks[task]
        entry = stack.pop()
        if not stack:
            del self._stacks[task]
        return entry

    def _somebody_elses(self) -> Task:
        if not self._stacks:
            raise RuntimeError("nobody has entered this block")
        for task in self._stacks:
            if inspect.getcoroutinestate(task.coro) == inspect.CORO_CLOSED:
                return task
        return next(reversed(self._stacks))
