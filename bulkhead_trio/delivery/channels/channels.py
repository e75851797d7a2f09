"""The channels of notifications: each with its breakers, quick retries, and limits in time."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from typing import Final

import trio

from bulkhead_trio.database.delivery_records import AttemptRecord
from bulkhead_trio.database.work_records import Finished, NotificationWork
from bulkhead_trio.delivery._schedule_rules import RetrySchedule
from bulkhead_trio.delivery.channels.channel import Channel, Tried
from bulkhead_trio.delivery.endpoint_breakers import (
    LEAST_DEFER_SECONDS,
    PROBING_SECONDS,
    BreakersStatistics,
    EndpointBreakers,
)
from bulkhead_trio.errors import CircuitOpen, DeadlineExceeded, Rejected
from bulkhead_trio.policies.deadline import Timeout
from bulkhead_trio.policies.pipeline import Pipeline
from bulkhead_trio.policies.retry import Retry

TRIES: Final = 4
"""In one attempt: the first, and three more."""

BASE_DELAY_SECONDS: Final = 0.5
MOST_DELAY_SECONDS: Final = 10.0

ATTEMPT_SECONDS: Final = 120.0
"""For one attempt, all its tries and the waits between; whoever runs one gives it a little more."""

TOO_LONG: Final = "it took too long"
LEFT_ALONE: Final = "not sent: the service has not been answering"
NOT_CONFIGURED: Final = "this channel is not configured on this server"


class Channels:
    """Sends notifications by the channel that each names.

    One attempt is up to four tries, moments apart, for what may pass in a moment: 30 s each, two
    minutes in all. What fails nevertheless is tried again by the schedule.

    Args:
        channels: by name.
        schedule: when an attempt that failed is followed by another.
        random: gives numbers from 0 up to but not including 1, for jitter.
        wall_clock: the time in seconds since 1970, as people are told it.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel],
        *,
        schedule: RetrySchedule,
        random: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._channels = dict(channels)
        self._schedule = schedule
        self._random = random
        self._wall_clock = wall_clock
        self._breakers = {name: _breakers() for name in channels}
        self._limit = Timeout(ATTEMPT_SECONDS, name="notification")
        self._retry = Retry(
            TRIES,
            base_delay=BASE_DELAY_SECONDS,
            max_delay=MOST_DELAY_SECONDS,
            # What is raised is a refusal of our own, or a mistake.
            retry_on=lambda _: False,
            retry_result=lambda tried: tried.is_worth_another,
            random=random,
            name="notification",
        )

    def is_available(self, channel: str) -> bool:
        """Whether notifications can be sent by it; the breaker, which closes again, has no say."""
        return channel in self._channels

    @property
    def shared(self) -> frozenset[str]:
        """The channels behind which there is one service, for all tenants."""
        return frozenset(name for name, each in self._channels.items() if each.is_shared)

    async def send(self, work: NotificationWork) -> Finished:
        """Make one attempt at ``work``.

        Whatever becomes of it is told, not raised. ``deferred`` is what was not tried, since its
        service is being left alone or there was no room of our own: it is no attempt. What is later
        than its whole schedule is deferred for its service no more; being left alone is a failed
        attempt then, so that it comes to an end.
        """
        began, at = trio.current_time(), self._wall_clock()
        channel = self._channels.get(work.channel)
        if channel is None:
            await trio.lowlevel.checkpoint()
            return self._finished(work, at, 0.0, Tried("retry", error=NOT_CONFIGURED))
        last: list[Tried] = []
        breaker = self._breakers[work.channel].get(*channel.breaker_key(work))

        async def deliver() -> Tried:
            last[:] = [await channel.deliver(work)]
            return last[0]

        try:
            tried = await Pipeline(self._limit, self._retry, breaker).call(deliver)
        except CircuitOpen as refusal:
            if last:
                tried = last[0]
            elif self._is_late(work, at):
                tried = Tried("retry", error=LEFT_ALONE)
            else:
                return self._deferred(work, refusal.retry_after or PROBING_SECONDS)
        except Rejected as refusal:
            if not last:
                return self._deferred(work, refusal.retry_after or LEAST_DEFER_SECONDS)
            tried = last[0]
        except DeadlineExceeded:
            tried = last[0] if last else Tried("retry", error=TOO_LONG)
        except trio.ClosedResourceError:  # the client is closed: this server is going
            return self._deferred(work, LEAST_DEFER_SECONDS)
        return self._finished(work, at, trio.current_time() - began, tried)

    def statistics(self) -> Mapping[str, BreakersStatistics]:
        """What is known of the services behind each channel, by its name."""
        return {name: breakers.statistics() for name, breakers in self._breakers.items()}

    # --- what became of it -----------------------------------------------------------------------

    def _deferred(self, work: NotificationWork, seconds: float) -> Finished:
        return Finished(
            item_id=work.item_id,
            attempts_before=work.attempts,
            attempt=None,
            outcome="deferred",
            retry_after_seconds=max(seconds, LEAST_DEFER_SECONDS) * (1 + self._random() / 10),
        )

    def _is_late(self, work: NotificationWork, at: float) -> bool:
        return self._schedule.is_over(at - work.scheduled_since.timestamp(), ATTEMPT_SECONDS)

    def _finished(
        self, work: NotificationWork, at: float, seconds: float, tried: Tried
    ) -> Finished:
        number, outcome, wait = work.attempts + 1, tried.outcome, None
        if outcome == "retry":
            wait = self._schedule.wait(number, random=self._random(), asked=tried.asked)
            outcome = "dead" if wait is None else "retry"
        return Finished(
            item_id=work.item_id,
            attempts_before=work.attempts,
            attempt=AttemptRecord(
                number=number,
                at=datetime.datetime.fromtimestamp(at, datetime.UTC),
                status=tried.status,
                error=tried.error,
                duration_ms=round(seconds * 1000),
                response=tried.response,
            ),
            outcome=outcome,
            retry_after_seconds=wait,
        )


def _breakers() -> EndpointBreakers:
    return EndpointBreakers(
        is_failure=lambda tried: tried.trips, is_ignored=lambda tried: tried.says_nothing
    )
