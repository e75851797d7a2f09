"""Endpoints in a real PostgreSQL."""

from __future__ import annotations

import datetime
import uuid

import psycopg
import pytest
import trio

from bulkhead_trio.database._cursor_rules import decode_cursor, encode_cursor
from bulkhead_trio.database.delivery_records import DeliveryFilter
from bulkhead_trio.database.webhook_records import EndpointChange, SigningSecret, WebhookChanges
from bulkhead_trio.database.webhooks import MOST_SECRETS, MOST_WEBHOOKS
from bulkhead_trio.database.work_records import Backlog
from bulkhead_trio.errors import Conflict, NotFound
from tests.database._delivery import ids, opened


async def test_webhook_is_kept_as_it_was_made(database: str) -> None:
    """With its one secret; found by its tenant alone."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant, "a.*", "b", fifo=True, description="Ünï")
        assert (webhook.event_types, webhook.fifo, webhook.active) == (("a.*", "b"), True, True)
        assert (webhook.description, webhook.disabled_reason) == ("Ünï", None)
        assert (webhook.secrets, webhook.version) == ((SigningSecret(b"sealed"),), 1)
        assert (webhook.failing_since, webhook.slow_until) == (None, None)
        assert webhook.created_at == webhook.updated_at
        assert "sealed" not in repr(webhook)
        assert await world.webhooks.get(tenant, webhook.id) == webhook
        stranger = await world.tenant()
        for tenant_id, id_ in ((stranger, webhook.id), (tenant, uuid.uuid4())):
            with pytest.raises(NotFound):
                await world.webhooks.get(tenant_id, id_)
            with pytest.raises(NotFound):
                await world.webhooks.update(tenant_id, id_, WebhookChanges(active=False))
            with pytest.raises(NotFound):
                await world.webhooks.add_secret(tenant_id, id_, b"x", 1)
            with pytest.raises(NotFound):
                await world.webhooks.delete(tenant_id, id_)
        assert await world.webhooks.get(tenant, webhook.id) == webhook


async def test_webhook_of_nobody_or_of_a_taken_id_is_refused(database: str) -> None:
    """There must be a tenant, and the id must be new."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        with pytest.raises(NotFound):
            await world.webhook(uuid.uuid4())
        with pytest.raises(Conflict):
            await world.webhook(tenant, id=webhook.id)


async def test_tenant_has_only_so_many_webhooks(database: str) -> None:
    """Whoever comes last is refused, also of many at once."""
    refused = 0
    async with opened(database) as world:
        tenant = await world.tenant()
        for _ in range(MOST_WEBHOOKS - 3):
            await world.webhook(tenant)

        async def make() -> None:
            nonlocal refused
            try:
                await world.webhook(tenant)
            except Conflict:
                refused += 1

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(make)
        assert refused == 5


async def test_webhooks_are_listed_newest_first_in_pages(database: str) -> None:
    """Each once, and no other tenant's."""
    async with opened(database) as world:
        tenant = await world.tenant()
        made = [await world.webhook(tenant) for _ in range(5)]
        await world.webhook(await world.tenant())
        first = await world.webhooks.page(tenant, limit=3)
        assert first.next_cursor is not None
        cursor = decode_cursor(encode_cursor(first.next_cursor))
        second = await world.webhooks.page(tenant, limit=3, cursor=cursor)
        assert [*first.items, *second.items] == made[::-1]
        assert second.next_cursor is None


async def test_webhook_is_changed_in_what_is_said_only(database: str) -> None:
    """The version counts, and must be the expected one."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant, "a", description="old")
        changes = WebhookChanges(url="https://example.com/b", description=None)
        changed = await world.webhooks.update(tenant, webhook.id, changes, 1)
        assert (changed.url, changed.description, changed.version) == (changes.url, None, 2)
        assert (changed.event_types, changed.secrets) == (("a",), webhook.secrets)
        assert changed.updated_at > webhook.updated_at
        with pytest.raises(Conflict):
            await world.webhooks.update(tenant, webhook.id, changes, 1)
        changed = await world.webhooks.update(
            tenant, webhook.id, WebhookChanges(event_types=("b", "c"))
        )
        assert changed.event_types == ("b", "c")


async def test_webhook_switched_off_and_on_sends_what_has_waited(database: str) -> None:
    """First tries and retries, what was there and what came; in the order of a FIFO endpoint."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        line = await world.webhook(tenant, fifo=True)
        await world.raised(tenant, 2)
        works = await world.claimed()
        await world.finished(works, "retry", after=1)
        for each in (webhook, line):
            off = await world.webhooks.update(tenant, each.id, WebhookChanges(active=False))
            assert (off.active, off.disabled_reason) == (False, None)
        await world.raised(tenant, 2)
        await world.later(10)
        assert await world.claimed() == []
        assert (await world.work.backlog()).leased == 0
        for each in (webhook, line):
            await world.webhooks.update(tenant, each.id, WebhookChanges(active=True))
        again = await world.claimed()
        assert len([work for work in again if work.queue_id == webhook.id]) == 4
        (first,) = [work for work in again if work.queue_id == line.id]
        assert first.attempts == 1
        while again:
            await world.finished(again)
            again = await world.claimed()
        assert await world.work.backlog() == Backlog(0, 0, 0, 0)


