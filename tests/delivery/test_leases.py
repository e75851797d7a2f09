"""What is held, and under which leases."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.delivery.finisher import Finisher
from bulkhead_trio.delivery.leases import Held, Holdings, Run
from bulkhead_trio.delivery.sending import Sending
from bulkhead_trio.delivery.slowness import Slowness

from ._memory_store import MemoryDatabase
from ._world import SCHEDULE, AnyWork, Receiver


async def works(count: int) -> list[AnyWork]:
    database = MemoryDatabase()
    endpoint = database.endpoint(database.tenant())
    return [database.delivery(endpoint).draft for _ in range(count)]


async def test_work_that_comes_back_while_it_is_held_is_not_begun_twice() -> None:
    """Its lease was lost without our knowing, and is ours again: so it goes on as it is."""
    (work, *_) = await works(1)
    holdings = Holdings[AnyWork]()
    (held,) = holdings.take([work], lease_until=10.0)
    assert holdings.take([work], lease_until=30.0) == []
    assert holdings.all() == {work.item_id: held}
    assert held.lease_until == 30.0


async def test_renewal_says_nothing_of_what_was_claimed_after_it_was_asked() -> None:
    """Its answer is about the lease before, which is over; the new one stays."""
    (work, *_) = await works(1)
    holdings = Holdings[AnyWork]()
    (first,) = holdings.take([work], lease_until=10.0)
    asked = holdings.all()
    holdings.let_go(first)
    (second,) = holdings.take([work], lease_until=30.0)
    holdings.renewed(asked, set(), lease_until=40.0)
    assert (first.is_lost, second.is_lost, holdings.lost) == (False, False, 0)
    assert holdings.all() == {work.item_id: second}
    assert second.lease_until == 30.0


async def test_renewal_leaves_results_to_their_writing() -> None:
    """What is no longer ours may have been written this very moment."""
    receiver = Receiver(seconds=0.0)
    one, other = await works(2)
    holdings = Holdings[AnyWork]()
    with_result, without = holdings.take([one, other], lease_until=10.0)
    with_result.result = await receiver.send(one)
    holdings.renewed(holdings.all(), set(), lease_until=40.0)
    assert not with_result.is_lost
    assert without.is_lost
    assert holdings.lost == 1
    assert list(holdings.all()) == [one.item_id]


async def test_renewed_lease_gives_a_send_more_time(autojump_clock: MockClock) -> None:
    """Its scope ends with the lease, as long as that is by then; never earlier than it was."""
    (work, *_) = await works(1)
    held = Held(work, 10.0)
    with trio.CancelScope(deadline=held.lease_until) as scope:
        held.scope = scope
        held.prolong(30.0)
        held.prolong(20.0)
        await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(30.0)


async def test_lost_work_is_lost_once() -> None:
    """And nothing that is claimed again is let go for it."""
    (work, *_) = await works(1)
    holdings = Holdings[AnyWork]()
    (first,) = holdings.take([work], lease_until=10.0)
    holdings.lose(first)
    (second,) = holdings.take([work], lease_until=30.0)
    holdings.lose(first)
    holdings.let_go(first)
    assert holdings.all() == {work.item_id: second}
    assert holdings.lost == 1
    holdings.let_go(second)
    assert len(holdings) == 0


@pytest.mark.parametrize("how", ["ran out", "lost"])
async def test_work_whose_lease_is_gone_in_line_is_not_begun(
    autojump_clock: MockClock, how: str
) -> None:
    """Somebody else has it, or may have: not even the first byte is sent."""
    (work, *_) = await works(1)
    holdings, receiver = Holdings[AnyWork](), Receiver()
    database = MemoryDatabase()
    run = Run[AnyWork]("webhooks", database.webhooks, uuid4(), holdings)
    finisher = Finisher[AnyWork](run, on_written=lambda: None)
    sending = Sending[AnyWork](
        run,
        receiver.send,
        finisher,
        schedule=SCHEDULE,
        limit_seconds=10.0,
        slowness=Slowness(holdings, 8),
        on_taken=lambda: None,
    )
    queue_in, queue_out = trio.open_memory_channel[Held[AnyWork]](1)
    (held,) = holdings.take([work], lease_until=trio.current_time() + 10)
    queue_in.send_nowait(held)
    queue_in.close()
    if how == "lost":
        holdings.lose(held)
    else:
        await trio.sleep(10)
    await sending.work(queue_out)
    assert not receiver.begun
    assert finisher.waiting == len(holdings) == 0
    assert holdings.lost == 1
