"""Orders over real sockets, and what kill -9 leaves of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from ._client import Address, Answer, NoAnswerError, ask
from ._database import connected
from ._problems import assert_problem
from ._server import Server, running_server, wait_until_answered
from .conftest import CreateDatabase, StartServer

BUSY = {"ORDERS_RATE": "100000", "ORDERS_BURST": "100000"}


async def send(
    address: Address,
    body: object,
    *,
    user: str = "user-7",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"X-User-Id": user, "Content-Type": "application/json", **(headers or {})}
    return await ask(address, "/api/orders", method="POST", headers=sent, body=raw)


async def wait_completed(server: Server, order_id: str) -> dict[str, Any]:
    async def is_completed() -> bool:
        answer = await ask(server.address, f"/api/orders/{order_id}")
        return answer.status == 200 and answer.json()["status"] == "completed"

    await wait_until_answered(is_completed, f"{order_id} completed", timeout=15)
    found: dict[str, Any] = (await ask(server.address, f"/api/orders/{order_id}")).json()
    return found


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    return start_server(BUSY)


async def test_order_is_accepted_and_completed(server: Server) -> None:
    """202 with the contract's members; then the order is there, and is completed."""
    order = {"orderId": "order-1", "amount": 12.50, "priority": "high"}
    answer = await send(server.address, order)
    assert answer.status == 202, str(answer)
    assert answer.json()["message"] == "Order queued"
    assert answer.json()["orderId"] == "order-1"
    assert isinstance(answer.json()["queueSize"], int)
    for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "RateLimit"):
        assert answer.header(name) is not None
    found = await wait_completed(server, "order-1")
    assert found.keys() >= {
        "orderId", "amount", "priority", "status", "attempts", "createdAt", "updatedAt",
    }  # fmt: skip
    assert (found["amount"], found["priority"], found["attempts"]) == (12.5, "high", 1)


async def test_order_sent_again_and_order_that_conflicts(server: Server) -> None:
    """The same is accepted again without effect; the same id with another amount is 409."""
    order = {"orderId": "twice", "amount": 1}
    assert (await send(server.address, order)).json()["message"] == "Order queued"
    again = await send(server.address, order)
    assert (again.status, again.json()["message"]) == (202, "Order already queued")
    assert_problem(await send(server.address, {**order, "amount": 2}), 409, "conflict")
    assert_problem(await send(server.address, order, user="another"), 409, "conflict")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"", "$"),
        (b"{", "$"),
        (b"\xff\xfe", "$"),
        (b"[]", "$"),
        (b"null", "$"),
        ({}, "$"),
        ({"orderId": "x"}, "$"),
        ({"amount": 1}, "$"),
        ({"orderId": "", "amount": 1}, "$.orderId"),
        ({"orderId": "x" * 129, "amount": 1}, "$.orderId"),
        ({"orderId": 7, "amount": 1}, "$.orderId"),
        ({"orderId": "a\0b", "amount": 1}, "$.orderId"),
        ({"orderId": "x", "amount": 0}, "$.amount"),
        ({"orderId": "x", "amount": -1}, "$.amount"),
        ({"orderId": "x", "amount": "12"}, "$.amount"),
        ({"orderId": "x", "amount": True}, "$.amount"),
        ({"orderId": "x", "amount": None}, "$.amount"),
        (b'{"orderId": "x", "amount": 1e400}', "$.amount"),
        (b'{"orderId": "x", "amount": 1e-400}', "$.amount"),
        (b'{"orderId": "x", "amount": NaN}', "$"),
        (b'{"orderId": "x", "amount": 1' + b"1" * 400 + b"}", "$.amount"),
        ({"orderId": "x", "amount": 1, "priority": "urgent"}, "$.priority"),
        (b'{"orderId": "\\ud800", "amount": 1}', "$"),
        (b"[" * 100_000, "$"),
    ],
)
async def test_order_with_a_wrong_body_says_where(server: Server, body: object, path: str) -> None:
    """400 `invalid_body`, with the path of what is wrong."""
    answer = await send(server.address, body)
    assert_problem(answer, 400, "invalid_body")
    assert [error["path"] for error in answer.json()["errors"]] == [path]
    assert answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("user", [None, "", "a b", "x" * 129, "ü"])
