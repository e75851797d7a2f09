"""A client that finds everything on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bulkhead_trio.http.client import HTTPClient

from ._upstream import assert_at_rest, to_loopback


@pytest.fixture
async def client() -> AsyncIterator[HTTPClient]:
    """Open, with the usual limits; at rest in the end."""
    async with HTTPClient(resolve=to_loopback) as client:
        yield client
        assert_at_rest(client)
