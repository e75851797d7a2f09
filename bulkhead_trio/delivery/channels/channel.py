"""What a channel is: where notifications of one kind go, and what came of a try."""

from __future__ import annotations

from typing import Protocol, TypeAlias
from uuid import UUID

import attrs

from bulkhead_trio.database.work_records import NotificationWork
from bulkhead_trio.delivery._verdict_rules import Outcome

BreakerKey: TypeAlias = tuple[UUID, str]

TRY_SECONDS = 30.0
"""For one try."""


@attrs.frozen
class Tried:
    """What came of a try.

    Attributes:
        outcome: what becomes of the notification, if nothing better comes.
        status: what was answered, as a number; ``None`` without an answer.
        error: what went wrong, for people; ``None`` where nothing did.
        response: the beginning of what was answered.
        asked: seconds that it asks to wait.
        trips: whether it says that the service is not well.
        says_nothing: whether it says nothing at all of the service.
        is_worth_another: whether a try a moment later may end better.
    """

    outcome: Outcome
    status: int | None = None
    error: str | None = None
    response: str | None = None
    asked: float | None = None
    trips: bool = False
    says_nothing: bool = False
    is_worth_another: bool = False


class Channel(Protocol):
    """One way for notifications to leave the house."""

    @property
    def is_shared(self) -> bool:
        """Whether there is one service behind it, for all tenants."""

    def breaker_key(self, work: NotificationWork) -> BreakerKey:
        """Which service it goes to: each has a breaker of its own."""

    async def deliver(self, work: NotificationWork) -> Tried:
        """Try once, for at most `TRY_SECONDS`. What goes wrong is told, not raised.

        Raises:
            Rejected: there was no room of our own to try.
        """
