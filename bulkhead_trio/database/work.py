"""Work in PostgreSQL: claimed under leases by any number of instances, finished once.

What is done where is said beside the SQL, in ``migrations/0004_delivery.sql`` and what follows it.
"""

from __future__ import annotations

import abc
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from bulkhead_trio.database._deadlocks import ask_through_deadlocks
from bulkhead_trio.database.connection import Connection
from bulkhead_trio.database.pool import Pool
from bulkhead_trio.database.webhook_records import SigningSecret
from bulkhead_trio.database.work_records import (
    Backlog,
    Finished,
    Lane,
    NotificationWork,
    WebhookWork,
    WorkKind,
)

W = TypeVar("W")

MOST_PER_ENDPOINT: Final = 4
"""Under way to one endpoint, or on one channel of a tenant, at all instances together."""

_CLAIM: Final = {
    WorkKind.WEBHOOK: b"SELECT * FROM bulkhead_trio_claim_webhooks"
    b"(%s, %s, make_interval(secs => %s), %s, %s, %s, %s::uuid[])",
    WorkKind.NOTIFICATION: b"SELECT * FROM bulkhead_trio_claim_notifications"
    b"(%s, %s, make_interval(secs => %s), %s, %s, %s, %s::uuid[])",
}

# Not in any index, so that a renewal writes the row and nothing else. A lease that has run out is
# not renewed: a sweep may be giving it back.
_RENEW: Final = b"""
UPDATE work SET lease_until = now() + make_interval(secs => %s)
WHERE item_id IN (
    SELECT item_id FROM work
    WHERE item_id = ANY (%s::uuid[]) AND kind = %s AND lease_owner = %s AND lease_until > now()
    ORDER BY item_id FOR UPDATE
) RETURNING item_id
"""

_FINISH: Final = b"""
SELECT bulkhead_trio_finish(%s::smallint, %s, %s::uuid[], %s::integer[], %s::text[], %s::float8[],
    %s::timestamptz[], %s::integer[], %s::text[], %s::float8[], %s::text[], %s::boolean[],
    %s::text[], %s::float8[])
"""

_RELEASE: Final = b"SELECT bulkhead_trio_release(%s::smallint, %s, %s::uuid[])"

_SWEEP: Final = b"SELECT bulkhead_trio_sweep(%s::smallint)"

_BACKLOG: Final = b"""
SELECT coalesce(sum(delta) FILTER (WHERE state = 'pending'), 0)::bigint,
    coalesce(sum(delta) FILTER (WHERE state = 'retrying'), 0)::bigint,
    coalesce(sum(delta) FILTER (WHERE state = 'dead'), 0)::bigint,
    (SELECT count(*) FROM work WHERE kind = %(kind)s AND lease_owner IS NOT NULL)
FROM work_counts WHERE kind = %(kind)s
"""