async def test_order_needs_a_user(server: Server, user: str | None) -> None:
    """`X-User-Id` is 1 to 128 visible ASCII characters."""
    headers = {"Content-Type": "application/json"}
    if user is not None:
        headers["X-User-Id"] = user
    body = b'{"orderId": "x", "amount": 1}'
    answer = await ask(server.address, "/api/orders", method="POST", headers=headers, body=body)
    assert_problem(answer, 400, "invalid_header")


async def test_order_of_another_media_type(server: Server) -> None:
    """Only JSON; parameters and upper case are no harm."""
    body = {"orderId": "media", "amount": 1}
    refused = await send(server.address, body, headers={"Content-Type": "text/plain"})
    assert_problem(refused, 415, "unsupported_media_type")
    taken = await send(
        server.address, body, headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )
    assert taken.status == 202


@pytest.mark.parametrize("order_id", ["a/b", "ü", "a b", "%", "a%2Fb", "..", "?x=1#y"])
async def test_order_with_a_strange_id_is_found(server: Server, order_id: str) -> None:
    """Escaped into one segment of the path, any id names its order."""
    assert (await send(server.address, {"orderId": order_id, "amount": 1})).status == 202
    escaped = "".join(f"%{byte:02X}" for byte in order_id.encode())
    answer = await ask(server.address, f"/api/orders/{escaped}")
    assert answer.status == 200, str(answer)
    assert answer.json()["orderId"] == order_id


async def test_order_that_is_not_there(server: Server) -> None:
    """404, as for a path that means nothing."""
    assert_problem(await ask(server.address, "/api/orders/nobody"), 404, "not_found")
    for order_id in ("%FF", "%00", "a%00b", "x" * 129):
        answer = await ask(server.address, f"/api/orders/{order_id}")
        assert_problem(answer, 404, "not_found")
    answer = await ask(server.address, "/api/orders", method="GET")
    assert_problem(answer, 405, "method_not_allowed")


async def test_orders_metrics(server: Server) -> None:
    """The members of the contract."""
    answer = await ask(server.address, "/api/metrics")
    assert answer.status == 200
    assert answer.json().keys() >= {
        "queueSize", "queueFull", "activeConcurrency", "queuedConcurrency",
        "circuitBreakerState", "circuitBreakerFailures",
    }  # fmt: skip
    assert answer.json()["circuitBreakerState"] == "CLOSED"


async def test_user_that_floods_is_limited(start_server: StartServer) -> None:
    """429 with `retryAfter`; another user is not."""
    server = start_server({"ORDERS_RATE": "0.5", "ORDERS_BURST": "2"})
    answers = [await send(server.address, {"orderId": f"f-{n}", "amount": 1}) for n in range(3)]
    assert [answer.status for answer in answers] == [202, 202, 429]
    assert_problem(answers[2], 429, "rate_limited")
    assert answers[2].json()["error"] == "Rate limit exceeded"
    assert answers[2].json()["retryAfter"] in (1, 2)
    other = await send(server.address, {"orderId": "other", "amount": 1}, user="other")
    assert other.status == 202


async def test_full_queue_drops_what_is_least_urgent(
    create_database: CreateDatabase, data_dir: Path
) -> None:
    """While nothing moves, low orders are refused when the queue is full of them, high ones not."""
    database = create_database()
    variables = {**BUSY, "ORDERS_WORKERS": "1", "ORDERS_QUEUE": "2"}
    with running_server(variables, data_dir=data_dir, database=database) as server:
        with connected(database) as blocker, blocker.transaction():
            blocker.execute("LOCK TABLE order_ledger IN ACCESS EXCLUSIVE MODE")
            statuses = []
            for number in range(5):
                body = {"orderId": f"low-{number}", "amount": 1, "priority": "low"}
                statuses.append(await send(server.address, body))
            assert [answer.status for answer in statuses][-1] == 503
            assert_problem(statuses[-1], 503, "bulkhead_full")
            assert statuses[-1].json()["error"] == "Service overloaded"
            body = {"orderId": "high", "amount": 1, "priority": "high"}
            assert (await send(server.address, body)).status == 202
            metrics = (await ask(server.address, "/api/metrics")).json()
            assert metrics["queueFull"] is True
            assert metrics["queueSize"] >= 2
        for number, answer in enumerate(statuses):
            if answer.status == 202:
                await wait_completed(server, f"low-{number}")
        await wait_completed(server, "high")


