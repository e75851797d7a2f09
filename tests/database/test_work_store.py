"""Claims, leases and results of work in a real PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from uuid import UUID

import psycopg
import pytest
import trio

from bulkhead_trio.database.delivery_records import DeliveryFilter
from bulkhead_trio.database.webhook_records import EndpointChange, WebhookChanges
from bulkhead_trio.database.work_records import Backlog, Finished, Lane
from bulkhead_trio.errors import CallerError, DatabaseUnavailable
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations
from tests.database._delivery import AT, LEASE, PARALLEL, attempt, ids, opened, result


async def test_claim_gives_what_sending_needs(database: str) -> None:
    """The event, the endpoint, and the place in the schedule; once, until the lease ends."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant)
        (work,) = await world.claimed()
        delivery = await world.deliveries.get(tenant, work.item_id)
        event = await world.events.get(tenant, work.event_id)
        assert (work.attempts, work.lane, work.tenant_id) == (0, Lane.FIRST, tenant)
        assert (work.queue_id, work.url) == (webhook.id, webhook.url)
        assert (work.secrets, work.fifo, work.failing_since) == (webhook.secrets, False, None)
        assert work.secrets[0].sealed == b"sealed"
        assert (work.event_type, work.payload) == (event.type, event.payload)
        assert (work.event_created_at, work.created_at) == (event.created_at, delivery.created_at)
        assert work.scheduled_since == delivery.created_at
        assert work.lease_until > delivery.created_at
        assert await world.claimed() == []
        assert "sealed" not in repr(work)


async def test_claim_by_many_at_once_gives_each_piece_to_one(database: str) -> None:
    """Several owners over several connections: none twice, none left."""
    claimed: list[UUID] = []

    async with opened(database, connections=8, most_per_endpoint=1000) as world:
        tenants = [await world.tenant() for _ in range(4)]
        for tenant in tenants:
            for _ in range(5):
                await world.filled(tenant, (await world.webhook(tenant)).id, 50)

        async def claim() -> None:
            owner, empty = uuid.uuid4(), 0
            while empty < 20:
                works = await world.claimed(7, owner=owner)
                claimed.extend(ids(works))
                empty = 0 if works else empty + 1

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(claim)
        assert len(claimed) == len(set(claimed)) == 4 * 5 * 50
        assert await world.claimed() == []
        assert await world.sql("SELECT * FROM work_heads") == []


async def test_work_done_by_many_at_once_is_done_once(database: str) -> None:
    """Every delivery ends, once, whatever is done to work and endpoints at the same time.

    No endpoint ever has more than four under way.
    """
    done: list[UUID] = []
    total = 3 * 2 * 60

    async with opened(database, connections=10) as world:
        tenants = [await world.tenant(weight=weight) for weight in (1, 3, 1)]
        hooks = [
            (tenant, (await world.webhook(tenant, fifo=fifo)).id)
            for tenant in tenants
            for fifo in (False, True)
        ]

        async def raise_events() -> None:
            for _ in range(20):
                for tenant in tenants:
                    await world.raised(tenant, 3)

        async def work(number: int) -> None:
            owner, turn = uuid.uuid4(), 0
            while len(done) < total:
                works = await world.claimed(5, owner=owner)
                turn += 1
                if turn % 5 == number % 5:
                    await world.work.release(owner, ids(works))
                elif turn % 5 == (number + 1) % 5:
                    await world.finished(works, "retry", after=0.01, owner=owner)
                else:
                    assert await world.finished(works, owner=owner) == len(works)
                    done.extend(ids(works))

        async def meddle(task: Callable[[], Awaitable[object]]) -> None:
            while len(done) < total:
                await task()
                await trio.sleep(0.01)

        async def switch() -> None:
            for active in (False, True):
                for tenant, webhook in hooks:
                    changes = WebhookChanges(active=active)
                    await world.webhooks.update(tenant, webhook, changes)

        async def line_up() -> None:
            for fifo in (True, False):
                changes = WebhookChanges(fifo=fifo, url=f"https://example.com/{fifo}")
                await world.webhooks.update(*hooks[0], changes)

        async def count() -> None:
            most = await world.sql(
                "SELECT count(*) FROM work WHERE lease_owner IS NOT NULL "
                "GROUP BY queue_id ORDER BY 1 DESC LIMIT 1"
            )
            assert not most or most[0][0] <= 4

        async def hurry() -> None:
            wanted = DeliveryFilter(state="retrying")
            await world.deliveries.replay_matching(None, wanted, limit=20)

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(raise_events)
                for task in (world.work.sweep, switch, line_up, count, hurry):
                    nursery.start_soon(meddle, task)
                for number in range(5):
                    nursery.start_soon(work, number)
        assert len(set(done)) == total
        assert await world.value("SELECT count(*) FROM work") == 0
        assert await world.value("SELECT count(*) FROM deliveries WHERE state = 'delivered'") == (
            total
        )
        assert await world.work.backlog() == Backlog(0, 0, 0, 0)


