"""`/health`, `/ready` and `/api/data` as the contract's section 2 has them."""

from __future__ import annotations

import json
import re

import pytest

from ._client import ask, ask_data, open_wire
from ._database import connected, insert_rows
from ._problems import assert_decent, assert_problem, assert_request_id
from ._server import Server
from .conftest import StartServer

TIERS = ("free", "pro", "enterprise")
CREATED_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    started = start_server({"BULKHEAD_TIERS__FREE__RATE_LIMIT": ""})
    assert started.database is not None
    for tier in TIERS:
        insert_rows(started.database, tier, 120)
    return started


async def test_health_answers_that_the_process_is_alive(server: Server) -> None:
    """The body is exactly the contract's."""
    answer = await ask(server.address, "/health")
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("application/json")
    assert answer.json() == {"status": "healthy"}
    assert_request_id(answer)


async def test_ready_names_its_checks(server: Server) -> None:
    """A server that can work says so, check by check."""
    answer = await ask(server.address, "/ready")
    assert answer.status == 200
    members = answer.json()
    assert members["status"] == "ready"
    assert members["checks"]["database"] == "ok"


@pytest.mark.parametrize("tier", TIERS)
async def test_data_holds_the_rows_of_its_tier_oldest_first(server: Server, tier: str) -> None:
    """Every row has the contract's members and belongs to the tier that asked."""
    answer = await ask_data(server.address, tier, "?limit=100")
    assert answer.status == 200
    assert (answer.header("content-type") or "").startswith("application/json")
    rows = answer.json()
    assert len(rows) == 100
    identifiers = [row["id"] for row in rows]
    assert identifiers == sorted(set(identifiers))
    for row in rows:
        assert {"id", "tier", "payload", "created_at"} <= row.keys()
        assert type(row["id"]) is int
        assert row["tier"] == tier
        assert isinstance(row["payload"], dict)
        assert CREATED_AT.fullmatch(row["created_at"]), row


@pytest.mark.parametrize("tier", TIERS)
async def test_data_begins_with_the_demonstration_rows(server: Server, tier: str) -> None:
    """A new database is seeded, so that the first request already shows something."""
    rows = (await ask_data(server.address, tier, "?limit=1")).json()
    assert rows[0]["payload"]["message"] == f"{tier.capitalize()} tier data point 1"


async def test_data_has_ten_rows_without_a_limit(server: Server) -> None:
    """The default limit is ten, and they are the oldest ten."""
    default = (await ask_data(server.address)).json()
    assert len(default) == 10
    assert default == (await ask_data(server.address, query="?limit=100")).json()[:10]


@pytest.mark.parametrize("limit", [1, 2, 10, 99, 100])
async def test_data_obeys_a_limit_in_range(server: Server, limit: int) -> None:
    """Exactly as many rows as asked for, when there are that many."""
    assert len((await ask_data(server.address, query=f"?limit={limit}")).json()) == limit


@pytest.mark.parametrize(
    "limit",
    [
        "0", "-1", "101", "1000000000000000000000000000000", "9" * 5000, "1.5", "1e1", "0x10",
        "1_0", "ten", "", "%20", "1%00", "%FF", "NaN", "null", "1;2", "%D9%A1", "1,2",
        "5%20OR%201=1",
    ],
)  # fmt: skip
async def test_data_refuses_a_limit_out_of_range(server: Server, limit: str) -> None:
    """A limit that is no whole number from 1 to 100 is the caller's mistake, said so."""
    assert_problem(await ask_data(server.address, query=f"?limit={limit}"), 400, "bad_request")


async def test_data_refuses_two_different_limits(server: Server) -> None:
    """A contradiction is not resolved by guessing."""
    answer = await ask_data(server.address, query="?limit=1&limit=2")
    assert_problem(answer, 400, "bad_request")


@pytest.mark.parametrize(
    "query",
    ["?", "?foo=bar", "?limit=3&foo", "?&&&", "?=", "?%00=%00", "?limit[]=1", "?a=b=c"],
)
async def test_data_ignores_parameters_it_does_not_know(server: Server, query: str) -> None:
    """What has no meaning here does no harm."""
    assert (await ask_data(server.address, query=query)).status == 200


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("2026-02-11T12:00:00Z", "2026-02-11T12:00:00.000Z"),
        ("2026-02-11T12:00:00.123456Z", "2026-02-11T12:00:00.123Z"),
        ("2026-02-11T12:00:00.0009Z", "2026-02-11T12:00:00.000Z"),
        ("2026-02-11T23:30:00-05:00", "2026-02-12T04:30:00.000Z"),
        ("0099-01-01T00:00:00Z", "0099-01-01T00:00:00.000Z"),
    ],
)
async def test_data_writes_moments_in_utc_with_milliseconds(
    server: Server, stored: str, shown: str
) -> None:
    """One format for every moment, whatever its zone and precision in the database."""
    assert server.database is not None
    with connected(server.database) as connection:
        first = connection.execute("SELECT min(id) FROM tenant_data WHERE tier = 'pro'").fetchone()
        assert first is not None
        connection.execute(
            "UPDATE tenant_data SET created_at = %s WHERE id = %s", (stored, first[0])
        )
    row = (await ask_data(server.address, "pro", "?limit=1")).json()[0]
    assert row["id"] == first[0]
    assert row["created_at"] == shown


