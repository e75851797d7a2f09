"""Several directories with a cache in common: what they save, and what they never believe."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from bulkhead_trio.database.changes import Changed, EverythingMayHaveChanged
from bulkhead_trio.errors import ApiKeyInvalid, StateUnavailable
from bulkhead_trio.tenancy import Caller, TenantDirectory
from bulkhead_trio.tenancy.shared import MOST_CHANGES, SharedLookups
from bulkhead_trio.testing.tenants import PEPPER, ScriptedTenants

from .test_directory import find, id_of


class Cache:
    """Keeps everything for five seconds, fails and dawdles as it is told."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[float, bytes]] = {}
        self.failure: Exception | None = None
        self.is_hanging = False
        self.asked = 0

    async def get(self, digest_hex: str) -> bytes | None:
        self.asked += 1
        await self._answer()
        until, value = self.kept.get(digest_hex, (0.0, b""))
        return value if trio.current_time() < until else None

    async def put(self, digest_hex: str, value: bytes) -> None:
        await self._answer()
        self.kept[digest_hex] = (trio.current_time() + 5, value)

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_hanging:
            await trio.sleep_forever()
        if self.failure is not None:
            raise self.failure


@asynccontextmanager
async def two(tenants: ScriptedTenants, cache: Cache) -> AsyncIterator[list[TenantDirectory]]:
    """Two instances that have seen the database's clock."""
    directories = [TenantDirectory(tenants, PEPPER, shared=cache) for _ in range(2)]
    async with trio.open_nursery() as nursery:
        for directory in directories:
            await nursery.start(directory.run)
            await find(directory, tenants.add()[0])
        await trio.testing.wait_all_tasks_blocked()
        tenants.queries = 0
        yield directories
        nursery.cancel_scope.cancel()


async def test_shared_lookup_serves_the_other_instance(autojump_clock: MockClock) -> None:
    """One query for both, for five seconds from when it was asked, and not for five more."""
    tenants, cache = ScriptedTenants(), Cache()
    async with two(tenants, cache) as (first, second):
        key, tenant = tenants.add()
        await find(first, key)
        await trio.sleep(3)
        assert await find(second, key) == Caller(tenant, id_of(key))
        assert tenants.queries == 1
        assert second.statistics().shared_hits == 1
        tenants.revoke(id_of(key))
        await trio.sleep(1.9)
        assert isinstance(second.find(key), Caller)
        await trio.sleep(0.2)
        with pytest.raises(ApiKeyInvalid):
            await find(second, key)


async def test_shared_lookup_is_for_the_very_key_only(autojump_clock: MockClock) -> None:
    """A wrong secret finds nothing there, and what is kept for it opens nothing."""
    tenants, cache = ScriptedTenants(), Cache()
    async with two(tenants, cache) as (first, second):
        key, _ = tenants.add()
        other, _ = tenants.add()
        await find(first, key)
        await trio.testing.wait_all_tasks_blocked()
        value = cache.kept[tenants.keys[id_of(key)].digest.hex()]
        cache.kept[tenants.keys[id_of(other)].digest.hex()] = value
        found = await find(second, other)
        assert found.key_id == id_of(other)
        with pytest.raises(ApiKeyInvalid):
            await find(second, f"bh_{id_of(key)}_{'A' * 43}")
        assert second.statistics().shared_hits == 0


@pytest.mark.parametrize("kind", ["key", "tenant", "everything"])
async def test_shared_lookup_from_before_a_change_is_not_believed(
    autojump_clock: MockClock, kind: str
) -> None:
    """A pushed revocation counts at once, whatever the others have left."""
    tenants, cache = ScriptedTenants(), Cache()
    async with two(tenants, cache) as (first, second):
        key, tenant = tenants.add()
        await find(first, key)
        await trio.testing.wait_all_tasks_blocked()
        tenants.revoke(id_of(key))
        if kind == "everything":
            second.on_change(EverythingMayHaveChanged(trio.current_time()))
        else:
            id_ = id_of(key) if kind == "key" else tenant.id
            second.on_change(Changed(kind, id_))  # type: ignore[arg-type]
        with pytest.raises(ApiKeyInvalid):
            await find(second, key)
        await trio.sleep(7.1)
        another, _ = tenants.add()
        await find(first, another)
        await trio.testing.wait_all_tasks_blocked()
        await find(second, another)
        assert second.statistics().shared_hits == 1, "it is believed again"


