"""What changes of an endpoint mean for what waits for it, in a real PostgreSQL."""

from __future__ import annotations

import pytest

from bulkhead_trio.database.delivery_records import DeliveryFilter
from bulkhead_trio.database.webhook_records import EndpointChange, WebhookChanges
from bulkhead_trio.database.webhook_tests import WebhookTests
from bulkhead_trio.database.work_records import Lane, Outcome
from tests.database._delivery import ids, opened

ACCUSED = EndpointChange(is_failing=True, disable_reason="gone", slow_seconds=600)
RESTING = EndpointChange(is_failing=True, slow_seconds=600)
ELSEWHERE = WebhookChanges(url="https://example.com/elsewhere")


@pytest.mark.parametrize(("outcome", "lane"), [("retry", Lane.RETRY), ("deferred", Lane.FIRST)])
async def test_webhook_that_is_fifo_no_more_holds_nothing_back(
    database: str, outcome: Outcome, lane: Lane
) -> None:
    """What stood behind goes out at once, and the one in front when it was to, and not before."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant, fifo=True)
        await world.raised(tenant, 3)
        (first,) = await world.claimed()
        await world.finished([first], outcome, after=300)
        assert await world.claimed() == []
        await world.webhooks.update(tenant, webhook.id, WebhookChanges(fifo=False))
        others = await world.claimed()
        assert len(others) == 2
        assert first.item_id not in ids(others)
        await world.raised(tenant)
        (newest,) = await world.claimed()
        assert newest.item_id != first.item_id
        await world.later(299)
        assert await world.claimed() == []
        await world.later(1)
        (again,) = await world.claimed()
        assert (again.item_id, again.lane) == (first.item_id, lane)


async def test_webhook_that_is_fifo_no_more_while_one_is_under_way(database: str) -> None:
    """Its result finds no line to go back to."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant, fifo=True)
        await world.raised(tenant, 3)
        (first,) = await world.claimed()
        await world.webhooks.update(tenant, webhook.id, WebhookChanges(fifo=False))
        await world.finished([first], "retry", after=300)
        others = await world.claimed()
        assert len(others) == 2
        assert first.item_id not in ids(others)


async def test_webhook_that_becomes_fifo_shows_no_times_of_before(database: str) -> None:
    """All of its line is due; what was to be retried later is not."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant)
        (work,) = await world.claimed()
        await world.finished([work], "retry", after=300)
        assert (await world.deliveries.get(tenant, work.item_id)).next_at is not None
        await world.webhooks.update(tenant, webhook.id, WebhookChanges(fifo=True))
        assert (await world.deliveries.get(tenant, work.item_id)).next_at is None


async def test_result_of_an_earlier_url_means_nothing_for_the_endpoint(database: str) -> None:
    """Neither that it is gone, nor that it is to rest, nor that it is well; it counts as a try."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant, 6)
        gone, good, *_ = await world.claimed()
        changed = await world.webhooks.update(tenant, webhook.id, ELSEWHERE)
        assert await world.finished([gone], "dead", endpoint=ACCUSED) == 1
        assert await world.webhooks.get(tenant, webhook.id) == changed
        assert (await world.deliveries.get(tenant, gone.item_id)).state == "dead"
        (here,) = await world.claimed()
        assert here.url == ELSEWHERE.url
        await world.finished([here], "retry", after=9, endpoint=EndpointChange(is_failing=True))
        assert await world.finished([good]) == 1
        assert (await world.webhooks.get(tenant, webhook.id)).failing_since is not None
        last, *_ = await world.claimed()
        await world.finished([last], "dead", endpoint=ACCUSED)
        assert not (await world.webhooks.get(tenant, webhook.id)).active


async def test_change_that_is_not_of_the_url_leaves_results_as_they_are(database: str) -> None:
    """The endpoint is the same."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant)
        works = await world.claimed()
        changes = WebhookChanges(url=webhook.url, description="new")
        await world.webhooks.update(tenant, webhook.id, changes)
        await world.finished(works, "dead", endpoint=ACCUSED)
        assert not (await world.webhooks.get(tenant, webhook.id)).active


@pytest.mark.parametrize("fifo", [False, True])
async def test_webhook_with_another_url_has_nothing_held_against_it(
    database: str, fifo: bool
) -> None:
    """Neither since when the other one fails nor that it is to rest; what waits goes out."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant, fifo=fifo)
        await world.raised(tenant, 6)
        first, *others = await world.claimed()
        await world.finished([first], "dead", endpoint=RESTING)
        await world.finished(others)
        assert await world.claimed() == []
        changed = await world.webhooks.update(tenant, webhook.id, ELSEWHERE)
        assert (changed.failing_since, changed.slow_until) == (None, None)
        assert {work.url for work in await world.claimed()} == {ELSEWHERE.url}


async def test_replay_of_one_does_not_wait_for_an_endpoint_that_rests(database: str) -> None:
    """A person asks for it; many at once wait until it has rested."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant, 2)
        one, other = await world.claimed()
        await world.finished([one, other], "dead", endpoint=RESTING)
        await world.claimed()
        await world.deliveries.replay_matching(tenant, DeliveryFilter(state="dead"))
        assert await world.claimed() == []
        await world.sql("UPDATE deliveries SET state = 'dead', ended_at = now()")
        await world.sql("DELETE FROM work")
        await world.deliveries.replay(tenant, one.item_id)
        assert (await world.webhooks.get(tenant, webhook.id)).slow_until is None
        assert ids(await world.claimed()) == [one.item_id]


async def test_test_event_does_not_wait_for_an_endpoint_that_rests(database: str) -> None:
    """Who sends one wants to see what becomes of it now."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant)
        await world.finished(await world.claimed(), "retry", after=1200, endpoint=RESTING)
        await world.raised(tenant)
        assert await world.claimed() == []
        sent = await WebhookTests(world.pool).send(tenant, webhook.id, "webhook.test", "{}")
        assert sent.id in ids(await world.claimed())


async def test_webhook_switched_on_begins_the_schedules_anew(database: str) -> None:
    """What has waited for that is not late; other changes begin nothing."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant)
        await world.webhooks.update(tenant, webhook.id, WebhookChanges(active=True))
        (work,) = await world.claimed()
        assert work.scheduled_since == work.created_at
        await world.work.release(world.owner, ids([work]))
        await world.webhooks.update(tenant, webhook.id, WebhookChanges(active=False))
        await world.webhooks.update(tenant, webhook.id, WebhookChanges(active=True))
        (again,) = await world.claimed()
        assert again.scheduled_since > again.created_at == work.created_at
