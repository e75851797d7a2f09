"""Whether an upstream is well: two state machines, each a table of moves.

* What **checks** say (`CHECK_MOVES`). Nobody has looked yet: it counts as well, and the first check
  decides by itself. After that so many in a row have to agree before the verdict changes.
* What **requests** say (`EJECTION_MOVES`), Envoy's outlier detection: after so many failures in a
  row it is taken out for a while, each time for longer; the time it then serves well makes up for
  it. Whether there is room to take one more out is for the group to say.

An upstream is up while checks do not find it unhealthy and it is not ejected.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import attrs

from bulkhead_trio.policies._checks import check_duration, check_whole


class Verdict(enum.Enum):
    """What checks have found."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class Standing(enum.Enum):
    """What requests have led to."""

    SERVING = "serving"
    EJECTED = "ejected"


class Trigger(enum.Enum):
    """What happens to an upstream's health."""

    CHECK_PASSED = "a check passed"
    CHECK_FAILED = "a check failed"
    TOLD_HEALTHY = "told healthy"
    TOLD_UNHEALTHY = "told unhealthy"
    REQUEST_FAILED = "a request failed"
    TIME_PASSED = "time passed"


# --- what the user chooses -----------------------------------------------------------------------


@attrs.frozen
class CheckLimits:
    """How many checks in a row change a verdict.

    Attributes:
        healthy_threshold: good ones that bring an unhealthy upstream back, 1 or more.
        unhealthy_threshold: bad ones that take a healthy upstream out, 1 or more.
    """

    healthy_threshold: int = 2
    unhealthy_threshold: int = 3

    def __attrs_post_init__(self) -> None:
        check_whole("healthy_threshold", self.healthy_threshold, minimum=1)
        check_whole("unhealthy_threshold", self.unhealthy_threshold, minimum=1)


@attrs.frozen
class EjectionLimits:
    """When requests that fail take an upstream out, and for how long.

    Attributes:
        failures: in a row, 1 or more.
        base: seconds of the first ejection; of the n-th, n times as much.
        longest: seconds that no ejection is longer than.
    """

    failures: int = 5
    base: float = 30.0
    longest: float = 300.0

    def __attrs_post_init__(self) -> None:
        check_whole("failures", self.failures, minimum=1)
        check_duration("base", self.base)
        check_duration("longest", self.longest)

    def seconds(self, ejections: int) -> float:
        """How long the ``ejections``-th ejection lasts; counted from 1."""
        return min(self.base * ejections, self.longest)


# --- the states ----------------------------------------------------------------------------------


@attrs.frozen
class Checked:
    """What is known from checks.

    Attributes:
        passed: good checks in a row.
        failed: bad checks in a row.
        at: when the last one ended or was told of; ``None`` before the first.
    """

    kind: Verdict = Verdict.UNKNOWN
    passed: int = 0
    failed: int = 0
    at: float | None = None


@attrs.frozen
class Serving:
    """It is asked.

    Attributes:
        failures: in a row.
        ejections: how often it was ejected, as of ``since``.
        since: when it was last let in again; minus infinity for never.
    """

    kind: ClassVar[Standing] = Standing.SERVING
    failures: int = 0
    ejections: int = 0
    since: float = -math.inf


@attrs.frozen
class Ejected:
    """It is not asked before ``until``; ``ejections`` counts this one, ``failures`` led to it."""

    kind: ClassVar[Standing] = Standing.EJECTED
    failures: int
    ejections: int
    until: float


Outing: TypeAlias = Serving | Ejected


# --- the tables ----------------------------------------------------------------------------------

Condition: TypeAlias = Callable[[Any, Any, float], bool]
"""Of a state, its limits and the time."""


def _always(state: object, limits: object, now: float) -> bool:  # noqa: ARG001
    return True


def _enough_passed(state: Checked, limits: CheckLimits, now: float) -> bool:  # noqa: ARG001
    return state.passed >= limits.healthy_threshold


def _enough_failed(state: Checked, limits: CheckLimits, now: float) -> bool:  # noqa: ARG001
    return state.failed >= limits.unhealthy_threshold


def _failed_in_a_row(state: Serving, limits: EjectionLimits, now: float) -> bool:  # noqa: ARG001
    return state.failures >= limits.failures


def _is_over(state: Ejected, limits: object, now: float) -> bool:  # noqa: ARG001
    return now >= state.until


K = TypeVar("K", Verdict, Standing)


@attrs.frozen
class Move(Generic[K]):
    """One row: in ``source``, when ``trigger`` happens and ``condition`` holds, go to ``target``.

    Attributes:
        when: the condition in words; empty where there is none.
    """

    source: K
    trigger: Trigger
    target: K
    when: str = ""
    condition: Condition = _always


UNKNOWN, HEALTHY, UNHEALTHY = Verdict.UNKNOWN, Verdict.HEALTHY, Verdict.UNHEALTHY

