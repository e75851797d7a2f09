"""The shape of a bulkhead that runs plain functions somewhere else: in a thread or a process."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, ParamSpec, TypeVar, TypeVarTuple

from bulkhead_trio.policies.policy import Kind

P = ParamSpec("P")
T = TypeVar("T")
Args = TypeVarTuple("Args")


class SyncPolicy(ABC):
    """Like `Policy`, but what it runs is a plain function, and what it makes of it is awaited.

    Inside other policies it stands innermost: ``await breaker.call(threads.call, function, 1)``.

    Attributes:
        name: for statistics, listeners and messages.
        kind: what it does.
        max_wait: seconds that a call may be kept waiting before it runs.
        obeys_cancellation: whether a call in it ends when its caller is cancelled.
    """

    name: str
    kind: ClassVar[Kind] = Kind.BULKHEAD
    max_wait: float = 0.0
    obeys_cancellation: bool = True

    @abstractmethod
    async def call(self, work: Callable[[*Args], T], *args: *Args) -> T:
        """Run ``work(*args)`` elsewhere, and wait for what it returns or raises.

        Raises:
            Rejected: no place is free, and ``work`` was not called.
        """

    @abstractmethod
    def statistics(self) -> object:
        """A frozen snapshot of what it holds now, and has counted so far."""

    def __call__(self, function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
        """Decorate a plain function: it becomes an async one that runs elsewhere."""

        @functools.wraps(function)
        async def elsewhere(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.call(functools.partial(function, *args, **kwargs))

        return elsewhere
