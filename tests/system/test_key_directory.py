"""A directory, a feed of changes and a real PostgreSQL that comes and goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from statistics import median

import attrs
import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

from bulkhead_trio.database import PoolSettings, create_pool
from bulkhead_trio.database.audit import Author
from bulkhead_trio.database.changes import ChangeFeed, create_change_feed
from bulkhead_trio.database.tenants import TenantChanges, TenantDraft, TenantRecord, TenantStore
from bulkhead_trio.errors import ApiKeyInvalid, DatabaseUnavailable, TenantInactive
from bulkhead_trio.tenancy import Caller, KeyMaker, TenantDirectory

PEPPER = b"a pepper"
WHO = Author("tests")


@attrs.frozen
class Instance:
    store: TenantStore
    directory: TenantDirectory
    feed: ChangeFeed

    async def find(self, key: str) -> Caller:
        found = self.directory.find(key)
        return found if isinstance(found, Caller) else await found

    async def add(self, name: str = "Acme") -> tuple[str, TenantRecord]:
        issued = KeyMaker(PEPPER).make()
        tenant, _ = await self.store.create(TenantDraft(name, "free"), issued.record, WHO)
        return issued.text, tenant

    async def listens(self) -> None:
        """Wait until everything that is committed by now has been told."""
        now = trio.current_time()
        with trio.fail_after(10):
            while self.feed.statistics().heard_at < now:
                await trio.sleep(0.01)


@asynccontextmanager
async def instance(conninfo: str) -> AsyncIterator[Instance]:
    pool = create_pool("tenants", PoolSettings(conninfo))
    store = TenantStore(pool)
    directory = TenantDirectory(store, PEPPER)
    feed = create_change_feed(conninfo, [directory.on_change])
    async with trio.open_nursery() as nursery:
        for part in (pool, directory, feed):
            await nursery.start(part.run)
        found = Instance(store, directory, feed)
        await found.listens()
        yield found
        nursery.cancel_scope.cancel()


@contextmanager
def administrator(conninfo: str) -> Iterator[tuple[psycopg.Connection, str]]:
    """A connection beside the database, and its name."""
    name = str(conninfo_to_dict(conninfo)["dbname"])
    with psycopg.connect(conninfo, dbname="postgres", autocommit=True) as connection:
        yield connection, name


def cut_off(conninfo: str) -> None:
    """Everybody is thrown out of the database, and nobody let in."""
    with administrator(conninfo) as (connection, name):
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )


def let_in(conninfo: str) -> None:
    with administrator(conninfo) as (connection, name):
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


async def seconds_until(error: type[Exception], one: Instance, key: str) -> float:
    """How long it takes until the key is refused with ``error``."""
    began = trio.current_time()
    with trio.fail_after(10):
        while True:
            try:
                await one.find(key)
            except error:
                return trio.current_time() - began
            await trio.sleep(0.005)


async def test_directory_of_a_thousand_first_requests_makes_one_query(database: str) -> None:
    """However many ask for one key at once."""
    async with instance(database) as one:
        key, tenant = await one.add()
        await one.listens()  # what is told of it while it is asked for would be a second query
        found: list[Caller] = []

        async def ask() -> None:
            found.append(await one.find(key))

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(ask)
        assert {each.tenant for each in found} == {tenant}
        assert one.directory.statistics().lookups == 1


async def test_directory_elsewhere_sees_changes_at_once(database: str) -> None:
    """What one instance changes, the other knows within a moment, and without being asked."""
    async with instance(database) as one, instance(database) as other:
        taken: list[float] = []
        for number in range(10):
            key, tenant = await one.add(f"n{number}")
            assert (await other.find(key)).tenant == tenant
            if number % 2:
                await one.store.revoke_key(tenant.id, key.split("_")[1], WHO)
                expected: type[Exception] = ApiKeyInvalid
            else:
                await one.store.update(tenant.id, TenantChanges(active=False), None, WHO)
                expected = TenantInactive
            taken.append(await seconds_until(expected, other, key))
        assert median(taken) < 0.5


async def test_directory_that_was_cut_off_is_right_within_five_seconds(database: str) -> None:
    """A change that nobody told it of counts all the same."""
    async with instance(database) as one:
        key, tenant = await one.add()
        await one.find(key)
        await trio.sleep(2)  # until a heartbeat has vouched for it
        cut_off(database)
        let_in(database)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("UPDATE tenants SET active = false WHERE id = %s", (tenant.id,))
        assert await seconds_until(TenantInactive, one, key) <= 5.2


async def test_directory_without_its_database_serves_whom_it_knows(database: str) -> None:
    """For the rest of the five seconds, then says what is away; and recovers by itself."""
    async with instance(database) as one:
        key, tenant = await one.add()
        stranger, _ = await one.add("b")
        await one.find(key)
        await trio.sleep(6)
        assert isinstance(one.directory.find(key), Caller), "a heartbeat vouches for it"
        cut_off(database)
        with pytest.raises(DatabaseUnavailable):
            await one.find(stranger)
        took = await seconds_until(DatabaseUnavailable, one, key)
        assert 2.5 <= took <= 5.2
        assert not one.feed.statistics().is_listening
        let_in(database)
        with trio.fail_after(10):
            while True:
                try:
                    assert (await one.find(key)).tenant == tenant
                    break
                except DatabaseUnavailable:
                    await trio.sleep(0.05)
        await one.listens()
