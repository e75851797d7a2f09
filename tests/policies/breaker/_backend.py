"""What the breaker's tests call."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from bulkhead_trio.policies.breaker import CircuitBreaker


class BackendError(Exception):
    """What the tests' backend fails with."""


async def fail(seconds: float = 0.0) -> None:
    await trio.sleep(seconds)
    raise BackendError


async def answer(value: Any) -> Any:
    return value


async def failing(breaker: CircuitBreaker, times: int = 1) -> None:
    """Let as many calls fail."""
    for _ in range(times):
        with pytest.raises(BackendError):
            await breaker.call(fail)
