"""All groups of upstreams: made from the routes, and kept where a change leaves an upstream be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import trio

from bulkhead_trio.gateway.breaker import MakeBreaker, local_breaker
from bulkhead_trio.gateway.group import UpstreamGroup
from bulkhead_trio.gateway.group_settings import GroupSettings, UpstreamKey
from bulkhead_trio.gateway.health import Check, HealthBoard, HealthChecker, LocalHealthBoard
from bulkhead_trio.gateway.reports import HealthListener
from bulkhead_trio.gateway.upstream import Upstream, upstream_of


class Groups:
    """The group of every route, and the task that checks their upstreams.

    An upstream is the same after a change of its route while its URL and what protects it stay: its
    breaker, its bulkhead, its requests and its health go on. Its weight, the way of balancing and
    the other upstreams may change round it.

    Args:
        check: checks one URL; see `Check`.
        random: gives numbers from 0 up to but not including 1.
        board: where instances share health; by default this one is alone.
        make_breaker: makes an upstream's breaker; by default this instance's own.
        most_checks: checks that run at the same time.
        listeners: told of every change of an upstream's health; what one raises is logged.
    """

    def __init__(
        self,
        *,
        check: Check,
        random: Callable[[], float],
        board: HealthBoard | None = None,
        make_breaker: MakeBreaker = local_breaker,
        most_checks: int = 64,
        listeners: Iterable[HealthListener] = (),
    ) -> None:
        self._random = random
        self._board: HealthBoard = LocalHealthBoard() if board is None else board
        self._make_breaker = make_breaker
        self._listeners = tuple(listeners)
        self._checker = HealthChecker(check, self._board, random=random, most_at_once=most_checks)
        self._groups: dict[str, UpstreamGroup] = {}

    def __len__(self) -> int:
        """How many groups there are."""
        return len(self._groups)

    def __iter__(self) -> Iterator[UpstreamGroup]:
        """All groups there are, as of now."""
        return iter(tuple(self._groups.values()))

    def get(self, route_id: str) -> UpstreamGroup | None:
        """The group of a route; ``None`` where there is none."""
        return self._groups.get(route_id)

    # --- changes ---------------------------------------------------------------------------------

    def replace(self, routes: Iterable[GroupSettings]) -> None:
        """Have exactly these, all at once.

        Raises:
            ValueError: one makes no sense; nothing has changed then.
        """
        wanted = {each.route_id: each for each in routes}
        # What may be refused comes first.
        made = {
            route_id: self._upstreams(settings)
            for route_id, settings in wanted.items()
            if self._is_new(settings)
        }
        for route_id in self._groups.keys() - wanted.keys():
            self.discard(route_id)
        for route_id, upstreams in made.items():
            self._install(wanted[route_id], upstreams)

    def put(self, settings: GroupSettings) -> UpstreamGroup:
        """Have this one, in place of what its route had; the group.

        Raises:
            ValueError: it makes no sense; nothing has changed then.
        """
        if self._is_new(settings):
            self._install(settings, self._upstreams(settings))
        return self._groups[settings.route_id]

    def discard(self, route_id: str) -> None:
        """Have none for a route. Requests that are under way end as they end."""
        group = self._groups.pop(route_id, None)
        if group is not None:
            for upstream in group.upstreams:
                self._checker.forget(upstream)

    def _is_new(self, settings: GroupSettings) -> bool:
        group = self._groups.get(settings.route_id)
        return group is None or group.settings != settings

    def _upstreams(self, settings: GroupSettings) -> list[Upstream]:
        """Those that stay, and new ones."""
        before = self._groups.get(settings.route_id)
        kept: dict[str, Upstream] = {}
        if before is not None and settings.keeps_state_of(before.settings):
            kept = {each.url: each for each in before.upstreams}
        return [
            kept.get(each.url) or upstream_of(settings, each, self._make_breaker)
            for each in settings.upstreams
        ]

    def _install(self, settings: GroupSettings, upstreams: list[Upstream]) -> None:
        before = self._groups.get(settings.route_id)
        group = UpstreamGroup(settings, upstreams, random=self._random, listeners=self._listeners)
        self._groups[settings.route_id] = group
        if before is not None:
            for gone in set(before.upstreams).difference(upstreams):
                self._checker.forget(gone)
        for upstream in upstreams:
            self._checker.watch(upstream, group)

    # --- health ----------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check upstreams, and hear what others have found, until cancelled.

        Raises:
            RuntimeError: it is running already.
        """
        end = self._board.subscribe(self._told)
        try:
            await self._checker.run(task_status=task_status)
        finally:
            end()

    def _told(self, key: UpstreamKey, healthy: bool) -> None:
        tenant_id, route_id, url = key
        group = self._groups.get(route_id)
        if group is not None and group.settings.tenant_id == tenant_id:
            group.told(url, healthy=healthy)
