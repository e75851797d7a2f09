"""The fair queue: shares of the places, weights, and what a step costs."""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable

import pytest

from bulkhead_trio.errors import BulkheadFull
from bulkhead_trio.policies.context import request_context
from bulkhead_trio.policies.queue import FairQueue


async def test_fair_queue_one_key_cannot_fill_it() -> None:
    """One key has its share of the places and no more; another still finds room."""
    queue = FairQueue[str](10, reserved_share=0.3)
    assert queue.places_a_key == 7
    for _ in range(7):
        assert queue.has_room(key="greedy")
        queue.put_nowait("x", key="greedy")
    assert not queue.has_room(key="greedy")
    with pytest.raises(BulkheadFull, match="this key"):
        queue.put_nowait("x", key="greedy")
    for _ in range(3):
        assert queue.has_room(key="modest")
        queue.put_nowait("y", key="modest")
    assert not queue.has_room(key="modest")
    with pytest.raises(BulkheadFull, match="every"):
        queue.put_nowait("y", key="modest")
    assert (queue.waiting("greedy"), queue.waiting("modest"), queue.waiting("other")) == (7, 3, 0)
    statistics = queue.statistics()
    assert (statistics.waiting, statistics.refused) == (10, 2)


@pytest.mark.parametrize(
    ("places", "share", "expected"),
    [
        (10, 0.0, 10),
        (10, 0.5, 5),
        (9, 0.5, 4),
        (100, 0.9, 10),  # in binary fractions 100 * (1 - 0.9) is a little less
        (30, 0.1, 27),
        (1, 0.5, 1),
        (3, 0.99, 1),
    ],
)
def test_fair_queue_share_of_a_key(places: int, share: float, expected: int) -> None:
    """Rounded down, but one place at least."""
    assert FairQueue[str](places, reserved_share=share).places_a_key == expected


async def test_fair_queue_serves_keys_in_turn() -> None:
    """A key with one waits for one of each other key, not for all that they have put in."""
    queue = FairQueue[str](100)
    for number in range(50):
        queue.put_nowait(f"greedy {number}", key="greedy")
    queue.put_nowait("modest", key="modest")
    assert queue.ahead(key="modest") == 3  # the one before it, and a turn of the greedy for each
    assert queue.ahead(key="new") == 2
    assert queue.ahead(key="greedy") == 51
    assert [queue.take_nowait() for _ in range(3)] == ["greedy 0", "modest", "greedy 1"]


async def test_fair_queue_serves_by_weight() -> None:
    """A key of weight three gets three for each one of a key of weight one."""
    weights: dict[Hashable, float] = {"gold": 3.0}
    queue = FairQueue[str](100, weight=lambda key: weights.get(key, 1.0))
    for _ in range(6):
        queue.put_nowait("g", key="gold")
        queue.put_nowait("s", key="silver")
    assert "".join(queue.take_nowait() for _ in range(12)) == "gggsgggsssss"


@pytest.mark.parametrize("weight", [0.0, 0.99, -1.0, math.nan, math.inf])
async def test_fair_queue_refuses_nonsense_weights(weight: float) -> None:
    """A weight below one, or none at all, is refused by name when its key comes; nothing stays."""
    queue = FairQueue[str](100, weight=lambda _: weight)
    with pytest.raises(ValueError, match="weight"):
        queue.put_nowait("a", key="k")
    with pytest.raises(ValueError, match="weight"):
        queue.ahead(key="k")
    assert len(queue) == queue.waiting("k") == 0


async def test_fair_queue_asks_for_the_weight_as_a_key_comes() -> None:
    """A key keeps its weight for as long as it has something waiting, and is asked anew after."""
    asked: list[object] = []

    def weight(key: object) -> float:
        asked.append(key)
        return 1.0

    queue = FairQueue[str](100, weight=weight)
    for _ in range(2):
        queue.put_nowait("a", key="k")
        queue.put_nowait("b", key="k")
        queue.ahead(key="k")
        queue.take_nowait()
        queue.take_nowait()
    assert asked == ["k", "k"]


async def test_fair_queue_takes_the_requests_tenant() -> None:
    """What is not said comes from the request; outside of one, nobody's is a key too."""
    queue = FairQueue[str](100)
    with request_context(tenant="acme"):
        queue.put_nowait("a")
        queue.put_nowait("b", key="other")
    queue.put_nowait("c")
    assert [queue.waiting(key) for key in ("acme", "other", None)] == [1, 1, 1]
    with request_context(tenant="acme"):
        assert queue.ahead() == 3


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, math.nan])
def test_fair_queue_refuses_nonsense_shares(share: float) -> None:
    """A share that means nothing is refused by name."""
    with pytest.raises(ValueError, match="reserved_share"):
        FairQueue[str](10, reserved_share=share)


async def test_fair_queue_work_of_a_step_does_not_grow_with_the_keys() -> None:
    """A step does the same for ten keys and for ten thousand: counted in lines of code run."""
    assert lines_a_step(10) == lines_a_step(10_000)


def lines_a_step(keys: int) -> int:
    """Lines of Python that taking the next and putting it in again runs, the dicts' work aside."""
    queue = FairQueue[int](keys)
    for number in range(keys):
        queue.put_nowait(number, key=number)
    lines = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        for _ in range(50):
            number = queue.take_nowait()
            queue.put_nowait(number, key=number)
    finally:
        sys.settrace(before)
    return lines
