"""How many bytes a limiter keeps for a key, beyond the key itself."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import attrs
import trio

from bench.overhead.jobs import MANY_KEYS, MOST_BYTES_A_KEY
from bench.overhead.ours import PACKAGE, UNITS, UNITS_A_SECOND
from bench.overhead.stages import describe
from bench.overhead.subjects import WrongSubject
from bulkhead_trio.policies.rate import FixedWindow, KeyedRateLimiter, Rule, TokenBucket

Asking = Callable[[str], object]
"""Asks a limiter for one unit of a key."""


@attrs.frozen
class KeyMemory:
    """Bytes that a limiter has allocated for each of many keys.

    Attributes:
        bytes_a_key: ``None`` where it could not be measured.
        bar: how many it may be at most; ``None`` where none is set.
        problem: why it could not be measured.
    """

    package: str
    label: str
    keys: int
    bytes_a_key: float | None
    bar: float | None = None
    problem: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the bar is, if there is one."""
        return self.bar is None or (self.bytes_a_key is not None and self.bytes_a_key <= self.bar)


def _ours(rule: Rule[Any]) -> Callable[[], Asking]:
    def make() -> Asking:
        limiter = KeyedRateLimiter(rule, max_keys=MANY_KEYS)

        def ask(key: str) -> None:
            if not limiter.acquire_nowait(key).allowed:
                raise WrongSubject("the limiter refused")

        return ask

    return make


def _limits(strategy: str) -> Callable[[], Asking]:
    def make() -> Asking:
        limits: Any = import_module("limits")
        storage = import_module("limits.storage").MemoryStorage()
        limiter = getattr(import_module("limits.strategies"), f"{strategy}RateLimiter")(storage)
        item = limits.RateLimitItemPerHour(UNITS)
        return lambda key: limiter.hit(item, key)

    return make


LIMITERS: tuple[tuple[str, str, Callable[[], Asking], float | None], ...] = (
    (
        PACKAGE,
        "KeyedRateLimiter, TokenBucket",
        _ours(TokenBucket(rate=UNITS_A_SECOND, capacity=UNITS)),
        MOST_BYTES_A_KEY,
    ),
    (
        PACKAGE,
        "KeyedRateLimiter, FixedWindow",
        _ours(FixedWindow(limit=UNITS, seconds=3600)),
        MOST_BYTES_A_KEY,
    ),
    ("limits", "FixedWindow", _limits("FixedWindow"), None),
    ("limits", "MovingWindow", _limits("MovingWindow"), None),
)


async def measure_key_memory() -> list[KeyMemory]:
    """Ask each limiter once for each of `MANY_KEYS`, and count what that has allocated."""
    keys = [f"client-{number}" for number in range(MANY_KEYS)]
    measured = []
    for package, label, make, bar in LIMITERS:
        try:
            figure = bytes_a_key(make(), keys)
        except ImportError as error:
            measured.append(KeyMemory(package, label, MANY_KEYS, None, bar, describe(error)))
        else:
            measured.append(KeyMemory(package, label, MANY_KEYS, figure, bar))
        await trio.lowlevel.checkpoint()
    return measured


def bytes_a_key(ask: Asking, keys: Sequence[str]) -> float:
    """Bytes allocated, and still held, for each of ``keys`` that ``ask`` is called with."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for key in keys:
            ask(key)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / len(keys)
