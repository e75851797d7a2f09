"""What ``async with policy:`` keeps between its two ends, when many tasks share one policy."""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Entries(Generic[T]):
    """One stack a task: blocks of one task nest, so what was entered last is left first."""

    __slots__ = ("_stacks",)

    def __init__(self) -> None:
        self._stacks: dict[trio.lowlevel.Task, list[T]] = {}

    def push(self, entry: T) -> None:
        """Keep ``entry`` for the block that the current task enters."""
        self._stacks.setdefault(trio.lowlevel.current_task(), []).append(entry)

    def pop(self) -> T:
        """The entry of the block that the current task leaves.

        Raises:
            RuntimeError: this task entered no such block; the two ends belong to one task.
        """
        task = trio.lowlevel.current_task()
        stack = self._stacks.get(task)
        if not stack:
            raise RuntimeError("a block has to be left by the task that entered it")
        entry = stack.pop()
        if not stack:
            del self._stacks[task]
        return entry
