"""The rows that callers get, byte for byte, from a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from psycopg import sql

from bulkhead_trio.api.data import LARGEST_LIMIT
from bulkhead_trio.database import Connection
from bulkhead_trio.database.tenant_data import _SELECT, MOST_ROWS, fetch_rows_json

_INSERT = "INSERT INTO tenant_data (tier, payload, created_at) VALUES (%s, %s, %s) RETURNING id"


@asynccontextmanager
async def connected(conninfo: str) -> AsyncIterator[Connection]:
    connection = await Connection.connect(conninfo, autocommit=True)
    try:
        yield connection
    finally:
        connection.abandon()


async def insert(
    connection: Connection,
    tier: str,
    payload: str = "{}",
    created_at: str = "2026-02-11T12:00:00Z",
) -> int:
    """Add a row; its id."""
    cursor = await connection.execute(_INSERT, (tier, payload, created_at))
    (number,) = await cursor.fetchone()
    return int(number)


async def fetch(connection: Connection, tier: str, limit: int = 10) -> Any:
    """The rows, decoded by a decoder that loses no digit."""
    answer = await fetch_rows_json(connection, tier=tier, limit=limit)
    return json.loads(answer.decode("utf-8", errors="strict"), parse_float=Decimal)


async def test_rows_are_the_contracts_bytes(module_database: str) -> None:
    """Members, their order and their separators are the contract's."""
    async with connected(module_database) as connection:
        first = await insert(connection, "exact", '{"message": "one"}')
        second = await insert(connection, "exact", "[]", "2026-02-11T12:00:00.5Z")
        assert await fetch_rows_json(connection, tier="exact", limit=10) == (
            b'[{"id":%d,"tier":"exact","payload":{"message": "one"},'
            b'"created_at":"2026-02-11T12:00:00.000Z"},'
            b'{"id":%d,"tier":"exact","payload":[],"created_at":"2026-02-11T12:00:00.500Z"}]'
            % (first, second)
        )


async def test_rows_of_a_tier_without_any_are_an_empty_array(module_database: str) -> None:
    """No rows is an answer."""
    async with connected(module_database) as connection:
        assert await fetch_rows_json(connection, tier="nobody", limit=10) == b"[]"
        assert await fetch_rows_json(connection, tier="free", limit=0) == b"[]"


async def test_rows_are_the_oldest_ids_of_the_tier_alone(database: str) -> None:
    """In the order of ids, wherever PostgreSQL keeps them; no more than asked; nobody else's."""
    async with connected(database) as connection:
        await connection.execute(
            "INSERT INTO tenant_data (tier, payload)"
            " SELECT tier, to_jsonb(n) FROM generate_series(1, 150) AS n,"
            " unnest(ARRAY['free', 'pro']) AS tier"
        )
        await connection.execute("UPDATE tenant_data SET payload = '0' WHERE id % 3 = 0")
        cursor = await connection.execute(
            "SELECT id FROM tenant_data WHERE tier = 'pro' ORDER BY 1"
        )
        ids = [number for (number,) in await cursor.fetchall()]
        for analyzed in (False, True):
            for limit in (1, 10, MOST_ROWS):
                rows = await fetch(connection, "pro", limit)
                assert [row["id"] for row in rows] == ids[:limit]
                assert {row["tier"] for row in rows} == {"pro"}
            if not analyzed:
                await connection.execute("ANALYZE tenant_data")


@pytest.mark.parametrize("limit", [-1, MOST_ROWS + 1])
async def test_rows_limit_out_of_range_is_refused(module_database: str, limit: int) -> None:
    """A limit that the query's own constant would cut off unseen is an error."""
    async with connected(module_database) as connection:
        with pytest.raises(ValueError, match="limit must be"):
            await fetch_rows_json(connection, tier="free", limit=limit)


def test_rows_limit_of_the_api_is_within_the_querys() -> None:
    """What a caller may ask for, the query can answer."""
    assert LARGEST_LIMIT <= MOST_ROWS


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("2026-02-11T12:00:00Z", "2026-02-11T12:00:00.000Z"),
        ("2026-02-11T12:00:00.123999Z", "2026-02-11T12:00:00.123Z"),
        ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
        ("2026-02-11T23:30:00-05:00", "2026-02-12T04:30:00.000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999Z"),
        ("10000-01-01T00:00:00Z", None),
        ("0001-12-31T23:59:59.999999Z BC", None),
        ("infinity", None),
        ("-infinity", None),
    ],
)
@pytest.mark.parametrize(
    "settings", [(), ("TimeZone = 'Asia/Kathmandu'", "DateStyle = 'SQL, DMY'")], ids=["", "odd"]
)
async def test_rows_moments_are_rfc_3339_or_null(
    database: str, stored: str, shown: str | None, settings: tuple[str, ...]
) -> None:
    """Every moment is UTC with milliseconds, cut and not rounded, whatever the session is set to;
    one that the format cannot say is null, and its row is there."""
    async with connected(database) as connection:
        await insert(connection, "moments", "{}", stored)
        for setting in settings:
            await connection.execute(f"SET {setting}".encode())
        (row,) = await fetch(connection, "moments")
        assert row["created_at"] == shown


