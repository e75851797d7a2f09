"""What every policy is: something that runs a call, or refuses it, under a rule of its own."""

from __future__ import annotations

import enum
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, ParamSpec, TypeVar, TypeVarTuple

P = ParamSpec("P")
T = TypeVar("T")
Args = TypeVarTuple("Args")


class Kind(enum.Enum):
    """What a policy does, for whoever puts several together."""

    FALLBACK = "fallback"
    SINGLE_FLIGHT = "single flight"
    RETRY = "retry"
    HEDGE = "hedge"
    TIMEOUT = "timeout"
    THROTTLE = "throttle"
    RATE_LIMIT = "rate limit"
    BREAKER = "circuit breaker"
    BULKHEAD = "bulkhead"
    PIPELINE = "pipeline"


class Policy(ABC):
    """One resilience mechanism, usable by `call` and as a decorator of async functions.

    A policy that lets one call in and out once (a bulkhead, a breaker, a limiter, a timeout) is an
    async context manager too. One object serves any number of tasks at the same time.

    Attributes:
        name: for statistics, listeners and messages.
        kind: what it does.
        max_wait: seconds that a call may be kept waiting before it runs; ``math.inf`` where the
            caller's own deadline is the limit.
        obeys_cancellation: whether a call in it ends when its caller is cancelled.
    """

    name: str
    kind: ClassVar[Kind]
    max_wait: float = 0.0
    obeys_cancellation: bool = True

    @abstractmethod
    async def call(self, work: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run ``await work(*args)`` under this policy.

        Raises:
            Rejected: the policy refuses, and ``work`` was not called (again).
        """

    @abstractmethod
    def statistics(self) -> object:
        """A frozen snapshot of what the policy holds now, and has counted so far."""

    def __call__(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        """Decorate an async function: each call of it runs under this policy.

        Raises:
            TypeError: it is no function, or one that nobody can await.
        """
        # A pipeline that ends in what runs plain functions decorates those.
        if isinstance(getattr(self, "policies", (self,))[-1], Policy):
            check_async(function)

        @functools.wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.call(functools.partial(function, *args, **kwargs))

        return guarded


def check_async(function: Callable[..., object]) -> None:
    """Refuse to decorate what surely gives nothing to await.

    What cannot be told by looking passes: objects with a ``__call__``, built-in functions, and
    wrappers that name (``__wrapped__``) the async function that they call.

    Raises:
        TypeError: it cannot be called, or it is a generator, or it is a plain function.
    """
    if not callable(function):
        raise TypeError(f"an async function is wanted, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"an async function is wanted, not a generator: {function!r}")
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    is_plain = inspect.isfunction(inner) or inspect.ismethod(inner)
    if is_plain and not inspect.iscoroutinefunction(inner):
        raise TypeError(f"an async function is wanted, not a plain one: {function!r}")
