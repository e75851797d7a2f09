"""What the Python peers share: the same tiers, rate limits, header fields and query as ours.

No more than the job needs: no deadline, no compartment, no breaker, no statistics, no log.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import time
from collections.abc import Mapping

SELECT = (
    "SELECT id, tier, payload, created_at FROM tenant_data WHERE tier = $1 ORDER BY id LIMIT $2"
)
ROWS = 10
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

Headers = dict[str, str]


class FixedWindow:
    """``limit`` requests in each window of so many ``seconds``."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._window = 0
        self._taken = 0

    def take(self, now: float) -> tuple[bool, Headers]:
        """Whether one more request may pass at ``now`` (Unix time), and what its answer says."""
        window = int(now // self._seconds)
        if window != self._window:
            self._window, self._taken = window, 0
        allowed = self._taken < self._limit
        if allowed:
            self._taken += 1
        reset = math.ceil((window + 1) * self._seconds)
        headers = {
            "x-ratelimit-limit": str(self._limit),
            "x-ratelimit-remaining": str(self._limit - self._taken),
            "x-ratelimit-reset": str(reset),
        }
        if not allowed:
            headers["retry-after"] = str(max(1, math.ceil(reset - now)))
        return allowed, headers


class TierSettings:
    """One tier as ``TIERS`` has it."""

    def __init__(self, name: str, settings: Mapping[str, int | None]) -> None:
        self.name = name
        self.connections = settings["connections"] or 1
        limit, window = settings["rateLimit"], settings["window"]
        self._quota = None if limit is None else FixedWindow(limit, window or 60)

    def take(self) -> tuple[bool, Headers]:
        """Whether one more request may pass, and what its answer says of it."""
        return (True, {}) if self._quota is None else self._quota.take(time.time())


def read_tiers() -> dict[str, TierSettings]:
    """The tiers, by name."""
    settings = json.loads(os.environ["TIERS"])
    return {name: TierSettings(name, values) for name, values in settings.items()}


def common_headers(given: str | None) -> Headers:
    """What every answer has: the caller's request id, or a new one, and two that are constant."""
    request_id = given if given and _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    return {
        "x-request-id": request_id,
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }


def problem(status: int, code: str, title: str) -> dict[str, str | int]:
    """The body of a refusal."""
    return {"type": "about:blank", "title": title, "status": status, "code": code, "error": title}
