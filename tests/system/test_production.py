"""`ENVIRONMENT=production`: what is open in development asks for a key."""

from __future__ import annotations

import pytest

from ._client import ask, ask_data
from ._problems import assert_problem
from ._server import Server, free_port
from .conftest import StartServer

SECRET_KEY = "b7d1f0a2c94e4e0d8a35e7f6019c2b48d3e5a6f70819aabbccddeeff00112233"
ADMIN_KEY = "adm-5f0c2d7b8e914a63b0d7c1e2f3a4b5c6d7e8f90a"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": SECRET_KEY,
    "ADMIN_API_KEY": ADMIN_KEY,
    # So that each test comes from an address of its own: wrong keys are counted by address.
    "TRUSTED_PROXIES": "127.0.0.1/32",
}
ADDRESSES = (f"203.0.113.{number}" for number in range(1, 255))
"""Of callers, none twice."""

GUARDED = ("/metrics", "/metrics/bulkheads", "/docs", "/openapi.json")


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    return start_server(PRODUCTION)


@pytest.fixture(scope="module")
def opened_server(start_server: StartServer) -> Server:
    """Production with both guards taken down on purpose."""
    return start_server({**PRODUCTION, "METRICS_PUBLIC": "true", "TRUST_TIER_HEADER": "true"})


@pytest.mark.parametrize("path", GUARDED)
async def test_guarded_path_without_a_key_is_refused(server: Server, path: str) -> None:
    """No key: 401, and nothing of the content."""
    assert_problem(await ask(server.address, path), 401, "admin_key_missing")


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize(
    "key",
    [
        "wrong",
        ADMIN_KEY[:-1],
        f"{ADMIN_KEY}x",
        ADMIN_KEY.upper(),
        SECRET_KEY,
        "\xff\xfe",
        "x" * 5000,
    ],
)
async def test_guarded_path_with_a_wrong_key_is_refused(
    server: Server, path: str, key: str
) -> None:
    """A key that is not the one: 403, whatever bytes it is made of."""
    headers = {"X-Admin-Key": key, "X-Forwarded-For": next(ADDRESSES)}
    answer = await ask(server.address, path, headers=headers)
    assert_problem(answer, 403, "admin_key_invalid")


async def test_address_with_many_wrong_keys_has_to_wait(server: Server) -> None:
    """Then the right one does not help it either; nobody else notices."""
    address = next(ADDRESSES)
    wrong = {"X-Admin-Key": "wrong", "X-Forwarded-For": address}
    for _ in range(10):
        answer = await ask(server.address, "/metrics", headers=wrong)
        assert_problem(answer, 403, "admin_key_invalid")
    assert_problem(await ask(server.address, "/metrics", headers=wrong), 429, "rate_limited")
    right = {"X-Admin-Key": ADMIN_KEY, "X-Forwarded-For": address}
    assert_problem(await ask(server.address, "/docs", headers=right), 429, "rate_limited")
    right["X-Forwarded-For"] = next(ADDRESSES)
    assert (await ask(server.address, "/docs", headers=right)).status == 200


@pytest.mark.parametrize("path", GUARDED)
async def test_guarded_path_with_an_empty_key_is_refused(server: Server, path: str) -> None:
    """An empty key opens nothing."""
    answer = await ask(server.address, path, headers={"X-Admin-Key": ""})
    assert_problem(answer)
    assert answer.status in {401, 403}


@pytest.mark.parametrize("path", GUARDED)
async def test_guarded_path_with_the_key_is_open(server: Server, path: str) -> None:
    """The admin key opens it."""
    answer = await ask(server.address, path, headers={"X-Admin-Key": ADMIN_KEY})
    assert answer.status == 200, str(answer)


@pytest.mark.parametrize(
    "path",
    [
        "//metrics",
        "/metrics/",
        "/%6detrics",
        "/METRICS",
        "/./metrics",
        "/metrics%2fbulkheads",
        "/x/../metrics",
    ],
)
async def test_guarded_path_written_otherwise_is_guarded_too(server: Server, path: str) -> None:
    """No way of writing the path leads past the key."""
    answer = await ask(server.address, path)
    assert answer.status in {301, 308, 400, 401, 404}, str(answer)
    assert b"bulkhead_" not in answer.body


async def test_health_and_ready_need_no_key(server: Server) -> None:
    """An orchestrator has no key."""
    assert (await ask(server.address, "/health")).status == 200
    assert (await ask(server.address, "/ready")).status == 200


@pytest.mark.parametrize("tier", ["free", "pro", "enterprise", "gold"])
async def test_plain_tier_header_is_not_believed(server: Server, tier: str) -> None:
    """In production a tier comes from a key alone: 401 says which scheme to use."""
    answer = await ask_data(server.address, tier)
    assert_problem(answer, 401, "api_key_missing")
    assert answer.header("www-authenticate")


async def test_no_header_at_all_asks_for_a_key(server: Server) -> None:
    """Without anything, what is missing is the key."""
    answer = await ask(server.address, "/api/data")
    assert_problem(answer, 401, "api_key_missing")
    assert answer.header("www-authenticate")


@pytest.mark.parametrize("key", ["nobody", ADMIN_KEY, SECRET_KEY, "\xff", "x" * 5000])
async def test_unknown_api_key_is_refused(server: Server, key: str) -> None:
    """A key that no tenant has: 403."""
    answer = await ask(server.address, "/api/data", headers={"X-API-Key": key})
    assert_problem(answer, 403, "api_key_invalid")


async def test_secrets_are_not_in_the_log(server: Server) -> None:
    """Neither what was configured nor what was tried is written down."""
    await ask(server.address, "/metrics", headers={"X-Admin-Key": "tried-and-wrong-key"})
    await ask(server.address, "/api/data", headers={"X-API-Key": "tried-and-wrong-key"})
    for secret in (SECRET_KEY, ADMIN_KEY, "tried-and-wrong-key"):
        assert secret not in server.output


async def test_public_metrics_need_no_key(opened_server: Server) -> None:
    """METRICS_PUBLIC=true opens the metrics in production."""
    for path in ("/metrics", "/metrics/bulkheads"):
        assert (await ask(opened_server.address, path)).status == 200


async def test_trusted_header_works_but_force_error_does_not(opened_server: Server) -> None:
    """TRUST_TIER_HEADER=true is obeyed; the demonstration of failures stays off."""
    for _ in range(6):
        answer = await ask_data(opened_server.address, query="?force_error=true")
        assert answer.status == 200, str(answer)


async def test_admin_listener_needs_no_key_and_the_public_one_does(
    start_server: StartServer,
) -> None:
    """With ADMIN_BIND the metrics are on a listener of their own, and guarded on the other."""
    port = free_port()
    server = start_server({**PRODUCTION, "ADMIN_BIND": f"127.0.0.1:{port}"})
    for path in GUARDED:
        assert (await ask(("127.0.0.1", port), path)).status == 200, path
        assert_problem(await ask(server.address, path), 401, "admin_key_missing")