@pytest.mark.parametrize("failure", [StateUnavailable("away"), ValueError("odd"), None])
async def test_shared_cache_that_fails_is_as_if_it_were_empty(
    autojump_clock: MockClock, failure: Exception | None
) -> None:
    """Nobody is refused for it, and nobody waits for it longer than a moment."""
    tenants, cache = ScriptedTenants(), Cache()
    async with two(tenants, cache) as (first, second):
        key, tenant = tenants.add()
        cache.failure, cache.is_hanging = failure, failure is None
        began = trio.current_time()
        assert await find(first, key) == await find(second, key) == Caller(tenant, id_of(key))
        assert trio.current_time() - began <= 0.11
        assert tenants.queries == 2
        cache.failure, cache.is_hanging = None, False
        await trio.sleep(1)
        another, _ = tenants.add()
        await find(first, another)
        await trio.testing.wait_all_tasks_blocked()
        await find(second, another)
        assert tenants.queries == 3, "it is used again when it is well"


@pytest.mark.parametrize("value", [b"", b"odd", b"\xff" * 100, b"\x80"])
async def test_shared_value_of_another_release_is_none(
    autojump_clock: MockClock, value: bytes
) -> None:
    """What cannot be read was not there."""
    tenants, cache = ScriptedTenants(), Cache()
    async with two(tenants, cache) as (first, _):
        key, tenant = tenants.add()
        cache.kept[tenants.keys[id_of(key)].digest.hex()] = (trio.current_time() + 5, value)
        assert await find(first, key) == Caller(tenant, id_of(key))
        assert tenants.queries == 1


async def test_shared_cache_is_not_believed_without_the_databases_clock(
    autojump_clock: MockClock,
) -> None:
    """An instance that has not asked the database yet cannot tell how old anything is."""
    tenants, cache = ScriptedTenants(), Cache()
    key, _ = tenants.add()
    async with two(tenants, cache) as (first, _):
        await find(first, key)
        await trio.testing.wait_all_tasks_blocked()
        fresh = TenantDirectory(tenants, PEPPER, shared=cache)
        cache.asked = 0
        await find(fresh, key)
        assert (cache.asked, tenants.queries) == (0, 2)


async def test_shared_lookup_from_the_future_lives_no_longer(autojump_clock: MockClock) -> None:
    """A clock that jumped makes nothing younger than now."""
    tenants, cache = ScriptedTenants(), Cache()
    async with two(tenants, cache) as (first, second):
        key, _ = tenants.add()
        tenants.clock += 1000
        await find(first, key)
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(await find(second, key), Caller)
        tenants.revoke(id_of(key))
        await trio.sleep(5.01)
        with pytest.raises(ApiKeyInvalid):
            await find(second, key)


async def test_shared_doubts_are_bounded(autojump_clock: MockClock) -> None:
    """With too many changes to remember, nothing is believed for a while."""
    tenants, cache = ScriptedTenants(), Cache()
    key, _ = tenants.add()
    found = await tenants.find_key(id_of(key))
    assert found is not None
    lookups = SharedLookups(cache)
    lookups.leave(found, asked_at=trio.current_time())
    for number in range(MOST_CHANGES + 10):
        lookups.doubt(f"other {number}")
        assert len(lookups._doubted) <= MOST_CHANGES
    assert lookups._is_doubted(found, trio.current_time())
    await trio.sleep(7.1)
    assert not lookups._is_doubted(found, trio.current_time())
    lookups.doubt("x")
    await trio.sleep(8)
    lookups.doubt("y")
    assert len(lookups._doubted) <= 11
