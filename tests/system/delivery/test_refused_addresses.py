"""Addresses that are nobody's business: refused when a webhook is made, and when it is used."""

from __future__ import annotations

import pytest

from bulkhead_trio.testing.receiver import ReceiverProcess

from .._problems import assert_problem
from ..gateway._gateway import Gateway
from ._desk import Desk
from .conftest import StartDelivering

STRICT = {"ALLOWED_PRIVATE_NETWORKS": "none"}
"""As in production: nothing private."""


@pytest.fixture(scope="module")
def strict(start_delivering: StartDelivering) -> Gateway:
    """An instance that may reach no private address."""
    return start_delivering(variables=STRICT)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "[::1]", "localhost", "10.0.0.1", "192.168.1.1", "169.254.169.254",
        "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f.1",  # noqa: S104
    ],
)  # fmt: skip
async def test_private_address_is_reached_by_no_webhook(
    strict: Gateway, receiver: ReceiverProcess, host: str
) -> None:
    """Refused at once, or a dead letter after one try that was none; nothing arrives."""
    desk = Desk(strict, await strict.tenant())
    document = {"url": f"http://{host}:{receiver.port}/e/1", "eventTypes": ["*"]}
    answer = await desk.call("POST", "/api/webhooks", document)
    if answer.status == 201:
        await desk.send()

        async def is_dead() -> bool:
            return [d["state"] for d in await desk.all("/api/deliveries")] == ["dead"]

        await desk.until(is_dead, "dead")
        (found,) = await desk.all("/api/deliveries")
        delivery = await desk.get(f"/api/deliveries/{found['id']}")
        assert len(delivery["attempts"]) <= 1
        assert all(each["status"] is None for each in delivery["attempts"])
    else:
        assert_problem(answer, 400, "invalid_body")
    assert receiver.arrivals() == []


async def test_metadata_address_is_refused_in_development_too(
    delivering: Gateway, receiver: ReceiverProcess
) -> None:
    """Nobody can allow it by the defaults of development."""
    desk = Desk(delivering, await delivering.tenant())
    document = {"url": "http://169.254.169.254/latest/meta-data", "eventTypes": ["*"]}
    answer = await desk.call("POST", "/api/webhooks", document)
    if answer.status == 201:
        await desk.send()

        async def is_dead() -> bool:
            return [d["state"] for d in await desk.all("/api/deliveries")] == ["dead"]

        await desk.until(is_dead, "dead")
    else:
        assert_problem(answer, 400, "invalid_body")
    await delivering.delete_tenants()
