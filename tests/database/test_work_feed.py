"""What a real PostgreSQL says when there is more to do."""

from __future__ import annotations

import trio

from bulkhead_trio.database.work_feed import WORDS, create_work_feed, read_word
from tests.database._delivery import EventDraft, opened


async def test_feed_tells_what_there_is_more_of(database: str) -> None:
    """All of it when it begins to listen; then each kind, when it commits."""
    send, receive = trio.open_memory_channel[str](100)
    feed = create_work_feed(database, [send.send_nowait])

    async def heard() -> str:
        with trio.fail_after(10):
            return await receive.receive()

    async with opened(database) as world, trio.open_nursery() as nursery:
        tenant = await world.tenant()
        await world.webhook(tenant)
        await nursery.start(feed.run)
        assert [await heard() for _ in WORDS] == list(WORDS)
        with trio.fail_after(10):
            while not feed.statistics().is_listening:
                await trio.sleep(0.01)
        await world.events.add([EventDraft(tenant, "a", b"{}") for _ in range(3)])
        assert await heard() == "events"
        await world.fanned_out()
        assert await heard() == "webhooks"
        await world.letter(tenant)
        assert await heard() == "notifications"
        works = await world.claimed()
        await world.work.release(world.owner, [works[0].item_id])
        assert await heard() == "webhooks"
        nursery.cancel_scope.cancel()
    assert receive.statistics().current_buffer_used == 0


def test_word_that_is_none_is_not_read() -> None:
    """A newer release may say more."""
    assert [read_word(word) for word in WORDS] == list(WORDS)
    assert read_word("everything") is None
