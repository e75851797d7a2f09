"""The request context: what is inherited, what can only become tighter, who ends whom."""

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bulkhead_trio.errors import DeadlineExceeded
from bulkhead_trio.policies.context import RequestContext, current_request, request_context
from bulkhead_trio.policies.deadline import remaining
from bulkhead_trio.testing import CancellationPoint, sweep_cancellations


async def test_request_context_is_there_within_its_block() -> None:
    """And what was there before is there again afterwards."""
    assert current_request() is None
    with request_context(request_id="r-1", tenant="acme", priority=3) as context:
        assert current_request() is context
        assert context == RequestContext(math.inf, "r-1", "acme", 3)
        with pytest.raises(AttributeError):
            context.tenant = "other"  # type: ignore[misc]
    assert current_request() is None
    with pytest.raises(KeyError), request_context(request_id="r-2"):
        raise KeyError
    assert current_request() is None


async def test_request_context_nested_inherits_what_is_not_given(autojump_clock: MockClock) -> None:
    """Field by field; also what is falsy is given."""
    with request_context(timeout=9, request_id="r-1", tenant="acme", priority=3):
        with request_context() as same:
            assert same == RequestContext(9, "r-1", "acme", 3)
        with request_context(priority=0) as urgent:
            assert urgent == RequestContext(9, "r-1", "acme", 0)
        with request_context(tenant="", request_id="") as empty:
            assert empty == RequestContext(9, "", "", 3)
        assert current_request() == RequestContext(9, "r-1", "acme", 3)


async def test_request_context_deadline_only_becomes_tighter(autojump_clock: MockClock) -> None:
    """From seconds or from a point; the earliest of all counts, and the scopes see it."""
    await trio.sleep(1)
    with request_context(timeout=10) as outer:
        assert outer.deadline == 11
        assert remaining() == 10
        for timeout, point, expected in [
            (20, None, 11),
            (None, 20, 11),
            (4, None, 5),
            (None, 6, 6),
            (4, 6, 5),
            (8, 6, 6),
            (20, 30, 11),
        ]:
            with request_context(timeout=timeout, deadline=point) as inner:
                assert inner.deadline == expected
                assert remaining() == expected - 1


async def test_request_context_ends_what_takes_too_long(autojump_clock: MockClock) -> None:
    """At the deadline, with the error of the block that set it; the context is put back."""
    with request_context(tenant="acme"):
        with pytest.raises(DeadlineExceeded), request_context(timeout=2):
            await trio.sleep(5)
        assert trio.current_time() == 2
        assert current_request() == RequestContext(tenant="acme")
    reached = False
    with pytest.raises(DeadlineExceeded), request_context(timeout=1):
        with request_context(timeout=7):
            await trio.sleep(5)
        reached = True
    assert not reached


async def test_request_context_without_a_deadline_sets_no_limit() -> None:
    """It carries, and ends nothing."""
    with request_context(tenant="acme") as context:
        assert remaining() == math.inf
        assert context.deadline == math.inf


async def test_request_context_reaches_the_tasks_it_starts(autojump_clock: MockClock) -> None:
    """Each task sees the request whose work it does, and none sees another's."""
    seen: dict[str, list[str | None]] = {"a": [], "b": []}

    async def note(name: str) -> None:
        for _ in range(2):
            await trio.sleep(1)
            context = current_request()
            seen[name].append(context.request_id if context else None)

    async def serve(name: str) -> None:
        with request_context(request_id=name):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(note, name)
                with request_context(request_id=f"{name}/child"):
                    nursery.start_soon(note, name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, "a")
        nursery.start_soon(serve, "b")
    for name in seen:
        assert sorted(map(str, seen[name])) == [name, name, f"{name}/child", f"{name}/child"]
    assert current_request() is None


async def test_request_context_deadline_ends_tasks_of_its_own_nurseries(
    autojump_clock: MockClock,
) -> None:
    """A task in a nursery from outside the block knows the deadline and is not ended by it."""
    known: list[tuple[float, float]] = []

    async def outlives() -> None:
        await trio.sleep(3)
        context = current_request()
        assert context is not None
        known.append((context.deadline, trio.current_time()))

    async with trio.open_nursery() as nursery:
        with pytest.raises(DeadlineExceeded), request_context(timeout=2):
            nursery.start_soon(outlives)
            await trio.sleep_forever()
    assert known == [(2, 3)]


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf])
def test_request_context_of_nonsense_is_refused(timeout: float) -> None:
    """A time limit comes to an end, a deadline is a number; nothing is set otherwise."""
    with (
        pytest.raises(ValueError, match="timeout must be 0 or more seconds"),
        request_context(timeout=timeout),
    ):
        pass
    with (
        pytest.raises(ValueError, match="deadline must be a point on Trio's clock"),
        request_context(deadline=math.nan),
    ):
        pass
    assert current_request() is None


async def test_request_context_cancelled_anywhere_is_put_back(autojump_clock: MockClock) -> None:
    """Whatever checkpoint it is cancelled at, the request is over."""

    async def scenario(point: CancellationPoint) -> None:
        with point, request_context(timeout=5, request_id="outer"):
            await trio.sleep(1)
            with request_context(timeout=2):
                await trio.sleep(1)
        assert current_request() is None

    assert await sweep_cancellations(scenario) >= 2


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(0, 20),
            st.none() | st.integers(0, 20),
            st.none() | st.integers(0, 3),
        ),
        max_size=6,
    )
)
def test_request_context_stack_is_its_model(
    blocks: list[tuple[int | None, int | None, int | None]],
) -> None:
    """However deep they nest: the least deadline so far, the latest priority given."""

    def nest(depth: int, deadline: float, priority: int | None) -> None:
        context = current_request()
        if depth:
            assert context == RequestContext(deadline=deadline, priority=priority)
        else:
            assert context is None
        if depth == len(blocks):
            return
        timeout, point, wanted = blocks[depth]
        given = [deadline, *(float(at) for at in (timeout, point) if at is not None)]
        with request_context(timeout=timeout, deadline=point, priority=wanted):
            nest(depth + 1, min(given), priority if wanted is None else wanted)
        assert current_request() is context

    async def main() -> None:
        nest(0, math.inf, None)

    trio.run(main, clock=MockClock())


@pytest.mark.parametrize("priority", ["high", 1.5, float("nan"), True])
async def test_request_context_priority_is_a_whole_number(priority: object) -> None:
    """What cannot be put in an order with others is refused where it comes in."""
    with pytest.raises(ValueError, match="priority"):
        with request_context(priority=priority):  # type: ignore[arg-type]
            pass
