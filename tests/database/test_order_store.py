"""Orders in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import psycopg
import pytest
import trio

from bulkhead_trio.database import PoolSettings, create_pool
from bulkhead_trio.database.orders import EndedAttempt, OpenOrder, Order, PostgresOrderStore
from bulkhead_trio.errors import DatabaseUnavailable


@asynccontextmanager
async def opened(conninfo: str) -> AsyncIterator[PostgresOrderStore]:
    pool = create_pool("orders", PoolSettings(conninfo))
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield PostgresOrderStore(pool)
        nursery.cancel_scope.cancel()


def order(number: int, *, amount: str = "12.50", priority: int = 1) -> Order:
    return Order(f"order-{number}", "user-7", Decimal(amount), priority)


async def test_store_keeps_an_order_exactly(database: str) -> None:
    """Every digit of the amount, every character of the id."""
    amount = "1234567890123456789012345678901234567890.000000000000000001"
    strange = Order("ünïcode / %s ' \u202e", "user", Decimal(amount), 2)
    async with opened(database) as store:
        assert await store.insert(strange) is None
        found = await store.find(strange.order_id)
        assert found is not None
        assert found.order == strange
        assert (found.status, found.attempts) == ("queued", 0)
        assert await store.find("nothing") is None


async def test_store_inserted_twice_answers_with_the_first(database: str) -> None:
    """The second is told what is there, and changes nothing."""
    async with opened(database) as store:
        await store.insert(order(1))
        present = await store.insert(order(1, amount="99"))
        assert present is not None
        assert present.order == order(1)


async def test_store_many_inserting_one_order_at_once(database: str) -> None:
    """Exactly one of them is the first."""
    firsts: list[bool] = []

    async def insert(store: PostgresOrderStore) -> None:
        firsts.append(await store.insert(order(1)) is None)

    async with opened(database) as store, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(insert, store)
    assert firsts.count(True) == 1


async def test_store_completes_once_however_many_try(database: str) -> None:
    """Of many completions at once one does it, and the ledger has one entry."""
    done: list[bool] = []

    async def complete(store: PostgresOrderStore) -> None:
        done.append(await store.complete("order-1"))

    async with opened(database) as store:
        await store.insert(order(1))
        assert not await store.complete("order-1"), "it has not been begun"
        assert await store.begin("order-1") == 1
        assert await store.begin("order-1") == 2
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(complete, store)
        assert done.count(True) == 1
        assert await store.begin("order-1") is None
        found = await store.find("order-1")
        assert found is not None
        assert (found.status, found.attempts) == ("completed", 2)
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT order_id, amount FROM order_ledger").fetchall()
    assert rows == [("order-1", Decimal("12.50"))]


async def test_store_open_orders_come_most_urgent_first(database: str) -> None:
    """By priority, then by age; without those excluded, fresh or ended."""
    async with opened(database) as store:
        for number, priority in enumerate([2, 1, 0, 1, 0]):
            await store.insert(order(number, priority=priority))
        await store.begin("order-2")
        await store.complete("order-2")
        await store.begin("order-3")
        assert await store.count_open(excluding=[]) == 4
        assert await store.count_open(excluding=["order-1", "order-2"]) == 3
        found = await store.open_orders(limit=10, idle_seconds=0, excluding=["order-1"])
        assert found == [OpenOrder("order-4", 0), OpenOrder("order-3", 1), OpenOrder("order-0", 2)]
        first = await store.open_orders(limit=1, idle_seconds=0, excluding=[])
        assert first == [OpenOrder("order-4", 0)]
        assert await store.open_orders(limit=10, idle_seconds=60, excluding=[]) == []


@pytest.mark.parametrize(("most", "status"), [(2, "queued"), (1, "failed")])
async def test_store_attempt_that_failed(database: str, most: int, status: str) -> None:
    """It goes back, or is given up; what is completed stays so."""
    async with opened(database) as store:
        await store.insert(order(1))
        await store.begin("order-1")
        ended = await store.end_attempt("order-1", most_failures=most)
        assert ended == EndedAttempt(failures=1, is_last=status == "failed")
        found = await store.find("order-1")
        assert found is not None
        assert found.status == status
        await store.insert(order(2))
        await store.begin("order-2")
        await store.complete("order-2")
        assert await store.end_attempt("order-2", most_failures=most) is None
        found = await store.find("order-2")
        assert found is not None
        assert found.status == "completed"


@pytest.mark.parametrize(
    "trouble",
    [
        "ALTER TABLE orders RENAME TO elsewhere",
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
    ],
)
async def test_store_whose_database_refuses_is_away(database: str, trouble: str) -> None:
    """A table that is gone, a server that became read-only: unavailable, not a mistake of ours."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(trouble.format(name=connection.info.dbname).encode())
    async with opened(database) as store:
        with pytest.raises(DatabaseUnavailable):
            await store.insert(order(1))
        with pytest.raises(DatabaseUnavailable):
            await store.begin("order-1")