async def test_data_order_is_by_id_not_by_place(server: Server) -> None:
    """A row that PostgreSQL has moved by an update keeps its place in the answer."""
    assert server.database is not None
    before = (await ask_data(server.address, "enterprise")).json()
    with connected(server.database) as connection:
        connection.execute(
            "UPDATE tenant_data SET payload = payload || '{\"moved\": true}' WHERE id = %s",
            (before[0]["id"],),
        )
    after = (await ask_data(server.address, "enterprise")).json()
    assert [row["id"] for row in after] == [row["id"] for row in before]


@pytest.mark.parametrize(
    "payload",
    [
        '{"text": "ünï \\"quoted\\" \\\\ \\u2028 😀"}',
        '{"n": 12345678901234567890.5, "deep": [[{}]]}',
    ],
)
async def test_data_gives_a_payload_back_as_it_is(server: Server, payload: str) -> None:
    """JSON in, the same JSON out."""
    assert server.database is not None
    with connected(server.database) as connection:
        updated = connection.execute(
            "UPDATE tenant_data SET payload = %s WHERE id ="
            " (SELECT min(id) FROM tenant_data WHERE tier = 'enterprise')"
            " RETURNING payload::text",
            (payload,),
        ).fetchone()
    assert updated is not None
    row = (await ask_data(server.address, "enterprise", "?limit=1")).json()[0]
    assert row["payload"] == json.loads(payload)


async def test_tier_missing_is_refused(server: Server) -> None:
    """Who does not say a tier gets none."""
    assert_problem(await ask(server.address, "/api/data"), 400, "tenant_tier_missing")


@pytest.mark.parametrize(
    "tier",
    [
        "gold", "free,pro", "free;", "x" * 8000, "\xfcn\xef", "\xff\xfe", "free\x01", "null", "0",
        "../free", "'; DROP TABLE tenant_data; --", "{}", "f r e e", "free\tpro",
    ],
)  # fmt: skip
async def test_tier_unknown_is_refused(server: Server, tier: str) -> None:
    """A tier that is not configured is the caller's mistake, and is not taken for another."""
    answer = await ask(server.address, "/api/data", headers={"X-Tenant-Tier": tier})
    assert_problem(answer, 400)
    assert answer.json()["code"] in {"tenant_tier_invalid", "invalid_header", "bad_request"}


async def test_tier_empty_is_refused(server: Server) -> None:
    """An empty header names no tier."""
    answer = await ask(server.address, "/api/data", headers={"X-Tenant-Tier": ""})
    assert_problem(answer, 400)
    assert answer.json()["code"] in {"tenant_tier_missing", "tenant_tier_invalid"}


async def test_tier_twice_and_different_is_refused(server: Server) -> None:
    """Two tiers in one request: neither is chosen for the caller."""
    headers = [("X-Tenant-Tier", "free"), ("X-Tenant-Tier", "enterprise")]
    answer = await ask(server.address, "/api/data", headers=headers)
    assert_problem(answer, 400)
    assert answer.json()["code"] in {"tenant_tier_invalid", "invalid_header"}


async def test_tier_with_an_unknown_key_is_refused(server: Server) -> None:
    """A key that nobody has is never ignored in favour of the plain header."""
    answer = await ask_data(server.address, headers={"X-API-Key": "nobody-has-this-key"})
    assert_problem(answer, 403, "api_key_invalid")


async def test_force_error_fails_the_database_call(server: Server) -> None:
    """The demonstration of a failing database answers as a failing database does."""
    answer = await ask_data(server.address, "pro", "?force_error=true")
    assert_problem(answer, 503, "database_unavailable")
    assert (await ask_data(server.address, "pro")).status == 200


@pytest.mark.parametrize("value", ["false", "0", ""])
async def test_force_error_that_is_not_true_does_nothing(server: Server, value: str) -> None:
    """Only `true` asks for the failure."""
    answer = await ask_data(server.address, "enterprise", f"?force_error={value}")
    assert_decent(answer)
    assert answer.status in {200, 400}


async def test_connection_serves_many_requests(server: Server) -> None:
    """A connection is kept, through good answers and refusals."""
    async with open_wire(server.address) as wire:
        for _ in range(20):
            assert (await wire.ask("/health")).status == 200
            assert (await wire.ask("/api/data")).status == 400
            assert (await wire.ask("/nothing-here")).status == 401
            assert (await wire.ask("/admin/nothing-here")).status == 404