class WorkStore(abc.ABC, Generic[W]):
    """Work of one kind.

    Every method raises `bulkhead_trio.errors.DatabaseUnavailable` when the database is away.

    Args:
        pool: whose connections it uses, in autocommit mode.
        most_per_endpoint: under way to one endpoint at all instances together.
        uniform: a source of numbers in [0, 1).
    """

    kind: WorkKind

    def __init__(
        self,
        pool: Pool[Connection],
        *,
        most_per_endpoint: int = MOST_PER_ENDPOINT,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._pool = pool
        self._most_per_endpoint = most_per_endpoint
        self._uniform = uniform

    async def claim(
        self,
        owner: UUID,
        limit: int,
        lease_seconds: float,
        parallel: int,
        leaving_out: Collection[UUID] = (),
    ) -> list[W]:
        """Lease what is due, weighted-fair among tenants.

        No tenant has more than half of ``parallel`` in this owner's hands, no endpoint more than
        ``most_per_endpoint`` anywhere and a FIFO endpoint one. Retries get a quarter of ``limit``
        and of ``parallel`` while first tries wait; when none do, three quarters of ``parallel``.

        Args:
            owner: of the leases: one run of one pipeline.
            limit: the most to lease.
            lease_seconds: until others may have it.
            parallel: how many pieces of work the owner has in hand when it is busy.
            leaving_out: queues that nothing is leased of; few, for each claim passes them over.
        """
        parameters = (owner, limit, lease_seconds, parallel, self._most_per_endpoint,
                      self._uniform(), list(leaving_out))  # fmt: skip

        async def ask(connection: Connection) -> list[W]:
            found = await connection.execute(_CLAIM[self.kind], parameters, prepare=True)
            return [self._read(row) for row in await found.fetchall()]

        return await ask_through_deadlocks(self._pool, ask)

    async def renew(self, owner: UUID, item_ids: Sequence[UUID], lease_seconds: float) -> set[UUID]:
        """Prolong leases to ``lease_seconds`` from now; those that are still the owner's."""
        parameters = (lease_seconds, list(item_ids), self.kind, owner)

        async def ask(connection: Connection) -> set[UUID]:
            found = await connection.execute(_RENEW, parameters, prepare=True)
            return {row[0] for row in await found.fetchall()}

        return await ask_through_deadlocks(self._pool, ask)

    async def finish(self, owner: UUID, results: Sequence[Finished]) -> int:
        """Write what has come of tries, and what that means for their endpoints; together.

        A result counts if its lease is still the owner's, for as many attempts as were claimed.

        Returns:
            How many count.

        Raises:
            CallerError: a value cannot be kept; no result is written.
            ValueError: a result does not say when it is to be tried again.
        """
        if not results:
            return 0
        parameters = (int(self.kind), owner, *_columns(results))

        async def ask(connection: Connection) -> int:
            return await _number(connection, _FINISH, parameters)

        return await ask_through_deadlocks(self._pool, ask)

    async def release(self, owner: UUID, item_ids: Sequence[UUID]) -> int:
        """Give work back untried, to be claimed by anybody at once; how many there were to give."""
        parameters = (int(self.kind), owner, list(item_ids))

        async def ask(connection: Connection) -> int:
            return await _number(connection, _RELEASE, parameters)

        return await ask_through_deadlocks(self._pool, ask)

    async def sweep(self) -> int:
        """Give back what is under a lease that has run out; how many there were."""

        async def ask(connection: Connection) -> int:
            return await _number(connection, _SWEEP, (int(self.kind),))

        return await ask_through_deadlocks(self._pool, ask)

    async def backlog(self) -> Backlog:
        """How much work there is; exact, from counts that are kept, and cheap however much."""

        async def ask(connection: Connection) -> Backlog:
            found = await connection.execute(_BACKLOG, {"kind": int(self.kind)}, prepare=True)
            row = await found.fetchone()
            assert row is not None  # noqa: S101  an aggregate
            return Backlog(*row)

        return await ask_through_deadlocks(self._pool, ask)

    @abc.abstractmethod
    def _read(self, row: tuple[Any, ...]) -> W:
        """A row of the kind's claim."""


class WebhookWorkStore(WorkStore[WebhookWork]):
    """Deliveries to be made; see `WorkStore`."""

    kind = WorkKind.WEBHOOK

    def _read(self, row: tuple[Any, ...]) -> WebhookWork:
        values = list(row)
        sealed, until = values[14:16]
        values[5] = Lane(values[5])
        values[11] = values[11].encode()
        values[14:16] = [tuple(map(SigningSecret, sealed, until))]
        return WebhookWork(*values)


class NotificationWorkStore(WorkStore[NotificationWork]):
    """Notifications to be sent; see `WorkStore`."""

    kind = WorkKind.NOTIFICATION

    def _read(self, row: tuple[Any, ...]) -> NotificationWork:
        values = list(row)
        values[5] = Lane(values[5])
        return NotificationWork(*values)


async def _number(connection: Connection, statement: bytes, parameters: tuple[Any, ...]) -> int:
    found = await connection.execute(statement, parameters, prepare=True)
    row = await found.fetchone()
    assert row is not None  # noqa: S101  a function of one value
    return int(row[0])


def _columns(results: Sequence[Finished]) -> tuple[list[Any], ...]:
    """The arrays that `bulkhead_trio_finish` takes."""
    for result in results:
        if result.outcome in ("retry", "deferred") and result.retry_after_seconds is None:
            raise ValueError(f"when is {result.item_id} to be tried again?")
    attempts = [None if each.outcome == "deferred" else each.attempt for each in results]
    endpoints = [each.endpoint for each in results]
    return (
        [each.item_id for each in results],
        [each.attempts_before for each in results],
        [each.outcome for each in results],
        [
            each.retry_after_seconds if each.outcome in ("retry", "deferred") else None
            for each in results
        ],
        [each and each.at for each in attempts],
        [each and each.status for each in attempts],
        [each and each.error for each in attempts],
        [each and each.duration_ms for each in attempts],
        [each and each.response for each in attempts],
        [each and each.is_failing for each in endpoints],
        [each and each.disable_reason for each in endpoints],
        [each and each.slow_seconds for each in endpoints],
    )
