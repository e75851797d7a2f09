"""What is forgotten, and what is not, in a real PostgreSQL."""

from __future__ import annotations

import pytest

from bulkhead_trio.database.delivery_records import DeliveryFilter, Pruned
from bulkhead_trio.database.event_records import EventDraft
from bulkhead_trio.database.webhook_records import WebhookChanges
from bulkhead_trio.database.work_records import Backlog
from bulkhead_trio.errors import NotFound
from tests.database._delivery import LEASE, World, opened, result

MONTH = 30 * 86_400.0
NOTHING = Pruned(0, 0, 0, 0, has_more=False)


async def months_later(world: World, months: float = 1.1) -> None:
    """All of the history is so much older."""
    for table, columns in (
        ("events", ("created_at",)),
        ("deliveries", ("created_at", "ended_at")),
        ("notifications", ("created_at", "ended_at")),
    ):
        for column in columns:
            await world.sql(
                f"UPDATE {table} SET {column} = {column} - make_interval(secs => %s)",
                (months * MONTH,),
            )


async def walk(world: World) -> list[Pruned]:
    """Rounds of five until there is no more."""
    rounds = [await world.pruning.prune(MONTH, 5)]
    while rounds[-1].has_more:
        rounds.append(await world.pruning.prune(MONTH, 5))
    return rounds


async def test_prune_forgets_what_ended_long_ago(database: str) -> None:
    """Deliveries and notifications with their attempts, and events with no delivery left."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 3)
        works = await world.claimed()
        await world.finished(works[:1])
        await world.finished(works[1:2], "dead")
        await world.finished(works[2:], "retry", after=1)
        await world.letter(tenant)
        letters = await world.letters.claim(world.owner, 10, LEASE, 8)
        await world.letters.finish(world.owner, [result(letters[0])])
        await world.letter(tenant)
        await world.events.add([EventDraft(tenant, "a", b"{}")])
        assert await world.pruning.prune(MONTH, 100) == NOTHING
        await months_later(world)
        await world.raised(tenant)
        assert await world.pruning.prune(MONTH, 100) == Pruned(2, 1, 2, 0, has_more=False)
        assert await world.pruning.prune(MONTH, 100) == NOTHING
        for work in works[:2]:
            with pytest.raises(NotFound):
                await world.deliveries.get(tenant, work.item_id)
            with pytest.raises(NotFound):
                await world.events.get(tenant, work.event_id)
        assert (await world.deliveries.get(tenant, works[2].item_id)).state == "retrying"
        assert await world.value("SELECT count(*) FROM delivery_attempts") == 1
        assert await world.work.backlog() == Backlog(2, 1, 0, 0)
        assert await world.letters.backlog() == Backlog(1, 0, 0, 0)


async def test_prune_takes_a_bounded_number_at_a_time(database: str) -> None:
    """And says whether there is more; also past events that have to stay."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant, "order.*")
        await world.raised(tenant, 7)
        await world.raised(tenant, 8, "user.added")
        await months_later(world)
        rounds = await walk(world)
        assert (sum(each.events for each in rounds), max(each.events for each in rounds)) == (8, 5)
        while works := await world.claimed():
            await world.finished(works)
        await months_later(world)
        rounds = await walk(world)
        assert [each.deliveries for each in rounds] == [5, 2]
        await walk(world)
        assert await world.value("SELECT count(*) FROM events") == 0


async def test_prune_gives_up_what_waits_for_a_disabled_endpoint(database: str) -> None:
    """After as long as anything is kept, in bounded parts; for an active one nothing is."""
    async with opened(database) as world:
        tenant = await world.tenant()
        off, on = await world.webhook(tenant), await world.webhook(tenant)
        await world.raised(tenant, 5)
        await world.webhooks.update(tenant, off.id, WebhookChanges(active=False))
        await months_later(world)
        await world.raised(tenant, 1)
        assert (await world.pruning.prune(MONTH, 3)).given_up == 3
        assert (await world.pruning.prune(MONTH, 3)).given_up == 2
        assert (await world.pruning.prune(MONTH, 3)).given_up == 0
        for webhook, states in ((off, ["dead"] * 5 + ["pending"]), (on, ["pending"] * 6)):
            wanted = DeliveryFilter(webhook_id=webhook.id)
            page = await world.deliveries.page(tenant, wanted, limit=100)
            assert sorted(each.state for each in page.items) == states
        await world.webhooks.update(tenant, off.id, WebhookChanges(active=True))
        assert len(await world.claimed()) == 5


async def test_counts_stay_exact_through_sweeps_and_prunings(database: str) -> None:
    """What the metrics say is what a count of the tables says."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 20)
        for outcome in ("delivered", "retry", "dead", "deferred"):
            works = await world.claimed(4)
            await world.finished(works, outcome, after=1)  # type: ignore[arg-type]
            await world.work.sweep()
            await world.deliveries.replay_matching(tenant, DeliveryFilter(state="dead"), limit=1)
        await months_later(world)
        await world.pruning.prune(MONTH, 2)
        counted = dict(
            await world.sql("SELECT state, count(*) FROM deliveries GROUP BY state")  # type: ignore[arg-type]
        )
        backlog = await world.work.backlog()
        assert (backlog.pending, backlog.retrying, backlog.dead) == (
            counted["pending"], counted["retrying"], counted["dead"],
        )  # fmt: skip
        await world.work.sweep()
        assert await world.value("SELECT count(*) FROM work_counts WHERE kind = 1") == 3
        assert await world.work.backlog() == backlog
