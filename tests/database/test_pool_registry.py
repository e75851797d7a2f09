"""Pools by function, on a real PostgreSQL."""

from __future__ import annotations

import math

import psycopg
import pytest
import trio

from bulkhead_trio.database import PoolRegistry, PoolSettings, UnknownPool
from bulkhead_trio.errors import DatabaseUnavailable, DeadlineExceeded


async def test_registry_execute_answers_with_rows(postgres_conninfo: str) -> None:
    """Rows come as tuples; a statement without a result has none."""
    async with PoolRegistry({"analytics": PoolSettings(postgres_conninfo)}) as pools:
        assert await pools.execute("analytics", "SELECT %s::int + 1, 'a'", (1,)) == [(2, "a")]
        assert await pools.execute("analytics", "SET search_path TO public") == []


async def test_registry_unknown_name_is_told_with_those_there_are(postgres_conninfo: str) -> None:
    """A name that is none says so, before anything is connected to."""
    async with PoolRegistry({"batch": PoolSettings(postgres_conninfo)}) as pools:
        with pytest.raises(UnknownPool, match="no pool 'analytcs'; there are: batch") as told:
            await pools.execute("analytcs", "SELECT 1")
        assert isinstance(told.value, LookupError)
        assert pools.statistics()["batch"].opened == 0


async def test_registry_full_pool_does_not_hold_up_another(postgres_conninfo: str) -> None:
    """While analytics has every connection of its own in use, transactions go on."""
    settings = {
        "analytics": PoolSettings(postgres_conninfo, max_size=2, timeout=30),
        "transactional": PoolSettings(postgres_conninfo, max_size=2, timeout=30),
    }
    async with PoolRegistry(settings) as pools, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(pools.execute, "analytics", "SELECT pg_sleep(60)")
        with trio.fail_after(10):
            while pools.statistics()["analytics"].pending < 2:
                await pools.execute("transactional", "SELECT 1")
        assert pools.statistics()["analytics"].active == 2
        nursery.cancel_scope.cancel()


async def test_registry_timeout_is_the_pools_own(postgres_conninfo: str) -> None:
    """What takes longer than the pool allows is cut off, and the connection is fit again."""
    async with PoolRegistry(
        {"short": PoolSettings(postgres_conninfo, max_size=1, timeout=0.2)}
    ) as pools:
        with pytest.raises(DeadlineExceeded, match=r"short allows 0\.2 seconds"):
            await pools.execute("short", "SELECT pg_sleep(60)")
        with trio.fail_after(10):
            while pools.statistics()["short"].active:
                await trio.lowlevel.checkpoint()
        assert await pools.execute("short", "SELECT 1") == [(1,)]


async def test_registry_body_that_raises_raises_plainly(postgres_conninfo: str) -> None:
    """The block's own exception comes out as it is, in no group, and the pools are closed."""
    registry = PoolRegistry({"one": PoolSettings(postgres_conninfo)})
    with pytest.raises(KeyError):
        async with registry as pools:
            await pools.execute("one", "SELECT 1")
            raise KeyError
    assert registry.statistics()["one"].idle == 0
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await registry.execute("one", "SELECT 1")


async def test_registry_refused_statement_is_postgres_own_error(postgres_conninfo: str) -> None:
    """A wrong statement is its author's mistake, no trouble of the database."""
    async with PoolRegistry({"one": PoolSettings(postgres_conninfo)}) as pools:
        with pytest.raises(psycopg.errors.UndefinedTable):
            await pools.execute("one", "SELECT * FROM nowhere")
        assert await pools.execute("one", "SELECT 1") == [(1,)]


@pytest.mark.parametrize("settings", [{"max_size": 0}, {"timeout": 0}, {"timeout": math.inf}])
def test_settings_nonsense_is_named(settings: dict[str, float]) -> None:
    """What makes no sense is refused by its name."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        PoolSettings("host=nowhere", **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pools"):
        PoolRegistry({})


def test_settings_hide_the_connection_string() -> None:
    """It may hold a password."""
    assert "secret" not in repr(PoolSettings("host=nowhere password=secret"))