async def test_lease_that_ran_out_is_swept_to_the_next(database: str) -> None:
    """Its work is anybody's again, as it was; what is still leased is not."""
    async with opened(database) as world:
        tenant = await world.tenant()
        for _ in range(2):
            await world.webhook(tenant)
        await world.raised(tenant, 2)
        first = await world.claimed(2)
        await world.expired()
        assert await world.claimed() != [], "the other two"
        assert await world.work.sweep() == 2
        assert await world.work.sweep() == 0
        again = await world.claimed()
        assert set(ids(again)) == set(ids(first))
        assert {work.attempts for work in again} == {0}
        assert await world.work.backlog() == Backlog(4, 0, 0, 4)


async def test_sweep_gives_an_expired_fifo_delivery_back_at_its_place(database: str) -> None:
    """The line goes on where it was."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant, fifo=True)
        await world.raised(tenant, 3)
        (first,) = await world.claimed()
        await world.expired()
        assert await world.claimed() == []
        assert await world.work.sweep() == 1
        assert ids(await world.claimed()) == ids([first])


async def test_finish_of_a_lost_lease_does_nothing(database: str) -> None:
    """Neither after a sweep, nor when another has it, nor for other attempts; nor twice."""
    other = uuid.uuid4()
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant)
        works = await world.claimed()
        accused = EndpointChange(is_failing=True, disable_reason="gone", slow_seconds=5)
        assert await world.finished(works, owner=other) == 0
        await world.expired()
        await world.work.sweep()
        assert await world.finished(works, "dead", endpoint=accused) == 0
        again = await world.claimed(owner=other)
        assert await world.finished(works, "dead", endpoint=accused) == 0
        wrong = Finished(works[0].item_id, 1, attempt(), "dead", None, accused)
        assert await world.work.finish(other, [wrong]) == 0
        assert await world.webhooks.get(tenant, webhook.id) == webhook
        assert await world.deliveries.attempts(tenant, works[0].item_id) == []
        assert await world.finished(again, owner=other) == 1
        assert await world.finished(again, owner=other) == 0
        assert len(await world.deliveries.attempts(tenant, works[0].item_id)) == 1


async def test_renew_says_which_are_still_ours(database: str) -> None:
    """Longer leases for those; nothing for what another has, or nobody any more."""
    other = uuid.uuid4()
    async with opened(database) as world:
        tenant = await world.tenant()
        for _ in range(3):
            await world.webhook(tenant)
        await world.raised(tenant)
        ours = await world.claimed(2)
        theirs = await world.claimed(owner=other)
        wanted = ids(ours) + ids(theirs) + [uuid.uuid4()]
        assert await world.work.renew(world.owner, wanted, 600) == set(ids(ours))
        left = await world.sql(
            "SELECT item_id FROM work WHERE lease_until > now() + interval '500 seconds'"
        )
        assert {row[0] for row in left} == set(ids(ours))
        await world.finished(ours[:1])
        assert await world.work.renew(world.owner, wanted, 600) == {ours[1].item_id}
        await world.expired()
        assert await world.work.renew(world.owner, wanted, 600) == set(), "a sweep may be at it"


async def test_release_gives_work_back_as_it_was(database: str) -> None:
    """At once, to anybody, with no attempt counted."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 3)
        works = await world.claimed()
        assert await world.work.release(uuid.uuid4(), ids(works)) == 0
        assert await world.work.release(world.owner, ids(works)) == 3
        assert await world.work.release(world.owner, ids(works)) == 0
        again = await world.claimed(owner=uuid.uuid4())
        assert ids(again) == ids(works)
        assert [work.attempts for work in again] == [0, 0, 0]


