"""Parts of a limit, for processes that do not count together."""

from __future__ import annotations

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.state import LocalTenantLimits, OnStateError, Shared
from bulkhead_trio.state._part_rules import part_of


@given(limit=st.integers(1, 10**9), count=st.integers(1, 64))
def test_parts_add_up_to_the_limit(limit: int, count: int) -> None:
    """Or to one for each, where there are more processes than that."""
    parts = [part_of(limit, number, count) for number in range(count)]
    assert sum(parts) == max(limit, count)
    assert max(parts) - min(parts) <= 1


@pytest.mark.parametrize(("worker", "expected"), [(0, 3), (1, 2)])
async def test_local_limits_let_their_part_pass(
    autojump_clock: trio.testing.MockClock, worker: int, expected: int
) -> None:
    """And say so: it is all that a caller can count on here."""
    limits = LocalTenantLimits(worker=worker, workers=2)
    decisions = [limits.acquire("a", 5, 10.0) for _ in range(5)]
    assert [each.allowed for each in decisions] == [n < expected for n in range(5)]
    assert {each.limit for each in decisions} == {expected}


@pytest.mark.parametrize(("worker", "workers"), [(2, 2), (-1, 1), (0, 0)])
def test_worker_that_there_is_not_is_refused(worker: int, workers: int) -> None:
    """By name."""
    with pytest.raises(ValueError, match="worker"):
        LocalTenantLimits(worker=worker, workers=workers)


def test_instances_are_at_least_as_many_as_are_known() -> None:
    """A server of several processes knows of itself before it has asked any Redis."""
    shared = Shared("redis://127.0.0.1:1/0", on_error=OnStateError.LOCAL, at_least=3)
    assert shared.instances.count == 3
    shared.instances._told(b"2")
    assert shared.instances.count == 3
    shared.instances._told(b"5")
    assert shared.instances.count == 5
