"""What the soak tests ask for."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from bench.soak.traffic import MEMORY_MIX, Drop, draw_kinds, draw_requests


def test_kinds_are_drawn_by_weight() -> None:
    """Every kind occurs, about as often as its weight says."""
    drawn = Counter(islice(draw_kinds("1"), 20_000))
    total = sum(kind.weight for kind in MEMORY_MIX)
    assert set(drawn) == set(MEMORY_MIX)
    assert all(abs(drawn[kind] / 20_000 - kind.weight / total) < 0.02 for kind in MEMORY_MIX)


def test_kinds_of_the_same_seed_are_the_same() -> None:
    """A soak can be repeated."""
    assert list(islice(draw_kinds("1"), 500)) == list(islice(draw_kinds("1"), 500))


def test_requests_are_abandoned_to_a_third_at_every_point() -> None:
    """Exactly a third is dropped, evenly over the points, in random order."""
    requests = draw_requests(10_000, "1")
    points = Counter(request.drop for request in requests)
    assert len(requests) == 10_000
    assert points[None] == 10_000 - 3_333
    assert {points[point] for point in Drop} <= {666, 667}
    assert len({request.drop for request in requests[:100]}) > 3
    assert requests == draw_requests(10_000, "1")


def test_requests_amid_the_query_go_to_the_tier_whose_queries_hang() -> None:
    """Nobody waits for an answer that will not come before the test is over."""
    for request in draw_requests(1_000, "1"):
        assert (request.tier == "enterprise") == (request.drop is Drop.QUERY)
        assert 0 <= request.head_share <= 1
        assert 0 <= request.delay < 1
