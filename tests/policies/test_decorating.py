"""What a policy can decorate: what gives something to await; the rest is refused at once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from bulkhead_trio import (
    Bulkhead,
    CircuitBreaker,
    Pipeline,
    Policy,
    Retry,
    SingleFlight,
    ThreadBulkhead,
)

POLICIES: list[Any] = [
    Bulkhead("test", 1),
    CircuitBreaker("test"),
    Retry(),
    Pipeline(Retry(), Bulkhead("test", 1)),
    SingleFlight().keyed(lambda *args: args),
]


async def double(number: int) -> int:
    return 2 * number


async def named(cls: type[object]) -> str:
    return cls.__name__


def plain(number: int) -> int:
    return 2 * number


def generate(number: int) -> Iterator[int]:
    yield number


async def generate_async(number: int) -> AsyncIterator[int]:
    yield number


class Doubler:
    """Something to call, with methods of several kinds."""

    async def __call__(self, number: int) -> int:
        return 2 * number

    async def double(self, number: int) -> int:
        return 2 * number

    def plain(self, number: int) -> int:
        return 2 * number


@functools.wraps(double)
def wrapper(number: int) -> Coroutine[Any, Any, int]:
    """As other libraries wrap an async function in a plain one."""
    return double(number)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize(
    "function",
    [double, functools.partial(double), Doubler(), Doubler().double, wrapper, Retry()(double)],
)
async def test_what_can_be_awaited_is_decorated(
    policy: Policy, function: Callable[[int], Coroutine[Any, Any, int]]
) -> None:
    """An async function, and all that stands for one."""
    assert await policy(function)(4) == 8


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize(
    ("function", "why"),
    [
        (plain, "not a plain one"),
        (functools.partial(plain, 1), "not a plain one"),
        (functools.wraps(plain)(functools.partial(plain)), "not a plain one"),
        (Doubler().plain, "not a plain one"),
        (contextlib.asynccontextmanager(generate_async), "not a plain one"),
        (lambda: double(4), "not a plain one"),
        (generate, "not a generator"),
        (functools.partial(generate, 1), "not a generator"),
        (generate_async, "not a generator"),
        (5, "not 5"),
        (None, "not None"),
        (classmethod(named), "not <classmethod"),
    ],
)
def test_what_cannot_be_awaited_is_refused(policy: Policy, function: Any, why: str) -> None:
    """When it is decorated, and not as a failure of each call."""
    with pytest.raises(TypeError, match=f"an async function is wanted, {why}"):
        policy(function)


async def test_plain_function_is_decorated_by_what_runs_those() -> None:
    """Threads run plain functions, and so does a pipeline that ends in them."""
    threads = ThreadBulkhead("test", 1)
    assert await threads(plain)(4) == 8
    pipeline: Any = Pipeline(Retry(), threads)
    assert await pipeline(plain)(4) == 8
