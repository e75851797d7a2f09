"""What the tests of upstreams make and do."""

from __future__ import annotations

from typing import Any

from bulkhead_trio.errors import UpstreamError
from bulkhead_trio.gateway.group import UpstreamGroup
from bulkhead_trio.gateway.group_settings import GroupSettings, UpstreamSettings
from bulkhead_trio.gateway.reports import UpstreamHealthChanged
from bulkhead_trio.gateway.upstream import Upstream, upstream_of


def settings_of(*weights: float, route_id: str = "r1", **options: Any) -> GroupSettings:
    """A route with upstreams ``http://u0``, ``http://u1`` and so on."""
    return GroupSettings(
        tenant_id="t1",
        route_id=route_id,
        upstreams=tuple(
            UpstreamSettings(f"http://u{number}", weight) for number, weight in enumerate(weights)
        ),
        **options,
    )


def group_of(
    *weights: float, heard: list[UpstreamHealthChanged] | None = None, **options: Any
) -> UpstreamGroup:
    """A group of them; what happens to their health is added to ``heard``."""
    settings = settings_of(*weights, **options)
    return UpstreamGroup(
        settings,
        [upstream_of(settings, each) for each in settings.upstreams],
        random=lambda: 0.0,
        listeners=() if heard is None else (heard.append,),
    )


def send(upstream: Upstream, status: int = 200) -> None:
    """One request that is over at once."""
    with upstream.enter_nowait() as turn:
        turn.answered(status)


def fail(upstream: Upstream, times: int = 1) -> None:
    """As many requests that end with a broken connection."""
    for _ in range(times):
        try:
            with upstream.enter_nowait():
                raise UpstreamError("reset", origin="http://u")
        except UpstreamError:
            pass
