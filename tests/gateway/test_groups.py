"""All groups: what stays through a change of the routes, and what begins anew."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkhead_trio.gateway._balance_rules import Balancing
from bulkhead_trio.gateway._health_rules import EjectionLimits
from bulkhead_trio.gateway.group_settings import (
    BreakerSettings,
    CheckSettings,
    GroupSettings,
    LimitSettings,
    UpstreamSettings,
)
from bulkhead_trio.gateway.groups import Groups
from bulkhead_trio.gateway.upstream import Upstream

from .upstreams import fail, settings_of


async def well(url: str, timeout: float) -> bool | None:
    await trio.lowlevel.checkpoint()
    return True


def some_groups() -> Groups:
    return Groups(check=well, random=lambda: 0.0)


async def test_groups_replace_keeps_what_is_the_same() -> None:
    """A route that has not changed keeps its group; a changed one keeps its upstreams."""
    groups = some_groups()
    groups.replace([settings_of(1, 1, route_id="a"), settings_of(1, route_id="b")])
    first, second = groups.get("a"), groups.get("b")
    assert first is not None
    groups.replace([settings_of(1, 1, route_id="a"), settings_of(1, 1, route_id="c")])
    assert groups.get("a") is first
    assert groups.get("b") is None
    assert second not in set(groups)
    assert {group.settings.route_id for group in groups} == {"a", "c"}
    assert len(groups) == 2


async def test_groups_keep_the_state_of_an_upstream_that_stays() -> None:
    """Its breaker, its requests and its ejection go on, in another order, weight and company."""
    options: dict[str, Any] = {
        "breaker": BreakerSettings(), "ejection": EjectionLimits(failures=3),
    }  # fmt: skip
    groups = some_groups()
    before = groups.put(settings_of(1, 1, **options))
    first, second = before.upstreams
    fail(first, 5)
    changed = GroupSettings(
        tenant_id="t1",
        route_id="r1",
        upstreams=(UpstreamSettings("http://new", 4.0), UpstreamSettings("http://u0", 3.0)),
        balancing=Balancing.WEIGHTED,
        **options,
    )
    with second.enter_nowait():
        group = groups.put(changed)
        assert group is not before
        assert group.upstreams[1] is first
        assert (first.own_weight, first.weight) == (3.0, 3.0)
        assert not first.is_up
        assert second.in_flight == 1, "what was under way on one that is gone ends as it ends"
    assert second.in_flight == 0
    assert group.pick().url == "http://new"
    new = group.upstreams[0]
    fail(new, 3)
    assert new.is_up, "the new group counts the one that was out already"


async def test_groups_eject_by_the_group_of_now() -> None:
    """How many may be out is a question of the upstreams that there are after a change."""
    groups = some_groups()
    options: dict[str, Any] = {"ejection": EjectionLimits(failures=3)}
    fail(groups.put(settings_of(1, 1, 1, 1, **options)).upstreams[0], 3)
    first, second = groups.put(settings_of(1, 1, **options)).upstreams
    fail(second, 3)
    assert (first.is_up, second.is_up) == (False, True)


@pytest.mark.parametrize(
    "change",
    [
        {"breaker": BreakerSettings(cooldown=1.0)},
        {"bulkhead": LimitSettings(9)},
        {"checks": CheckSettings(timeout=1.0)},
        {"ejection": EjectionLimits(failures=9)},
        {"tenant_id": "t2"},
    ],
)
async def test_groups_begin_anew_where_what_protects_an_upstream_changes(
    change: dict[str, Any],
) -> None:
    """What was counted under other settings means nothing under these."""
    groups = some_groups()
    before = groups.put(settings_of(1, breaker=BreakerSettings(), bulkhead=LimitSettings(1)))
    after = groups.put(attrs.evolve(before.settings, **change))
    assert after.upstreams[0] is not before.upstreams[0]


@pytest.mark.parametrize("change", [{"balancing": Balancing.RANDOM}, {"slow_start": 9.0}])
async def test_groups_go_on_where_only_the_sharing_changes(change: dict[str, Any]) -> None:
    """How requests are shared out says nothing of how an upstream is."""
    groups = some_groups()
    before = groups.put(settings_of(1, breaker=BreakerSettings()))
    after = groups.put(attrs.evolve(before.settings, **change))
    assert after.upstreams[0] is before.upstreams[0]


async def test_groups_refuse_as_a_whole() -> None:
    """Where one of the new routes makes no sense, nothing changes, weights included."""
    groups = some_groups()
    groups.replace([settings_of(1, 1, route_id="a")])
    before = groups.get("a")
    assert before is not None
    bad = settings_of(1, route_id="b", breaker=BreakerSettings(failure_rate=0.5))
    with pytest.raises(ValueError, match="failure_rate"):
        groups.replace([settings_of(5, 1, route_id="a", balancing=Balancing.WEIGHTED), bad])
    with pytest.raises(ValueError, match="failure_rate"):
        groups.put(attrs.evolve(bad, route_id="a"))
    assert groups.get("a") is before
    assert before.upstreams[0].weight == 1.0
    assert len(groups) == 1


async def test_groups_discard_what_is_not_there() -> None:
    """Told twice that a route is gone, nothing happens."""
    groups = some_groups()
    groups.put(settings_of(1))
    for _ in range(2):
        groups.discard("r1")
    assert len(groups) == 0


ROUTES = st.dictionaries(
    st.sampled_from("abc"),
    st.tuples(
        st.lists(st.integers(0, 4), min_size=1, max_size=4, unique=True),
        st.sampled_from([None, BreakerSettings(), BreakerSettings(cooldown=1.0)]),
    ),
    max_size=3,
)


@settings(max_examples=100, deadline=None)
@given(changes=st.lists(ROUTES, max_size=8))
def test_groups_agree_with_their_model(
    changes: list[dict[str, tuple[list[int], BreakerSettings | None]]],
) -> None:
    """An upstream is another one where it was away, or what protects it changed; else the same."""

    async def play() -> None:
        groups = some_groups()
        model: dict[tuple[str, str], tuple[BreakerSettings | None, Upstream]] = {}
        for routes in changes:
            wanted = [
                GroupSettings(
                    tenant_id="t",
                    route_id=route_id,
                    upstreams=tuple(UpstreamSettings(f"http://u{each}") for each in numbers),
                    breaker=breaker,
                )
                for route_id, (numbers, breaker) in routes.items()
            ]
            groups.replace(wanted)
            assert {group.settings.route_id for group in groups} == set(routes)
            now = {}
            for each in wanted:
                group = groups.get(each.route_id)
                assert group is not None
                assert group.settings == each
                assert [one.url for one in group.upstreams] == [one.url for one in each.upstreams]
                for upstream in group.upstreams:
                    key = (each.route_id, upstream.url)
                    known = model.get(key)
                    is_same = known is not None and known[1] is upstream
                    assert is_same is (known is not None and known[0] == each.breaker)
                    now[key] = (each.breaker, upstream)
            model = now

    trio.run(play)
