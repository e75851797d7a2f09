"""Attempts at notifications on the mock clock: quick tries, breakers, schedule, time."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from uuid import UUID

import attrs
import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.delivery._schedule_rules import DEFAULT_WAITS, RetrySchedule
from bulkhead_trio.delivery.channels import ATTEMPT_SECONDS, Channels, SMTPChannel, Tried
from bulkhead_trio.delivery.channels._mail_rules import MailRefused, Reply, Trouble
from bulkhead_trio.delivery.channels.channel import BreakerKey
from bulkhead_trio.delivery.channels.mail_session import Envelope
from bulkhead_trio.delivery.endpoint_breakers import FAILURES
from bulkhead_trio.delivery.pipeline import DeliveryPipeline
from bulkhead_trio.errors import BulkheadFull
from bulkhead_trio.testing.cancellation import CancellationPoint, sweep_cancellations

from .._memory_store import MemoryDatabase
from .._rows import moment, seconds_since_1970
from .._world import SCHEDULE, running, states, until
from ._mail import MOMENT, told, work

TAKEN = Reply(250, "taken")


@attrs.define
class ScriptedDrop:
    """A `MailDrop` in memory: says its replies in turn, the last for ever.

    Attributes:
        replies: a reply, what is raised, or a number of seconds that nothing comes for.
        envelopes: what was handed over, taken or not.
        active: under way now.
    """

    replies: list[Reply | Exception | float] = attrs.field(factory=lambda: [TAKEN])
    envelopes: list[Envelope] = attrs.field(factory=list)
    active: int = 0

    async def hand_over(self, envelope: Envelope, *, seconds: float) -> Reply:
        self.envelopes.append(envelope)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        self.active += 1
        try:
            await trio.lowlevel.checkpoint()
            if isinstance(reply, float):
                await trio.sleep(min(reply, seconds))
                raise MailRefused(Trouble.TIMEOUT)
        finally:
            self.active -= 1
        if isinstance(reply, Exception):
            raise reply
        return reply


def over(
    drop: ScriptedDrop, waits: tuple[float, ...] = DEFAULT_WAITS, random: float = 0.0
) -> Channels:
    channel = SMTPChannel(drop, sender="alerts@shop.example")
    return Channels(
        {"smtp": channel},
        schedule=RetrySchedule(waits),
        random=lambda: random,
        wall_clock=MOMENT.timestamp,
    )


async def test_notification_is_delivered(autojump_clock: MockClock) -> None:
    """And told with what was said."""
    drop = ScriptedDrop()
    finished = await over(drop).send(work())
    assert told(finished) == ("delivered", 250, None)
    assert finished.attempt is not None
    assert (finished.attempt.at, finished.attempt.response) == (MOMENT, "taken")
    assert (finished.attempt.number, finished.attempts_before) == (1, 0)
    assert finished.retry_after_seconds is None


@pytest.mark.parametrize(
    ("replies", "asked", "outcome", "status"),
    [
        ([Reply(451, "later"), TAKEN], 2, "delivered", 250),
        ([MailRefused(Trouble.BROKEN_OFF), Reply(421, "x"), Reply(450, "y"), TAKEN], 4,
         "delivered", 250),
        ([Reply(451, "later")], 4, "retry", 451),
        ([MailRefused(Trouble.NO_CONNECTION)], 4, "retry", None),
        ([MailRefused(Trouble.CERTIFICATE)], 1, "retry", None),
        ([MailRefused(Trouble.SESSION, code=421)], 4, "retry", 421),
        ([MailRefused(Trouble.SESSION, code=554)], 1, "retry", 554),
        ([Reply(550, "nobody")], 1, "dead", 550),
    ],
)  # fmt: skip
async def test_attempt_is_up_to_four_tries(
    replies: list[Reply | Exception | float],
    asked: int,
    outcome: str,
    status: int | None,
    autojump_clock: MockClock,
) -> None:
    """Of what may pass in a moment; what would come again is not asked for again."""
    drop = ScriptedDrop(replies)
    finished = await over(drop).send(work())
    assert told(finished)[:2] == (outcome, status)
    assert len(drop.envelopes) == asked
    assert len({each.content for each in drop.envelopes}) == 1


async def test_tries_are_moments_apart(autojump_clock: MockClock) -> None:
    """Half a second, one, two; all of it is the attempt's time."""
    drop = ScriptedDrop([Reply(451, "later")])
    began = trio.current_time()
    finished = await over(drop, random=0.999999).send(work())
    assert trio.current_time() - began == pytest.approx(3.5, abs=0.01)
    assert finished.attempt is not None
    assert finished.attempt.duration_ms == pytest.approx(3500, abs=10)