async def test_finish_writes_the_attempt_and_the_end(database: str) -> None:
    """What was delivered or given up is no work any more; every try is told of."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 2)
        good, bad = await world.claimed()
        assert await world.work.finish(world.owner, [result(good), result(bad, "dead")]) == 2
        for work, state in ((good, "delivered"), (bad, "dead")):
            delivery = await world.deliveries.get(tenant, work.item_id)
            assert (delivery.state, delivery.attempts, delivery.next_at) == (state, 1, None)
            assert delivery.ended_at is not None
            (told,) = await world.deliveries.attempts(tenant, work.item_id)
            assert (told.number, told.at, told.status) == (1, AT, 200)
            assert (told.error, told.duration_ms, told.response) == (None, 12.5, "ok")
        assert await world.value("SELECT count(*) FROM work") == 0
        assert await world.work.backlog() == Backlog(0, 0, 1, 0)


async def test_retry_comes_when_it_is_due(database: str) -> None:
    """Not before, in the lane of retries, with one more attempt behind it."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant)
        await world.finished(await world.claimed(), "retry", after=300)
        assert await world.work.backlog() == Backlog(0, 1, 0, 0)
        assert await world.claimed() == []
        await world.later(299)
        assert await world.claimed() == []
        await world.later(1)
        (work,) = await world.claimed()
        assert (work.attempts, work.lane) == (1, Lane.RETRY)
        delivery = await world.deliveries.get(tenant, work.item_id)
        assert (delivery.state, delivery.attempts) == ("retrying", 1)
        assert delivery.next_at is not None
        await world.finished([work], "retry", after=5)
        numbers = [each.number for each in await world.deliveries.attempts(tenant, work.item_id)]
        assert numbers == [1, 2]


async def test_retry_that_is_due_sooner_does_not_wait_for_another(database: str) -> None:
    """One head for all retries of an endpoint, and it goes by the soonest."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 2)
        late, soon = await world.claimed()
        await world.finished([late], "retry", after=300)
        await world.finished([soon], "retry", after=5)
        await world.later(5)
        assert ids(await world.claimed()) == ids([soon])
        await world.later(295)
        assert ids(await world.claimed()) == ids([late])


async def test_deferred_is_no_attempt(database: str) -> None:
    """It comes again after its time as it was, and nothing is told of it."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant)
        (work,) = await world.claimed()
        await world.finished([work], "deferred", after=30)
        assert await world.claimed() == []
        delivery = await world.deliveries.get(tenant, work.item_id)
        assert (delivery.state, delivery.attempts) == ("pending", 0)
        await world.later(30)
        (again,) = await world.claimed()
        assert (again.item_id, again.attempts, again.lane) == (work.item_id, 0, Lane.FIRST)
        assert await world.deliveries.attempts(tenant, work.item_id) == []
        assert await world.work.backlog() == Backlog(1, 0, 0, 1)


async def test_finish_of_a_retry_without_a_time_is_refused(database: str) -> None:
    """It would never be tried again."""
    async with opened(database) as world:
        lost = Finished(uuid.uuid4(), 0, attempt(), "retry")
        with pytest.raises(ValueError, match="when is"):
            await world.work.finish(world.owner, [lost])


async def test_finish_with_a_text_that_cannot_be_kept_writes_nothing(database: str) -> None:
    """The caller's mistake, for all results together; each can be finished alone afterwards."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 2)
        good, bad = await world.claimed()
        poison = Finished(bad.item_id, 0, attempt(error="a\0b"), "dead")
        with pytest.raises(CallerError):
            await world.work.finish(world.owner, [result(good), poison])
        assert await world.value("SELECT count(*) FROM delivery_attempts") == 0
        assert await world.finished([good, bad]) == 2


async def test_endpoint_changes_come_with_the_result(database: str) -> None:
    """Failing since the first failure, well again after a success."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant, 3)
        first, second, third = await world.claimed()
        await world.finished([first], "retry", after=9, endpoint=EndpointChange(is_failing=True))
        since = (await world.webhooks.get(tenant, webhook.id)).failing_since
        assert since is not None
        await world.finished([second], "retry", after=9, endpoint=EndpointChange(is_failing=True))
        found = await world.webhooks.get(tenant, webhook.id)
        assert (found.failing_since, found.version) == (since, webhook.version)
        await world.finished([third], endpoint=EndpointChange(is_failing=False))
        assert (await world.webhooks.get(tenant, webhook.id)).failing_since is None


