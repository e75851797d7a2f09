"""Redis servers that come and go, and what several instances have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bulkhead_trio.testing.redis import RedisServer


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis for a module, on a Unix socket: it can be frozen, killed and started again."""
    with RedisServer() as server:
        yield server