async def test_attempt_ends_after_two_minutes(autojump_clock: MockClock) -> None:
    """Half a minute for a try; the last result is told."""
    drop = ScriptedDrop([100.0])
    began = trio.current_time()
    finished = await over(drop, random=0.5).send(work())
    assert trio.current_time() - began == pytest.approx(120, abs=0.1)
    assert told(finished) == ("retry", None, Trouble.TIMEOUT.value)
    assert drop.active == 0


async def test_attempts_follow_the_schedule(autojump_clock: MockClock) -> None:
    """Days of it; after the last one it is a dead letter."""
    drop, waits = ScriptedDrop([Reply(451, "later")]), []
    channels = over(drop, random=0.5)
    for attempts in range(10):
        finished = await channels.send(work(attempts=attempts))
        assert finished.attempts_before == attempts
        waits.append(finished.retry_after_seconds)
    assert waits == [*DEFAULT_WAITS, None]
    assert told(finished) == ("dead", 451, "the mail server answered 451")


async def test_channel_that_is_not_well_is_left_alone(autojump_clock: MockClock) -> None:
    """Untried: it costs the notification no attempt; and is found well again by one."""
    drop = ScriptedDrop([MailRefused(Trouble.REFUSED)])
    channels = over(drop)
    finished = [await channels.send(work()) for _ in range(1 + -(-FAILURES // 4))]
    assert {each.outcome for each in finished[:-1]} == {"retry"}
    assert len(drop.envelopes) == FAILURES
    last = finished[-1]
    assert last.outcome == "deferred"
    assert (last.attempt, last.attempts_before) == (None, 0)
    assert last.retry_after_seconds == pytest.approx(5)
    assert channels.statistics()["smtp"].states["OPEN"] == 1
    assert channels.is_available("smtp")
    drop.replies = [TAKEN]
    await trio.sleep(5)
    assert (await channels.send(work())).outcome == "delivered"
    assert channels.statistics()["smtp"].states == {"CLOSED": 1, "OPEN": 0, "HALF_OPEN": 0}


async def test_notification_that_is_late_is_not_put_off_any_more(
    autojump_clock: MockClock,
) -> None:
    """Being left alone is a failed attempt once all of the schedule's time has passed.

    When it was made has no say: it may have been replayed since.
    """
    waits = (10.0, 20.0)
    span = datetime.timedelta(seconds=33 + 3 * ATTEMPT_SECONDS)
    channels = over(ScriptedDrop([MailRefused(Trouble.REFUSED)]), waits=waits, random=0.5)
    for _ in range(-(-FAILURES // 4)):
        await channels.send(work())
    at = MOMENT - span
    assert (await channels.send(work(scheduled_since=at))).outcome == "deferred"
    long_ago = MOMENT - datetime.timedelta(days=30)
    assert (await channels.send(work(created_at=long_ago))).outcome == "deferred"
    at -= datetime.timedelta(seconds=1)
    done = await channels.send(work(scheduled_since=at, attempts=1))
    assert told(done) == ("retry", None, "not sent: the service has not been answering")
    assert (done.attempts_before, done.retry_after_seconds) == (1, 20.0)
    done = await channels.send(work(scheduled_since=at, attempts=2))
    assert (done.outcome, done.retry_after_seconds) == ("dead", None)


async def test_notifications_to_a_service_that_is_gone_come_to_an_end(
    autojump_clock: MockClock,
) -> None:
    """Many, of which its breaker lets one through now and then: all end as dead letters.

    Within the schedule's span, and the waits that are left to those that were hardly tried.
    """
    database = MemoryDatabase()
    for _ in range(40):
        database.notification(database.tenant())
    channel = SMTPChannel(ScriptedDrop([MailRefused(Trouble.TIMEOUT)]), sender="a@shop.example")
    channels = Channels(
        {"smtp": channel}, schedule=SCHEDULE, random=lambda: 0.5, wall_clock=seconds_since_1970
    )
    pipeline = DeliveryPipeline(
        "notifications", database.notifications, channels.send,
        parallel=8, grace_seconds=0, schedule=SCHEDULE, uniform=lambda: 0.5, wall_clock=moment,
    )  # fmt: skip
    async with running(pipeline):
        await until(
            lambda: states(database.items.values()) == {"dead": 40},
            within=SCHEDULE.span(ATTEMPT_SECONDS) + sum(SCHEDULE.waits) * 1.1 + 60,
            every=1,
        )
    assert {len(item.tries) for item in database.items.values()} == {SCHEDULE.tries}


async def test_refusals_of_messages_open_no_breaker(autojump_clock: MockClock) -> None:
    """A server that says no to some is well."""
    drop = ScriptedDrop([Reply(550, "nobody")])
    channels = over(drop)
    for _ in range(50):
        assert (await channels.send(work())).outcome == "dead"
    assert channels.statistics()["smtp"].opened == 0


@pytest.mark.parametrize(
    "members",
    [
        {"recipient": "ann@example.com\r\nBcc: bob@example.com"},
        {"recipient": "ann@example.com, bob@example.com"},
        {"subject": "a\r\nBcc: bob@example.com"},
        {"body": "a\0b"},
    ],
)
async def test_notification_that_is_no_mail_is_dead(
    members: dict[str, str], autojump_clock: MockClock
) -> None:
    """At once, with the reason; no server sees it."""
    drop = ScriptedDrop()
    outcome, status, error = told(await over(drop).send(work(**members)))
    assert (outcome, status, drop.envelopes) == ("dead", None, [])
    assert error is not None
    assert error.startswith("it cannot be a mail")


async def test_channel_that_is_not_configured_is_told(autojump_clock: MockClock) -> None:
    """It may be tomorrow; the API refuses what is new."""
    channels = over(ScriptedDrop())
    assert not channels.is_available("pigeon")
    assert told(await channels.send(work("pigeon")))[0] == "retry"


@attrs.define
class OtherChannel:
    """A channel that does what a test says, with a service for each recipient."""

    behave: Callable[[], Tried]
    tried: int = 0
    is_shared: bool = False

    def breaker_key(self, work: object) -> BreakerKey:
        return UUID(int=1), getattr(work, "recipient", "")

    async def deliver(self, _work: object) -> Tried:
        await trio.lowlevel.checkpoint()
        self.tried += 1
        return self.behave()


def with_channels(**channels: OtherChannel) -> Channels:
    named: Mapping[str, OtherChannel] = channels
    return Channels(
        named, schedule=RetrySchedule(), random=lambda: 0.0, wall_clock=MOMENT.timestamp
    )


async def test_channels_do_not_share_breakers(autojump_clock: MockClock) -> None:
    """Nor do a channel's services."""
    bad = OtherChannel(lambda: Tried("retry", trips=True))
    good = OtherChannel(lambda: Tried("delivered"))
    channels = with_channels(bad=bad, good=good)
    for _ in range(20):
        await channels.send(work("bad", "a"))
    assert bad.tried == FAILURES
    assert (await channels.send(work("good", "a"))).outcome == "delivered"
    assert (await channels.send(work("bad", "b"))).outcome == "retry"


async def test_channels_of_one_service_for_all_are_told(autojump_clock: MockClock) -> None:
    """The state of such a one is the channel's own; that of a tenant's server is not."""
    one = OtherChannel(lambda: Tried("delivered"), is_shared=True)
    channels = with_channels(one=one, many=OtherChannel(lambda: Tried("delivered")))
    assert channels.shared == {"one"}
    assert over(ScriptedDrop()).shared == {"smtp"}


@pytest.mark.parametrize("error", [BulkheadFull("full"), trio.ClosedResourceError()])
async def test_want_of_room_is_no_attempt(error: Exception, autojump_clock: MockClock) -> None:
    """Nor is a server that is going."""

    def refuse() -> Tried:
        raise error

    finished = await with_channels(it=OtherChannel(refuse)).send(work("it"))
    assert (finished.outcome, finished.attempt) == ("deferred", None)
    assert finished.retry_after_seconds == 1


async def test_breaker_that_opens_amid_an_attempt_ends_it(autojump_clock: MockClock) -> None:
    """What was tried is told; it was an attempt."""
    trying = OtherChannel(lambda: Tried("retry", error="away", trips=True, is_worth_another=True))
    channels = with_channels(it=trying)
    for _ in range(-(-FAILURES // 4)):
        finished = await channels.send(work("it"))
    assert trying.tried == FAILURES
    assert told(finished) == ("retry", None, "away")


async def test_what_is_asked_is_waited(autojump_clock: MockClock) -> None:
    """Not shorter than the schedule, nor for ever."""
    asking = OtherChannel(lambda: Tried("retry", asked=100.0))
    finished = await with_channels(it=asking).send(work("it"))
    assert finished.retry_after_seconds == 100
    asking.behave = lambda: Tried("retry", asked=math.inf)
    finished = await with_channels(it=asking).send(work("it"))
    assert finished.retry_after_seconds == 86_400


async def test_attempt_is_cancelled_anywhere(autojump_clock: MockClock) -> None:
    """Nothing is under way then, and the breaker has all its permits."""

    async def scenario(point: CancellationPoint) -> None:
        drop = ScriptedDrop([Reply(451, "later"), MailRefused(Trouble.BROKEN_OFF), TAKEN])
        channels = over(drop)
        with point:
            assert (await channels.send(work())).outcome == "delivered"
        assert drop.active == 0
        assert channels.statistics()["smtp"].states["CLOSED"] == 1

    assert await sweep_cancellations(scenario) > 3