async def test_endpoint_is_well_after_a_success_that_knew_of_no_failure(database: str) -> None:
    """The failure came after the claim; the result of the success need not say anything."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant, 2)
        bad, good = await world.claimed()
        await world.finished([bad], "retry", after=9, endpoint=EndpointChange(is_failing=True))
        assert (await world.webhooks.get(tenant, webhook.id)).failing_since is not None
        await world.finished([good])
        assert (await world.webhooks.get(tenant, webhook.id)).failing_since is None


async def test_endpoint_that_is_slowed_down_rests(database: str) -> None:
    """Nothing of it is claimed before its time; neither what waits nor what comes."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 6)
        first, *others = await world.claimed()
        slow = EndpointChange(is_failing=True, slow_seconds=30)
        await world.finished([first], "retry", after=1, endpoint=slow)
        await world.finished(others)
        await world.raised(tenant)
        assert await world.claimed() == []
        await world.later(29)
        assert await world.claimed() == []
        await world.later(1)
        assert len(await world.claimed()) == 4


async def test_endpoint_that_is_disabled_keeps_what_waits(database: str) -> None:
    """Together with the result, and its tenant is told in an event of its own."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant, "order.*")
        watcher = await world.webhook(tenant, "webhook.*")
        await world.raised(tenant, 6)
        works = await world.claimed()
        assert len(works) == 4
        gone = EndpointChange(is_failing=True, disable_reason="gone")
        await world.finished(works[:2], "dead", endpoint=gone)
        found = await world.webhooks.get(tenant, webhook.id)
        assert (found.active, found.disabled_reason) == (False, "gone")
        assert (found.failing_since is not None, found.version) == (True, webhook.version + 1)
        await world.finished(works[2:], "retry")
        assert await world.fanned_out() == 1
        await world.raised(tenant)
        (told,) = await world.claimed()
        assert (told.queue_id, told.event_type) == (watcher.id, "webhook.disabled")
        assert told.payload == (
            b'{"webhookId" : "wh_%s", "url" : "https://example.com/hook", '
            b'"disabledReason" : "gone"}' % webhook.id.hex.encode()
        )
        assert await world.work.backlog() == Backlog(4, 2, 2, 1)


async def test_store_whose_database_refuses_is_away(database: str) -> None:
    """A table that is gone is no mistake of the caller's."""
    async with opened(database) as world:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ALTER TABLE work RENAME TO elsewhere")
        with pytest.raises(DatabaseUnavailable):
            await world.claimed()
        with pytest.raises(DatabaseUnavailable):
            await world.work.sweep()


async def test_store_cancelled_anywhere_loses_nothing(database: str) -> None:
    """Work is claimed and finished, or is there to be."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)

        async def deliver(point: CancellationPoint) -> None:
            await world.raised(tenant)
            with point:
                works = await world.work.claim(world.owner, 10, LEASE, PARALLEL)
                await world.finished(works)

        await sweep_cancellations(deliver)
        await world.expired()
        await world.work.sweep()
        while works := await world.claimed():
            await world.finished(works)
        assert await world.value("SELECT count(*) FROM work") == 0
        assert await world.value("SELECT count(*) FROM deliveries WHERE ended_at IS NULL") == 0


async def test_notifications_are_work_of_their_own(database: str) -> None:
    """The same leases and ends, and neither kind claims the other's."""
    async with opened(database) as world:
        tenant = await world.tenant()
        letter = await world.letter(tenant)
        assert await world.claimed() == []
        (work,) = await world.letters.claim(world.owner, 10, LEASE, 8)
        assert (work.item_id, work.tenant_id, work.channel) == (letter, tenant, "smtp")
        assert (work.recipient, work.subject, work.body) == ("a@example.com", "Subject", "Body")
        assert (work.attempts, work.lane) == (0, Lane.FIRST)
        assert await world.work.renew(world.owner, [letter], LEASE) == set()
        assert await world.work.finish(world.owner, [result(work)]) == 0
        assert await world.letters.finish(world.owner, [result(work, "retry", after=5)]) == 1
        assert await world.letters.backlog() == Backlog(0, 1, 0, 0)
        assert await world.work.backlog() == Backlog(0, 0, 0, 0)
        await world.later(5)
        (again,) = await world.letters.claim(world.owner, 10, LEASE, 8)
        assert (again.attempts, again.lane) == (1, Lane.RETRY)
        assert again.scheduled_since == again.created_at
        assert await world.letters.finish(world.owner, [result(again)]) == 1
        found = await world.notifications.get(tenant, letter)
        assert (found.state, found.attempts, found.ended_at is not None) == ("delivered", 2, True)
        numbers = [each.number for each in await world.notifications.attempts(tenant, letter)]
        assert numbers == [1, 2]