async def test_production_asks_for_a_key(create_database: CreateDatabase, data_dir: Path) -> None:
    """Without one 401, with one that is nobody's 403, for all three paths."""
    variables = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": "a-secret-that-is-long-enough",
        "ADMIN_API_KEY": "an-admin-key-long-enough",
    }
    with running_server(variables, data_dir=data_dir, database=create_database()) as server:
        for path in ("/api/orders/x", "/api/metrics"):
            assert_problem(await ask(server.address, path), 401, "api_key_missing")
            answer = await ask(server.address, path, headers={"X-API-Key": "nobody's"})
            assert_problem(answer, 403, "api_key_invalid")
        body = {"orderId": "x", "amount": 1}
        assert_problem(await send(server.address, body), 401, "api_key_missing")


async def test_orders_table_that_is_gone_harms_no_tier(
    create_database: CreateDatabase, data_dir: Path
) -> None:
    """Orders are refused, the rest of the server goes on, and they come back with the table."""
    database = create_database()
    with running_server(BUSY, data_dir=data_dir, database=database) as server:
        body = {"orderId": "order-1", "amount": 1}
        with connected(database) as connection:
            connection.execute("INSERT INTO orders VALUES ('left', 'u', 1, 1)")
            connection.execute("ALTER TABLE orders RENAME TO elsewhere")
            for _ in range(3):
                assert_problem(await send(server.address, body), 503, "database_unavailable")
            data = await ask(server.address, "/api/data", headers={"X-Tenant-Tier": "free"})
            assert data.status == 200
            connection.execute("ALTER TABLE elsewhere RENAME TO orders")
        assert (await send(server.address, body)).status == 202
        await wait_completed(server, "order-1")
        await wait_completed(server, "left")


async def test_every_order_accepted_before_kill_is_completed_once(
    create_database: CreateDatabase, data_dir: Path
) -> None:
    """kill -9 again and again in the middle of it: what was answered 202 is in the ledger once."""
    database = create_database()
    accepted: set[str] = set()

    async def flood(server: Server, name: str) -> None:
        for number in range(10_000):
            order_id = f"{name}-{number}"
            priority = ("high", "normal", "low")[number % 3]
            body = {"orderId": order_id, "amount": 1, "priority": priority}
            try:
                answer = await send(server.address, body, user=name)
            except (NoAnswerError, OSError):
                return
            assert answer.status in (202, 503), str(answer)
            if answer.status == 202:
                accepted.add(order_id)

    variables = {**BUSY, "ORDERS_QUEUE": "20", "ORDERS_WORKERS": "2"}
    for life in range(3):
        before = len(accepted)
        with running_server(variables, data_dir=data_dir, database=database) as server:
            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    for client in range(4):
                        nursery.start_soon(flood, server, f"life{life}-{client}")
                    while len(accepted) < before + 100:
                        await trio.sleep(0.01)
                    server.signal(signal.SIGKILL)
            server.process.wait()
    with running_server(variables, data_dir=data_dir, database=database):
        with connected(database) as connection, trio.fail_after(60):
            open_ = "SELECT count(*) FROM orders WHERE status <> 'completed'"
            while connection.execute(open_).fetchone() != (0,):
                await trio.sleep(0.1)
            rows = connection.execute("SELECT order_id FROM order_ledger").fetchall()
            orders = connection.execute("SELECT order_id FROM orders").fetchall()
    booked = [order_id for (order_id,) in rows]
    assert len(booked) == len(set(booked))
    assert accepted <= set(booked)
    assert set(booked) == {order_id for (order_id,) in orders}
    assert len(accepted) >= 300
