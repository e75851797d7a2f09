"""Who is slow, and for how many of the workers that is a reason."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.delivery.leases import Holdings
from bulkhead_trio.delivery.slowness import MOST_REMEMBERED, Slowness

from ._memory_store import MemoryDatabase
from ._world import AnyWork


async def held(*counts: int) -> tuple[Holdings[AnyWork], list[UUID]]:
    """So many of each queue, and the queues."""
    database, holdings = MemoryDatabase(), Holdings[AnyWork]()
    database.webhooks.most_per_endpoint = 100
    queues = []
    for count in counts:
        endpoint = database.endpoint(database.tenant())
        queues.append(endpoint.id)
        for _ in range(count):
            database.delivery(endpoint)
    works = await database.webhooks.claim(uuid4(), limit=100, lease_seconds=60.0, parallel=100)
    holdings.take(works, lease_until=60.0)
    return holdings, queues


@pytest.mark.parametrize(
    ("parallel", "most"), [(1, 1), (2, 1), (4, 3), (8, 7), (20, 16), (100, 80)]
)
async def test_some_workers_are_not_for_the_slow(
    autojump_clock: MockClock, parallel: int, most: int
) -> None:
    """One in five, one at least; but where there is one worker, it is everybody's."""
    holdings, _ = await held()
    assert Slowness(holdings, parallel).room([]) == most


async def test_what_the_slow_hold_is_taken_off(autojump_clock: MockClock) -> None:
    """Of all slow queues together, and of no other; never below nothing."""
    holdings, (one, two, three) = await held(3, 4, 10)
    slowness = Slowness(holdings, 10)
    assert slowness.room([one]) == 5
    assert slowness.room([one, two]) == 1
    assert slowness.room([one, two, three]) == 0


async def test_mean_makes_slow(autojump_clock: MockClock) -> None:
    """One long send does, and a few quick ones undo it."""
    holdings, _ = await held()
    slowness, queue = Slowness(holdings, 10), uuid4()
    slowness.sent(queue, 1.0)
    assert slowness.queues() == set()
    slowness.sent(queue, 2.0)
    assert slowness.queues() == {queue}
    for _ in range(3):
        slowness.sent(queue, 0.1)
    assert slowness.queues() == set()


async def test_send_that_lasts_makes_slow_before_it_ends(autojump_clock: MockClock) -> None:
    """After a second; a queue whose work only waits is not slow by that."""
    holdings, (one, _) = await held(1, 1)
    (mine,) = [each for each in holdings.all().values() if each.work.queue_id == one]
    mine.begun_at = trio.current_time()
    slowness = Slowness(holdings, 10)
    await trio.sleep(1.0)
    assert slowness.queues() == set()
    await trio.sleep(0.1)
    assert slowness.queues() == {one}
    mine.begun_at = None
    assert slowness.queues() == set()


async def test_memory_is_bounded(autojump_clock: MockClock) -> None:
    """Who was not heard of for longest is forgotten."""
    holdings, _ = await held()
    slowness = Slowness(holdings, 10)
    queues = [uuid4() for _ in range(MOST_REMEMBERED + 10)]
    for queue in queues:
        slowness.sent(queue, 5.0)
        slowness.sent(queues[0], 5.0)
    assert slowness.queues() == {queues[0], *queues[11:]}