@pytest.mark.parametrize(
    "payload",
    [
        '{"text": "ünï \\"quoted\\" \\\\ \\u2028 😀 \\u0001"}',
        '{"n": 12345678901234567890.50, "deep": [[{}]]}',
        '{"created_at": "x", "id": null}',
        "null",
        '"a string, \'%s $1"',
        "1e400",
    ],
)
async def test_rows_payload_is_given_back_as_it_is(module_database: str, payload: str) -> None:
    """JSON in, the same JSON out, to the last digit."""
    async with connected(module_database) as connection:
        number = await insert(connection, "payloads", payload)
        rows = await fetch(connection, "payloads", MOST_ROWS)
        (row,) = (row for row in rows if row["id"] == number)
        assert row["payload"] == json.loads(payload, parse_float=Decimal)


@pytest.mark.parametrize("tier", ['"', "back\\slash", "ti\x01er", "naïve 😀", "'; --", "{},"])
async def test_rows_tier_of_any_name_stays_a_string(module_database: str, tier: str) -> None:
    """A tier's name cannot end the string that it is in."""
    async with connected(module_database) as connection:
        await insert(connection, tier)
        (row,) = await fetch(connection, tier)
        assert row["tier"] == tier


@pytest.mark.parametrize(
    ("conninfo", "encoding"), [("client_encoding=LATIN1", "UTF8"), ("", "LATIN1")]
)
async def test_rows_are_utf_8_whatever_the_database_speaks(
    postgres_conninfo: str, conninfo: str, encoding: str
) -> None:
    """Neither the connection string nor the database's own encoding reaches the answer."""
    name = f"speaks_{encoding.lower()}_{len(conninfo)}"
    async with connected(postgres_conninfo) as administrator:
        await administrator.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'").format(
                sql.Identifier(name), encoding
            )
        )
        async with connected(f"{postgres_conninfo} dbname={name} {conninfo}") as connection:
            await connection.execute(
                "CREATE TABLE tenant_data (id bigint GENERATED ALWAYS AS IDENTITY, tier text,"
                " payload jsonb, created_at timestamptz)"
            )
            await insert(connection, "größe", '{"ä": "ö"}')
            (row,) = await fetch(connection, "größe")
            assert (row["tier"], row["payload"]) == ("größe", {"ä": "ö"})
        await administrator.execute(
            sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
        )


async def test_rows_are_found_by_their_index_with_one_plan(database: str) -> None:
    """However the tiers are spread, and for a tier without rows, the index of tier and id is
    walked as far as the limit goes, and the query is not planned anew each time."""
    async with connected(database) as connection:
        for tier in ("free", "pro"):
            await connection.execute(
                "INSERT INTO tenant_data (tier, payload)"
                " SELECT %s, '{}' FROM generate_series(1, 20000)",
                (tier,),
            )
        await connection.execute("VACUUM ANALYZE tenant_data")
        for tier in ("pro", "nobody", "free", "pro"):
            for _ in range(5):
                await fetch_rows_json(connection, tier=tier, limit=10)
        cursor = await connection.execute(
            "SELECT name, generic_plans, custom_plans FROM pg_prepared_statements"
            " WHERE statement = %s",
            (_SELECT.sql.decode(),),
        )
        ((name, generic, custom),) = await cursor.fetchall()
        assert (generic, custom) == (15, 5)
        for tier in ("pro", "nobody"):
            cursor = await connection.execute(
                sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {} ({}, 10)").format(
                    sql.Identifier(name), tier
                )
            )
            ((plan,),) = await cursor.fetchall()
            scan = next(node for node in nodes(plan[0]["Plan"]) if "Index Name" in node)
            assert scan["Index Name"] == "tenant_data_tier_id"
            assert scan["Actual Rows"] <= 10
            assert scan.get("Rows Removed by Filter", 0) == 0


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """A plan's nodes, all the way down."""
    return [plan, *(below for each in plan.get("Plans", ()) for below in nodes(each))]
