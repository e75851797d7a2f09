"""Tokens of identities in a real Redis: sealed, for their time, and never waited for."""

from __future__ import annotations

import uuid

import pytest
import redis
import trio

from bulkhead_trio.delivery.sealing import Sealer
from bulkhead_trio.http.client import HTTPClient
from bulkhead_trio.http.client.oauth2 import ClientCredentials, TokenSource
from bulkhead_trio.state import Shared
from bulkhead_trio.state.tokens import RedisTokenCache
from bulkhead_trio.testing.redis import RedisServer
from bulkhead_trio.testing.upstream import Answer, ScriptedUpstream, always

from .conftest import eventually, sharing

TOKEN = Answer(body='{"access_token":"hush-token","token_type":"Bearer","expires_in":600}')


def sealed_by(shared: Shared, key: bytes = b"k", about: str = "a") -> RedisTokenCache:
    """A cache whose seal is a mark, so that a test can see it."""

    def unseal(sealed: bytes) -> bytes | None:
        return sealed.removeprefix(key)[::-1] if sealed.startswith(key) else None

    return RedisTokenCache(
        shared.state, "billing", about=about, seal=lambda plain: key + plain[::-1], unseal=unseal
    )


async def test_token_is_kept_for_its_time(module_redis: RedisServer, client: redis.Redis) -> None:
    """Under a key that a cluster keeps together, sealed, and with what is left of its life."""
    client.flushall()
    async with sharing(module_redis.url) as (one, other):
        assert await sealed_by(one).get() is None
        await sealed_by(one).put(b"secret", seconds=60)
        found = await sealed_by(other).get()
        assert found is not None
        assert found[0] == b"secret"
        assert 58 < found[1] <= 60
        (key,) = client.keys("token:*")
        assert key.startswith(b"token:{billing}:")
        assert b"secret" not in client.get(key)
        assert 58_000 < client.pttl(key) <= 60_000


async def test_token_of_another_configuration_is_not_found(
    module_redis: RedisServer, client: redis.Redis
) -> None:
    """Another scope is another key, another secret does not open it, and garbage is none."""
    client.flushall()
    async with sharing(module_redis.url, 1) as (one,):
        await sealed_by(one).put(b"secret", seconds=60)
        assert await sealed_by(one, about="b").get() is None
        assert await sealed_by(one, key=b"other").get() is None
        (key,) = client.keys("token:*")
        client.persist(key)
        assert await sealed_by(one).get() is None  # nothing of ours is there for ever
        client.set(key, b"k" * 100_000, ex=60)
        assert await sealed_by(one).get() is None
        client.delete(key)
        client.rpush(key, b"k")
        assert await sealed_by(one).get() is None
        await sealed_by(one).put(b"secret", seconds=0)
        assert client.type(key) == b"list"


async def test_redis_away_is_as_if_there_were_none(redis_server: RedisServer) -> None:
    """A Redis that hangs costs its limit once, and nothing after that."""
    async with sharing(redis_server.url, 1, call_seconds=0.05) as (one,):
        cache = sealed_by(one)
        await cache.put(b"secret", seconds=60)
        redis_server.freeze()
        try:
            began = trio.current_time()
            assert await cache.get() is None
            assert trio.current_time() - began < 0.5
            assert not one.state.is_up
            began = trio.current_time()
            for _ in range(100):
                assert await cache.get() is None
                await cache.put(b"other", seconds=60)
            assert trio.current_time() - began < 0.5
        finally:
            redis_server.thaw()
        await eventually(lambda: one.state.is_up)


@pytest.mark.parametrize("is_away", [False, True])
async def test_instances_ask_once_for_a_token(redis_server: RedisServer, is_away: bool) -> None:
    """Together where there is a Redis, each for itself where it is away."""
    sealer = Sealer("server-secret", purpose="identity tokens")
    row = uuid.uuid5(uuid.NAMESPACE_URL, "billing")
    async with (
        sharing(redis_server.url) as instances,
        ScriptedUpstream(always(TOKEN)) as endpoint,
        HTTPClient() as asking,
    ):
        if is_away:
            redis_server.kill()
            await eventually(lambda: not any(each.state.is_up for each in instances))
        for each in instances:
            cache = RedisTokenCache(
                each.state,
                "billing",
                about="a",
                seal=lambda plain: sealer.seal(plain, bound_to=row),
                unseal=lambda sealed: sealer.unseal(sealed, bound_to=row),
            )
            credentials = ClientCredentials(f"{endpoint.url}/token", "bt", "hush")
            source = TokenSource("billing", credentials, asking, cache=cache)
            with trio.fail_after(5):
                assert await source.token() == "hush-token"
        assert endpoint.seen().count == (2 if is_away else 1)