async def test_webhook_brought_back_has_nothing_held_against_it(database: str) -> None:
    """Neither why it was disabled, nor since when it fails, nor that it is to rest."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant, "order.*")
        await world.raised(tenant, 5)
        works = await world.claimed()
        accused = EndpointChange(is_failing=True, disable_reason="failing", slow_seconds=600)
        await world.finished(works, "retry", endpoint=accused)
        found = await world.webhooks.update(tenant, webhook.id, WebhookChanges(active=True))
        assert (found.active, found.disabled_reason) == (True, None)
        assert (found.failing_since, found.slow_until) == (None, None)
        assert len(await world.claimed()) == 4


async def test_webhook_deleted_ends_what_waits_for_it(database: str) -> None:
    """It is claimed no more, becomes dead in batches, and the history stays; others go on."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        other = await world.webhook(tenant)
        await world.raised(tenant, 10)
        works = [work for work in await world.claimed(8) if work.queue_id == webhook.id]
        assert len(works) == 4
        await world.webhooks.delete(tenant, webhook.id)
        await world.finished(works[:1])
        await world.finished(works[1:2], "retry")
        assert {work.queue_id for work in await world.claimed()} <= {other.id}
        assert await world.pruning.end_orphans(4) == 4
        assert await world.pruning.end_orphans(4) == 3
        assert await world.pruning.end_orphans(4) == 0, "two are under way"
        await world.finished(works[2:], "retry")
        assert await world.pruning.end_orphans(4) == 2
        wanted = DeliveryFilter(webhook_id=webhook.id)
        page = await world.deliveries.page(tenant, wanted, limit=100)
        assert sorted(each.state for each in page.items) == ["dead"] * 9 + ["delivered"]
        dead = next(each for each in page.items if each.state == "dead")
        assert (await world.deliveries.attempts(tenant, dead.id))[-1].error == (
            "the endpoint was deleted"
        )
        with pytest.raises(Conflict):
            await world.deliveries.replay(tenant, dead.id)
        await world.sql("UPDATE work_endings SET ended_at = now() - interval '6 minutes'")
        assert await world.pruning.end_orphans(4) == 0
        assert await world.value("SELECT count(*) FROM work_endings") == 0
        assert await world.value(
            "SELECT count(*) FROM work_heads WHERE state = 'parked'"
        ) == 0  # fmt: skip


async def test_tenant_deleted_ends_all_that_waits_for_it(database: str) -> None:
    """Its endpoints' deliveries and its notifications."""
    async with opened(database) as world:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await world.raised(tenant, 2)
        await world.letter(tenant)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("DELETE FROM tenants WHERE id = %s", (tenant,))
        assert await world.claimed() == []
        assert await world.letters.claim(world.owner, 10, 60, 8) == []
        assert await world.pruning.end_orphans(10) == 3
        assert (await world.work.backlog(), await world.letters.backlog()) == (
            Backlog(0, 0, 2, 0), Backlog(0, 0, 1, 0),
        )  # fmt: skip
        with pytest.raises(NotFound):
            await world.letter(tenant)


async def test_webhook_that_becomes_fifo_sends_what_waits_in_one_line(database: str) -> None:
    """Retries and first tries, by their places; and no longer so when it is not."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        await world.raised(tenant, 3)
        works = await world.claimed()
        await world.finished(works[:2], "retry", after=300)
        await world.work.release(world.owner, ids(works[2:]))
        await world.webhooks.update(tenant, webhook.id, WebhookChanges(fifo=True))
        for work in works:
            (next_,) = await world.claimed()
            assert next_.item_id == work.item_id
            assert next_.fifo
            await world.finished([next_])
        await world.raised(tenant, 3)
        await world.webhooks.update(tenant, webhook.id, WebhookChanges(fifo=False))
        assert len(await world.claimed()) == 3


async def test_secret_added_signs_before_the_old_one(database: str) -> None:
    """The old one for its grace time only, older ones no longer, and there are only so many."""
    async with opened(database) as world:
        tenant = await world.tenant()
        webhook = await world.webhook(tenant)
        before = datetime.datetime.now(datetime.UTC)
        one = await world.webhooks.add_secret(tenant, webhook.id, b"2", 3600)
        assert [each.sealed for each in one.secrets] == [b"2", b"sealed"]
        assert one.secrets[0].expires_at is None
        until = one.secrets[1].expires_at
        assert until is not None
        assert 3590 < (until - before).total_seconds() < 3610
        two = await world.webhooks.add_secret(tenant, webhook.id, b"3", 7200)
        assert [each.sealed for each in two.secrets] == [b"3", b"2", b"sealed"]
        assert two.secrets[2].expires_at == until
        assert two.secrets[1].expires_at is not None
        assert two.secrets[1].expires_at > until
        three = await world.webhooks.add_secret(tenant, webhook.id, b"4", 60)
        for secret in three.secrets[1:]:
            assert secret.expires_at is not None
            assert (secret.expires_at - before).total_seconds() < 70
        for number in range(5, 5 + MOST_SECRETS):
            last = await world.webhooks.add_secret(tenant, webhook.id, b"%d" % number, 60)
        assert len(last.secrets) == MOST_SECRETS
        alone = await world.webhooks.add_secret(tenant, webhook.id, b"alone", 0)
        assert alone.secrets == (SigningSecret(b"alone"),), "whatever was left of the others"
        assert await world.webhooks.get(tenant, webhook.id) == alone