CHECK_MOVES: tuple[Move[Verdict], ...] = (
    Move(UNKNOWN, Trigger.CHECK_PASSED, HEALTHY),
    Move(UNKNOWN, Trigger.CHECK_FAILED, UNHEALTHY),
    Move(HEALTHY, Trigger.CHECK_FAILED, UNHEALTHY, "unhealthyThreshold in a row", _enough_failed),
    Move(UNHEALTHY, Trigger.CHECK_PASSED, HEALTHY, "healthyThreshold in a row", _enough_passed),
    *(Move(each, Trigger.TOLD_HEALTHY, HEALTHY) for each in (UNKNOWN, UNHEALTHY)),
    *(Move(each, Trigger.TOLD_UNHEALTHY, UNHEALTHY) for each in (UNKNOWN, HEALTHY)),
)
"""Every way from a verdict to the next."""

EJECTION_MOVES: tuple[Move[Standing], ...] = (
    Move(
        Standing.SERVING,
        Trigger.REQUEST_FAILED,
        Standing.EJECTED,
        "enough failures in a row, and room to take one out",
        _failed_in_a_row,
    ),
    Move(Standing.EJECTED, Trigger.TIME_PASSED, Standing.SERVING, "its time is over", _is_over),
)
"""Every way in and out of ejection."""

_VERDICT_AFTER = {(row.source, row.trigger): row for row in CHECK_MOVES}
_STANDING_AFTER = {(row.source, row.trigger): row for row in EJECTION_MOVES}


def _verdict(state: Checked, trigger: Trigger, limits: CheckLimits | None, now: float) -> Verdict:
    row = _VERDICT_AFTER.get((state.kind, trigger))
    return row.target if row is not None and row.condition(state, limits, now) else state.kind


def _standing(
    state: Outing, trigger: Trigger, limits: EjectionLimits | None, now: float
) -> Standing:
    row = _STANDING_AFTER.get((state.kind, trigger))
    return row.target if row is not None and row.condition(state, limits, now) else state.kind


# --- following them ------------------------------------------------------------------------------


def after_check(state: Checked, *, passed: bool, limits: CheckLimits, now: float) -> Checked:
    """The state once a check has ended at ``now``."""
    counted = attrs.evolve(
        state,
        passed=state.passed + 1 if passed else 0,
        failed=0 if passed else state.failed + 1,
        at=now,
    )
    trigger = Trigger.CHECK_PASSED if passed else Trigger.CHECK_FAILED
    return attrs.evolve(counted, kind=_verdict(counted, trigger, limits, now))


def after_word(state: Checked, *, healthy: bool, now: float) -> Checked:
    """The state once somebody else's verdict has arrived; a new one starts new counts."""
    trigger = Trigger.TOLD_HEALTHY if healthy else Trigger.TOLD_UNHEALTHY
    verdict = _verdict(state, trigger, None, now)
    return attrs.evolve(state, at=now) if verdict is state.kind else Checked(verdict, at=now)


def after_request(
    state: Outing, *, failed: bool, has_room: bool, limits: EjectionLimits, now: float
) -> Outing:
    """The state once a request has ended.

    What ends while it is ejected was begun before, and says nothing new.

    Args:
        state: of before, `let_in` where that was due.
        failed: whether it was the upstream's failure; otherwise its success.
        has_room: whether one more may be taken out.
        limits: of the user's.
        now: when it ended.
    """
    if isinstance(state, Ejected):
        return state
    if not failed:
        return attrs.evolve(state, failures=0) if state.failures else state
    counted = attrs.evolve(state, failures=state.failures + 1)
    standing = _standing(counted, Trigger.REQUEST_FAILED, limits, now)
    if standing is Standing.SERVING or not has_room:
        return counted
    ejections = _remembered(state, limits, now) + 1
    return Ejected(counted.failures, ejections, now + limits.seconds(ejections))


def _remembered(state: Serving, limits: EjectionLimits, now: float) -> int:
    """Ejections that still count: one is forgotten for each ``base`` seconds in service."""
    if not state.ejections:
        return 0
    return max(0, state.ejections - math.floor((now - state.since) / limits.base))


def let_in(state: Outing, now: float) -> Outing:
    """The state that time alone has led to; as of the moment that was due, however late it is."""
    if isinstance(state, Serving):
        return state
    if _standing(state, Trigger.TIME_PASSED, None, now) is Standing.EJECTED:
        return state
    return Serving(ejections=state.ejections, since=state.until)


def most_ejected(upstreams: int) -> int:
    """How many of a group may be out at once for what requests have said: half, rounded down."""
    return upstreams // 2


def may_be_asked(checked: Checked, outing: Outing) -> bool:
    """Whether an upstream is up: requests may go there."""
    return checked.kind is not UNHEALTHY and isinstance(outing, Serving)


def health_word(checked: Checked, outing: Outing) -> str:
    """Its health in one word; what checks say weighs more."""
    if checked.kind is not UNHEALTHY and isinstance(outing, Ejected):
        return outing.kind.value
    return checked.kind.value
