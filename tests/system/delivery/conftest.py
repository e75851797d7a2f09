"""Servers that deliver, receivers that verify, and a mail server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from bulkhead_trio.testing.receiver import ReceiverProcess

from ..conftest import CreateDatabase
from ..gateway._gateway import Gateway, running_gateway
from . import _receiver
from ._desk import Desk
from ._mail import MailServer, running_mail_server

SETTINGS = {
    "WEBHOOK_RETRY_SCHEDULE": "1,1,1",
    "WEBHOOK_TIMEOUT_SECONDS": "1",
    "DELIVERY_LEASE_SECONDS": "3",
}
"""Four tries within a few seconds; a lease that a test can wait for."""

NewDesk: TypeAlias = Callable[[], Awaitable[Desk]]
StartDelivering: TypeAlias = Callable[..., Gateway]


@pytest.fixture(scope="module")
def start_delivering(
    create_database: CreateDatabase, make_data_dir: Callable[[], Path]
) -> Iterator[StartDelivering]:
    """Starts instances for a module: ``start(count, variables=..., database=...)``."""
    with ExitStack() as stack:

        def start(
            count: int = 1,
            *,
            variables: Mapping[str, str] | None = None,
            database: str | None = None,
        ) -> Gateway:
            return stack.enter_context(
                running_gateway(
                    count,
                    [make_data_dir() for _ in range(count)],
                    database=database or create_database(),
                    variables={**SETTINGS, **(variables or {})},
                )
            )

        yield start


@pytest.fixture(scope="module")
def _module_receiver() -> Iterator[ReceiverProcess]:
    with ReceiverProcess(_receiver.MODULE) as receiver:
        yield receiver


@pytest.fixture
def receiver(_module_receiver: ReceiverProcess) -> ReceiverProcess:
    """Endpoints that have seen nothing and take everything. It is one process for a module."""
    _module_receiver.forget()
    return _module_receiver


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    """A mail server for a module."""
    with running_mail_server() as server:
        yield server


@pytest.fixture(scope="module")
def delivering(start_delivering: StartDelivering, mail: MailServer) -> Gateway:
    """One instance with all channels. It lasts for a module."""
    return start_delivering(variables={"SMTP_URL": mail.url, "SMTP_FROM": "us@here.test"})


@pytest.fixture
async def new_desk(delivering: Gateway) -> AsyncIterator[NewDesk]:
    """Makes tenants; they last for the test."""

    async def make() -> Desk:
        return Desk(delivering, await delivering.tenant())

    yield make
    await delivering.delete_tenants()


@pytest.fixture
async def desk(new_desk: NewDesk) -> Desk:
    """A new tenant's."""
    return await new_desk()
