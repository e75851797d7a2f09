"""Notifications in a real PostgreSQL."""

from __future__ import annotations

import uuid

import pytest

from bulkhead_trio.database.delivery_records import NotificationDraft, NotificationFilter
from bulkhead_trio.database.work_records import Lane
from bulkhead_trio.errors import CallerError, NotFound
from tests.database._delivery import LEASE, opened, result

EVERY = NotificationFilter()


async def test_notification_is_kept_as_it_was_sent(database: str) -> None:
    """Found by its tenant alone; nothing of it in a log by accident."""
    async with opened(database) as world:
        tenant = await world.tenant()
        draft = NotificationDraft(tenant, "http", "https://example.com", "Ünï", "line\nline")
        id_ = await world.notifications.add(draft)
        found = await world.notifications.get(tenant, id_)
        assert (found.channel, found.recipient) == (draft.channel, draft.recipient)
        assert (found.subject, found.body) == (draft.subject, draft.body)
        assert (found.state, found.attempts, found.ended_at) == ("pending", 0, None)
        assert "line" not in repr(found) + repr(draft)
        for tenant_id, wanted in ((await world.tenant(), id_), (tenant, uuid.uuid4())):
            with pytest.raises(NotFound):
                await world.notifications.get(tenant_id, wanted)
            with pytest.raises(NotFound):
                await world.notifications.attempts(tenant_id, wanted)
            with pytest.raises(NotFound):
                await world.notifications.replay(tenant_id, wanted)


async def test_notification_of_nobody_or_with_what_cannot_be_kept_is_refused(
    database: str,
) -> None:
    """And nothing is to be sent."""
    async with opened(database) as world:
        tenant = await world.tenant()
        with pytest.raises(NotFound):
            await world.letter(uuid.uuid4())
        with pytest.raises(CallerError):
            await world.notifications.add(NotificationDraft(tenant, "smtp", "a", "b", "c\0"))
        assert await world.letters.claim(world.owner, 10, LEASE, 8) == []


async def test_notifications_are_listed_by_state_in_pages(database: str) -> None:
    """Newest first, each once."""
    async with opened(database) as world:
        tenant = await world.tenant()
        letters = [await world.letter(tenant) for _ in range(5)]
        await world.letter(await world.tenant())
        first = await world.notifications.page(tenant, EVERY, limit=3)
        second = await world.notifications.page(tenant, EVERY, limit=3, cursor=first.next_cursor)
        assert [each.id for each in (*first.items, *second.items)] == letters[::-1]
        assert second.next_cursor is None
        assert (
            await world.notifications.page(tenant, NotificationFilter(state="dead"), limit=3)
        ).items == []
        assert len((await world.notifications.page(None, EVERY, limit=10)).items) == 6


async def test_notification_replayed_is_sent_again(database: str) -> None:
    """With a new schedule, and its earlier attempts behind it."""
    async with opened(database) as world:
        tenant = await world.tenant()
        letter = await world.letter(tenant)
        works = await world.letters.claim(world.owner, 10, LEASE, 8)
        await world.letters.finish(world.owner, [result(works[0], "dead")])
        assert (await world.letters.backlog()).dead == 1
        found = await world.notifications.replay(tenant, letter)
        assert (found.state, found.attempts, found.ended_at) == ("pending", 1, None)
        (again,) = await world.letters.claim(world.owner, 10, LEASE, 8)
        assert (again.attempts, again.lane) == (0, Lane.RETRY)


async def test_channels_of_a_tenant_are_queues_of_their_own(database: str) -> None:
    """Four under way on one say nothing of the other."""
    async with opened(database) as world:
        tenant = await world.tenant()
        for channel in ("smtp", "http"):
            for _ in range(6):
                await world.letter(tenant, channel)
        works = await world.letters.claim(world.owner, 20, LEASE, 100)
        assert sorted(work.channel for work in works) == ["http"] * 4 + ["smtp"] * 4


async def test_notification_that_waits_replayed_begins_anew(database: str) -> None:
    """It is due at once, with all its tries before it; what is told of them goes on."""
    async with opened(database) as world:
        tenant = await world.tenant()
        letter = await world.letter(tenant)
        (work,) = await world.letters.claim(world.owner, 10, LEASE, 8)
        await world.letters.finish(world.owner, [result(work, "retry", after=300)])
        await world.notifications.replay(tenant, letter)
        (again,) = await world.letters.claim(world.owner, 10, LEASE, 8)
        assert (again.attempts, again.lane) == (0, Lane.RETRY)
        assert again.scheduled_since > again.created_at
        await world.letters.finish(world.owner, [result(again)])
        numbers = [each.number for each in await world.notifications.attempts(tenant, letter)]
        assert numbers == [1, 2]


async def test_notification_under_way_is_not_retried_for_a_tenant_that_is_gone(
    database: str,
) -> None:
    """Its queue had no head when the tenant went; the result makes none that is looked at."""
    async with opened(database) as world:
        tenant = await world.tenant()
        letter = await world.letter(tenant)
        works = await world.letters.claim(world.owner, 10, LEASE, 8)
        assert await world.sql("SELECT * FROM work_heads") == []
        await world.sql("DELETE FROM tenants WHERE id = %s", (tenant,))
        await world.letters.finish(world.owner, [result(works[0], "retry")])
        assert await world.letters.claim(world.owner, 10, LEASE, 8) == []
        assert await world.pruning.end_orphans(10) == 1
        assert (await world.notifications.get(tenant, letter)).state == "dead"


async def test_notification_that_comes_after_its_tenant_has_gone_is_ended(database: str) -> None:
    """As of a replay that still saw the tenant: whoever finds it ends it."""
    async with opened(database) as world:
        tenant = await world.tenant()
        letter = await world.letter(tenant)
        await world.sql("DELETE FROM tenants WHERE id = %s", (tenant,))
        await world.sql("DELETE FROM work_endings")
        await world.sql("UPDATE work_heads SET state = 'waiting', due_at = now()")
        assert await world.letters.claim(world.owner, 10, LEASE, 8) == []
        assert await world.pruning.end_orphans(10) == 1
        assert (await world.notifications.get(tenant, letter)).state == "dead"
