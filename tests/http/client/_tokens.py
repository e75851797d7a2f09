"""A token endpoint and sources that ask it, on the mock clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import trio

from bulkhead_trio.http.client import HTTPClient
from bulkhead_trio.http.client.oauth2 import ClientCredentials, TokenCache, TokenSource
from bulkhead_trio.testing.upstream import Answer, Script, ScriptedUpstream
from bulkhead_trio.testing.upstream.script import Rule, Step
from bulkhead_trio.testing.upstream.server import resolve_to_loopback

SECRET = "hush-hush"


def token_answer(value: str = "one", expires_in: object = 3600, **members: Any) -> Answer:
    """A good answer of a token endpoint."""
    body = {"access_token": value, "token_type": "Bearer", "expires_in": expires_in}
    return Answer(body=msgspec.json.encode(body).decode(), **members)


def steps(*each: Step) -> Script:
    """These in turn, and the last for all that follow."""
    return Script(rules=(Rule(steps=each, then="last"),))


class MemoryCache:
    """A `TokenCache` that behaves as Redis does: what is put goes when its time is over.

    Attributes:
        is_away: it knows nothing, and keeps nothing.
        seconds: that each call takes.
    """

    def __init__(self) -> None:
        self.is_away = False
        self.seconds = 0.0
        self._kept: tuple[bytes, float] | None = None

    async def get(self) -> tuple[bytes, float] | None:
        await trio.sleep(self.seconds)
        if self._kept is None or self.is_away:
            return None
        packed, ends_at = self._kept
        left = ends_at - trio.current_time()
        return (packed, left) if left > 0 else None

    async def put(self, packed: bytes, *, seconds: float) -> None:
        await trio.sleep(self.seconds)
        if not self.is_away:
            self._kept = (packed, trio.current_time() + seconds)


@attrs.frozen
class Desk:
    """An endpoint, and what asks it.

    Attributes:
        endpoint: gives tokens.
        client: asks.
        nursery: where sources run.
    """

    endpoint: ScriptedUpstream
    client: HTTPClient
    nursery: trio.Nursery

    def source(self, cache: TokenCache | None = None, random: float = 0.0) -> TokenSource:
        """A source that does not run."""
        url = f"{self.endpoint.url}/token"
        credentials = ClientCredentials(url, "bt", SECRET, scope="a b")
        return TokenSource("billing", credentials, self.client, cache=cache, random=lambda: random)

    async def running(self, cache: TokenCache | None = None, random: float = 0.0) -> TokenSource:
        """A source that runs."""
        source = self.source(cache, random)
        await self.nursery.start(source.run)
        return source

    @property
    def asked(self) -> int:
        """How often the endpoint was asked."""
        return self.endpoint.seen().count


@asynccontextmanager
async def desk(*each: Step) -> AsyncIterator[Desk]:
    """An endpoint that does these steps, for as long as the block lasts."""
    async with (
        ScriptedUpstream(steps(*each)) as endpoint,
        HTTPClient(resolve=resolve_to_loopback) as client,
        trio.open_nursery() as nursery,
    ):
        yield Desk(endpoint, client, nursery)
        nursery.cancel_scope.cancel()
