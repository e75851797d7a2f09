"""A breaker as one would write it down, to compare the real one with."""

from __future__ import annotations

import itertools
import math
from typing import Any

import attrs

from bulkhead_trio.policies.breaker import BreakerOutcome, Consecutive, CountWindow, TimeWindow


@attrs.define
class Model:
    """A list of what happened, and no epochs.

    It remembers which permits are current; every move forgets them, which is what "a result that
    arrives after the state has moved on changes nothing" means.
    """

    options: dict[str, Any]
    kind: str = "CLOSED"
    history: list[tuple[float, bool, bool]] = attrs.Factory(list)  # when, failed, slow
    current: set[int] = attrs.Factory(set)
    trial: list[tuple[bool, bool]] = attrs.Factory(list)  # failed, slow
    opened_at: float = 0.0
    half_open_at: float = 0.0
    openings: int = 0
    kept_failures: int = 0
    opened: int = 0

    @property
    def cooldown(self) -> float:
        waits = self.options["wait_in_open"]
        return float(waits[self.openings - 1] if self.openings <= len(waits) else waits[-1])

    def in_view(self, now: float) -> list[tuple[float, bool, bool]]:
        window = self.options["window"]
        if isinstance(window, CountWindow):
            return self.history[-window.size :]
        if isinstance(window, TimeWindow):
            # Ten buckets on a fixed grid: the current one and the nine before it.
            width = window.seconds / 10
            return [call for call in self.history if call[0] // width > now // width - 10]
        run = itertools.takewhile(lambda call: call[1] or call[2], reversed(self.history))
        return list(run)

    def is_too_much(self, calls: list[tuple[bool, bool]], of: int) -> bool:
        failed = sum(failed for failed, _ in calls)
        slow = sum(slow for _, slow in calls)
        if isinstance(self.options["window"], Consecutive):
            return failed + slow > 0
        too_many_failed: bool = failed / of >= self.options["failure_rate_threshold"]
        too_many_slow: bool = slow / of >= self.options["slow_call_rate_threshold"]
        return too_many_failed or too_many_slow

    def window_opens(self, now: float) -> bool:
        window, view = self.options["window"], self.in_view(now)
        if isinstance(window, Consecutive):
            return len(view) >= window.failures
        if len(view) < self.options["minimum_number_of_calls"]:
            return False
        return self.is_too_much([(failed, slow) for _, failed, slow in view], len(view))

    def failures(self, now: float) -> int:
        if self.kind in {"FORCED_OPEN", "DISABLED"}:
            return 0
        if self.kind == "CLOSED":
            view = self.in_view(now)
            if isinstance(self.options["window"], Consecutive):
                return len(view)
            return sum(failed for _, failed, _ in view)
        return self.kept_failures + sum(failed for failed, _ in self.trial)

    def time_passes(self, now: float) -> None:
        longest = self.options["max_wait_in_half_open"] or math.inf
        if self.kind == "HALF_OPEN" and now >= self.half_open_at + longest:
            self.open(self.half_open_at + longest)

    def has_room(self, now: float) -> bool:
        permitted = self.options["permitted_calls_in_half_open"]
        most = max(permitted, self.options["success_threshold"])
        room: dict[str, bool] = {
            "CLOSED": True,
            "DISABLED": True,
            "FORCED_OPEN": False,
            "OPEN": now >= self.opened_at + self.cooldown,
            "HALF_OPEN": len(self.current) < permitted
            and len(self.current) + len(self.trial) < most,
        }
        return room[self.kind]

    def admit(self, serial: int, now: float) -> None:
        if self.kind == "OPEN":
            self.kept_failures = self.failures(now)
            self.move("HALF_OPEN")
            self.half_open_at = now
        self.current.add(serial)

    def end(self, serial: int, outcome: BreakerOutcome, slow: bool, now: float) -> None:
        if serial not in self.current:
            return
        self.current.discard(serial)
        if outcome is BreakerOutcome.IGNORED:
            return
        failed = outcome is BreakerOutcome.FAILURE
        if self.kind == "CLOSED":
            self.history.append((now, failed, slow))
            if self.window_opens(now):
                self.open(now)
        elif self.kind == "HALF_OPEN":
            self.trial.append((failed, slow))
            self.judge(now)

    def judge(self, now: float) -> None:
        needed = self.options["success_threshold"]
        most = max(self.options["permitted_calls_in_half_open"], needed)
        good = sum(not failed and not slow for failed, slow in self.trial)
        still_possible = good + most - len(self.trial)
        if self.is_too_much(self.trial, most) or still_possible < needed:
            self.open(now)
        elif good >= needed:
            self.close()

    def open(self, now: float) -> None:
        failures = self.failures(now)
        self.openings += 1
        self.opened += 1
        self.move("OPEN")
        self.kept_failures = failures
        self.opened_at = now

    def close(self) -> None:
        self.openings = 0
        self.move("CLOSED")

    def move(self, kind: str) -> None:
        self.kind = kind
        self.current.clear()
        self.trial.clear()
        if kind not in {"OPEN", "HALF_OPEN"}:
            self.history.clear()
            self.openings = self.kept_failures = 0
