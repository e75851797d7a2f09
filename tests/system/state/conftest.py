"""Redis servers, and instances that share one."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import redis
import trio

from bulkhead_trio.state import OnStateError, Shared
from bulkhead_trio.testing.redis import RedisServer

PATIENT_SECONDS = 2.0
"""Limit of a call where a test is of something else: a machine that is busy with others is slow."""


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server of the test's own, empty."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def module_redis() -> Iterator[RedisServer]:
    """A server for the tests of a module."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(module_redis: RedisServer) -> Iterator[redis.Redis]:
    """A plain client of the module's server."""
    with redis.Redis(unix_socket_path=module_redis.url.removeprefix("unix://")) as client:
        yield client


_names = itertools.count(1)


@asynccontextmanager
async def sharing(
    url: str,
    count: int = 2,
    on_error: OnStateError = OnStateError.LOCAL,
    *,
    call_seconds: float = PATIENT_SECONDS,
) -> AsyncIterator[list[Shared]]:
    """Several instances in this process, all of which know of each other."""
    instances = [
        Shared(url, on_error=on_error, instance_id=f"i{next(_names)}", call_seconds=call_seconds)
        for _ in range(count)
    ]
    async with trio.open_nursery() as nursery:
        for each in instances:
            await nursery.start(each.run)
        with trio.fail_after(5):
            while any(each.instances.count < count for each in instances):
                await trio.sleep(0.005)
        yield instances
        nursery.cancel_scope.cancel()


async def eventually(holds: Callable[[], object], *, within: float = 5.0) -> None:
    """Wait until ``holds()``, and fail where that does not come."""
    with trio.fail_after(within):
        while not holds():
            await trio.sleep(0.005)