async def test_store_order_that_a_trigger_objects_to_is_to_blame(database: str) -> None:
    """What the ledger refuses of one order is that order's failure, and no other's."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE order_ledger ADD CHECK (amount < 100)")
    async with opened(database) as store:
        for number, amount in ((1, "5"), (2, "500")):
            await store.insert(order(number, amount=amount))
            await store.begin(f"order-{number}")
        with pytest.raises(psycopg.IntegrityError):
            await store.complete("order-2")
        assert await store.complete("order-1")


def make_tenant(conninfo: str) -> str:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "INSERT INTO tenants (name, tier) VALUES ('t', 'free') RETURNING id::text"
        ).fetchone()
    assert row is not None
    tenant_id: str = row[0]
    return tenant_id


def events_in(conninfo: str) -> list[tuple[str, str, str]]:
    """Tenant, type and payload of each event that is in the outbox."""
    with psycopg.connect(conninfo) as connection:
        return connection.execute(
            "SELECT e.tenant_id::text, e.type, e.payload::text FROM event_outbox AS o "
            "JOIN events AS e ON e.id = o.event_id ORDER BY o.seq"
        ).fetchall()


async def test_store_completing_a_tenants_order_raises_an_event(database: str) -> None:
    """In the same transaction, once, with every digit of the amount."""
    amount = "12345678901234567890.000000000000000001"
    tenant = make_tenant(database)
    async with opened(database) as store:
        await store.insert(Order('order "1"', f"{tenant} user 7", Decimal(amount), 1))
        assert not await store.complete('order "1"')
        await store.begin('order "1"')
        assert await store.complete('order "1"')
        assert not await store.complete('order "1"')
    payload = f'{{"orderId":"order \\"1\\"","amount":{amount},"status":"completed"}}'
    assert events_in(database) == [(tenant, "order.completed", payload)]


async def test_store_giving_a_tenants_order_up_raises_an_event(database: str) -> None:
    """When it is given up, not when it goes back."""
    tenant = make_tenant(database)
    async with opened(database) as store:
        await store.insert(Order("order-1", f"{tenant} user", Decimal("5"), 1))
        await store.begin("order-1")
        assert await store.end_attempt("order-1", most_failures=2) == EndedAttempt(1, False)
        assert events_in(database) == []
        await store.begin("order-1")
        assert await store.end_attempt("order-1", most_failures=2) == EndedAttempt(2, True)
    payload = '{"orderId":"order-1","amount":5,"status":"failed"}'
    assert events_in(database) == [(tenant, "order.failed", payload)]


@pytest.mark.parametrize(
    "user",
    ["user-7", "{tenant}", "{tenant}x user", "00000000-0000-4000-8000-00000000000a user",
     "x {tenant} user", "zzzzzzzz-0000-4000-8000-00000000000a user"],
)  # fmt: skip
async def test_store_order_of_no_tenant_raises_no_event(database: str, user: str) -> None:
    """Nor one of a tenant that is no more; it is completed all the same."""
    tenant = make_tenant(database)
    async with opened(database) as store:
        await store.insert(Order("order-1", user.format(tenant=tenant), Decimal("5"), 1))
        await store.begin("order-1")
        assert await store.complete("order-1")
    assert events_in(database) == []


async def test_store_order_that_cannot_be_booked_raises_no_event(database: str) -> None:
    """Both or neither."""
    tenant = make_tenant(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE order_ledger ADD CHECK (amount < 100)")
    async with opened(database) as store:
        await store.insert(Order("order-1", f"{tenant} user", Decimal("500"), 1))
        await store.begin("order-1")
        with pytest.raises(psycopg.IntegrityError):
            await store.complete("order-1")
    assert events_in(database) == []
