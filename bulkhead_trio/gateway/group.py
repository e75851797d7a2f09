"""The upstreams of one route: who of them gets the next request, and who is out for now."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta

import trio

from bulkhead_trio.errors import CircuitOpen, NoUpstream
from bulkhead_trio.gateway._balance_rules import (
    Balancing,
    at_random,
    grown_weight,
    least_connections,
    smooth,
)
from bulkhead_trio.gateway._health_rules import (
    Checked,
    Ejected,
    Outing,
    after_check,
    after_request,
    after_word,
    let_in,
    most_ejected,
)
from bulkhead_trio.gateway.group_settings import GroupSettings
from bulkhead_trio.gateway.reports import (
    BreakerReport,
    GroupStatistics,
    HealthListener,
    HealthReport,
    UpstreamHealthChanged,
    UpstreamReport,
)
from bulkhead_trio.gateway.upstream import Upstream
from bulkhead_trio.policies.breaker import BreakerOutcome
from bulkhead_trio.policies.listeners import tell


class UpstreamGroup:
    """Shares the requests of one route out among its upstreams.

    Args:
        settings: what it is made from.
        upstreams: one for each that the settings name, in their order; from now on it is this group
            that moves their health.
        random: gives numbers from 0 up to but not including 1; for ``RANDOM``.
        listeners: told of every change of an upstream's health, after it has happened; what one
            raises is logged.
    """

    def __init__(
        self,
        settings: GroupSettings,
        upstreams: Iterable[Upstream],
        *,
        random: Callable[[], float],
        listeners: Iterable[HealthListener] = (),
    ) -> None:
        self.settings = settings
        self.upstreams = tuple(upstreams)
        self._random = random
        self._listeners = tuple(listeners)
        self._is_random = settings.balancing is Balancing.RANDOM
        self._chooses: Callable[[Sequence[Upstream]], Upstream] = (
            least_connections if settings.balancing is Balancing.LEAST_CONNECTIONS else smooth
        )
        # Whether somebody is in its slow start, or has a breaker that was not closed: then more has
        # to be looked at than who is up.
        self._is_unsettled = True
        self._picked = self._down = self._open = 0
        for upstream, one in zip(self.upstreams, settings.upstreams, strict=True):
            upstream.set_weight(settings.weight(one))
            upstream.on_ended = self._request_ended

    # --- choosing --------------------------------------------------------------------------------

    def pick(self, exclude: Collection[Upstream] = ()) -> Upstream:
        """Who gets the next request: up, with a breaker that lets it in, and balanced.

        Decided at once. Between this and `Upstream.enter` the last probe of a half-open breaker may
        go to somebody else; then ``enter`` raises `CircuitOpen`, and another may be picked.

        Args:
            exclude: those that have been tried; they are taken only where there is no other, since
                the same upstream again is better than none.

        Raises:
            CircuitOpen: the breakers of all that are up are open; ``retry_after`` is what is left
                of the shortest cooldown.
            NoUpstream: all are down.
        """
        candidates: Sequence[Upstream] = [
            each
            for each in self.upstreams
            if each.is_up and (each.breaker is None or each.breaker.is_closed)
        ]
        if self._is_unsettled or len(candidates) != len(self.upstreams):
            candidates = self._ready(trio.current_time())
        if exclude:
            candidates = [each for each in candidates if each not in exclude] or candidates
        self._picked += 1
        if self._is_random:
            return at_random(candidates, self._random())
        return self._chooses(candidates)

    def _ready(self, now: float) -> list[Upstream]:
        """Who may be chosen, looked at one by one."""
        ready: list[Upstream] = []
        soonest: float | None = None
        is_unsettled = False
        self._let_in(now)
        for each in self.upstreams:
            if not each.is_up:
                continue
            wait = self._breaker_refusal(each, now)
            if wait is None:
                ready.append(each)
            else:
                soonest = wait if soonest is None else min(soonest, wait)
            if each.slow_since is not None:
                self._grow(each, each.slow_since, now)
            is_unsettled = is_unsettled or each.was_open or each.slow_since is not None
        self._is_unsettled = is_unsettled
        if not ready:
            self._refuse(soonest, now)
        return ready

    def _breaker_refusal(self, upstream: Upstream, now: float) -> float | None:
        """Seconds until its breaker may let a request in; ``None`` where it does now."""
        breaker = upstream.breaker
        if breaker is None:
            return None
        if not breaker.is_closed:
            upstream.was_open = True
            return breaker.refusal()
        if upstream.was_open:
            upstream.was_open = False
            self._came_back(upstream, now)
        return None

    def _refuse(self, soonest: float | None, now: float) -> None:
        if soonest is not None:
            self._open += 1
            raise CircuitOpen(
                "every upstream of this route that is up has been failing", retry_after=soonest
            )
        self._down += 1
        ends = [each.outing.until for each in self.upstreams if isinstance(each.outing, Ejected)]
        raise NoUpstream(
            "every upstream of this route is down",
            retry_after=max(0.0, min(ends) - now) if ends else None,
        )

    # --- coming back slowly ----------------------------------------------------------------------

    def _came_back(self, upstream: Upstream, now: float) -> None:
        upstream.credit = 0.0
        upstream.was_open = False
        if self.settings.slow_start:
            upstream.slow_since = now
            self._is_unsettled = True
            self._grow(upstream, now, now)

    def _grow(self, upstream: Upstream, since: float, now: float) -> None:
        seconds = self.settings.slow_start
        if seconds and now - since < seconds:
            upstream.weight = grown_weight(upstream.own_weight, since, seconds, now)
        else:
            upstream.slow_since = None
            upstream.weight = upstream.own_weight

    # --- what is learnt --------------------------------------------------------------------------

    def checked(self, upstream: Upstream, *, passed: bool) -> bool:
        """A check of one of them has ended; answers with whether checks find it healthy."""
        checks = self.settings.checks
        if checks is None:
            return True
        now = trio.current_time()
        state = after_check(upstream.checked, passed=passed, limits=checks.limits, now=now)
        self._move(upstream, state, upstream.outing, now)
        return upstream.checks_are_good

    def told(self, url: str, *, healthy: bool) -> None:
        """Somebody else's checks have come to a verdict; of a URL that is not here, nothing."""
        now = trio.current_time()
        for each in self.upstreams:
            if each.url == url and self.settings.checks is not None:
                state = after_word(each.checked, healthy=healthy, now=now)
                self._move(each, state, each.outing, now)

    def _request_ended(self, upstream: Upstream, outcome: BreakerOutcome) -> None:
        limits = self.settings.ejection
        if limits is None or outcome is BreakerOutcome.IGNORED:
            return
        failed = outcome is BreakerOutcome.FAILURE
        if not failed and not upstream.outing.failures:
            return  # nothing would change
        now = trio.current_time()
        self._let_in(now)
        # What checks have taken out counts too: the last half goes on their word alone.
        out = sum(not each.is_up for each in self.upstreams)
        outing = after_request(
            upstream.outing,
            failed=failed,
            has_room=out + upstream.is_up <= most_ejected(len(self.upstreams)),
            limits=limits,
            now=now,
        )
        self._move(upstream, upstream.checked, outing, now)

    def _let_in(self, now: float) -> None:
        """End the ejections that are over."""
        for each in self.upstreams:
            if isinstance(each.outing, Ejected) and now >= each.outing.until:
                self._move(each, each.checked, let_in(each.outing, now), now)

    def _move(self, upstream: Upstream, checked: Checked, outing: Outing, now: float) -> None:
        before = upstream.health
        if isinstance(outing, Ejected) and outing is not upstream.outing:
            upstream.ejections += 1
        if upstream.set_health(checked, outing):
            self._came_back(upstream, now)
        after = upstream.health
        if after != before and self._listeners:
            tenant_id, route_id, url = upstream.key
            record = UpstreamHealthChanged(tenant_id, route_id, url, before, after, now)
            tell(self._listeners, record)

    # --- from outside ----------------------------------------------------------------------------

    def statistics(self) -> GroupStatistics:
        """What it has now."""
        self._let_in(trio.current_time())
        return GroupStatistics(
            tenant_id=self.settings.tenant_id,
            route_id=self.settings.route_id,
            picked=self._picked,
            down=self._down,
            open=self._open,
            upstreams=tuple(each.statistics() for each in self.upstreams),
        )

    def health_report(self, now: datetime) -> HealthReport:
        """How its upstreams are, for people.

        Args:
            now: the time of day, which moments of Trio's clock are told in.
        """
        clock = trio.current_time()
        self._let_in(clock)

        def day(moment: float | None) -> datetime | None:
            if moment is None or not math.isfinite(moment):
                return None
            return now + timedelta(seconds=moment - clock)

        return HealthReport(
            route_id=self.settings.route_id,
            healthy=any(each.is_up for each in self.upstreams),
            upstreams=tuple(_report(each, day) for each in self.upstreams),
        )


def _report(upstream: Upstream, day: Callable[[float | None], datetime | None]) -> UpstreamReport:
    checked, outing = upstream.checked, upstream.outing
    breaker = None if upstream.breaker is None else upstream.breaker.statistics()
    return UpstreamReport(
        url=upstream.url,
        weight=upstream.own_weight,
        healthy=upstream.is_up,
        state=upstream.health,
        last_check=day(checked.at),
        consecutive_successes=checked.passed,
        consecutive_failures=checked.failed,
        failed_requests=outing.failures,
        ejected_until=day(outing.until) if isinstance(outing, Ejected) else None,
        ejections=upstream.ejections,
        in_flight=upstream.in_flight,
        circuit_breaker=None
        if breaker is None
        else BreakerReport(
            state=breaker.state.value,
            failures=breaker.failures,
            retry_after=breaker.retry_after,
        ),
    )
