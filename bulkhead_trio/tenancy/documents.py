"""A tenant as people write it, in JSON or TOML: read with every mistake found, and written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from bulkhead_trio.database.tenants import (
    RateLimitRecord,
    TenantChanges,
    TenantDraft,
    TenantRecord,
)
from bulkhead_trio.errors import InvalidBody

LONGEST_NAME: Final = 128
"""Characters."""

HIGHEST_LIMIT: Final = 10**9
SHORTEST_WINDOW_SECONDS: Final = 0.001
LONGEST_WINDOW_SECONDS: Final = 86_400.0
HIGHEST_WEIGHT: Final = 1000
"""A tenant gets at most a thousand times what another of its tier gets."""

MEMBERS: Final = ("name", "tier", "active", "rateLimit", "weight")
"""What may be said of a tenant, in the order in which it is written."""


def read_tenant(document: object, *, tiers: Collection[str]) -> TenantDraft:
    """The tenant that ``document``, of decoded JSON or TOML, describes.

    Args:
        document: has `MEMBERS`; all but ``name`` and ``tier`` may be left out.
        tiers: the names that exist.

    Raises:
        InvalidBody: with every mistake there is.
    """
    if not isinstance(document, Mapping):
        raise InvalidBody("The body is not what it should be.", errors=[_error("$", "an object")])
    reading = _Reading(document)
    reading.refuse_others(MEMBERS, "$")
    draft = TenantDraft(
        name=reading.member("name", _name, f"1 to {LONGEST_NAME} printable characters"),
        tier=reading.member("tier", tiers.__contains__, f"one of {', '.join(tiers)}"),
        active=reading.member("active", _is_flag, "true or false", default=True),
        rate_limit=_read_limit(reading),
        weight=reading.member(
            "weight",
            _whole(HIGHEST_WEIGHT),
            f"a whole number from 1 to {HIGHEST_WEIGHT}",
            default=1,
        ),
    )
    if reading.errors:
        raise InvalidBody("The body is not what it should be.", errors=reading.errors)
    return draft


def tenant_document(tenant: TenantRecord | TenantDraft) -> dict[str, Any]:
    """What `read_tenant` reads; every member is there."""
    limit = tenant.rate_limit
    return {
        "name": tenant.name,
        "tier": tenant.tier,
        "active": tenant.active,
        "rateLimit": None if limit is None else _limit_document(limit),
        "weight": tenant.weight,
    }


def draft_of(document: Mapping[str, Any]) -> TenantDraft:
    """The tenant of a document that `tenant_document` has written."""
    limit = document["rateLimit"]
    return TenantDraft(
        name=document["name"],
        tier=document["tier"],
        active=document["active"],
        rate_limit=None
        if limit is None
        else RateLimitRecord(limit["limit"], float(limit["windowSeconds"])),
        weight=document["weight"],
    )


def changes_to(draft: TenantDraft) -> TenantChanges:
    """What to change of any tenant so that it becomes ``draft``."""
    return TenantChanges(
        name=draft.name,
        tier=draft.tier,
        active=draft.active,
        rate_limit=draft.rate_limit,
        weight=draft.weight,
    )


class _Reading:
    """The members of an object, and what is wrong with them."""

    def __init__(self, document: Mapping[Any, Any], path: str = "$") -> None:
        self.errors: list[dict[str, str]] = []
        self._document = document
        self._path = path

    def refuse_others(self, known: Collection[str], path: str) -> None:
        self.errors += [
            {"path": f"{path}.{name}", "message": "is not known here"}
            for name in self._document
            if name not in known
        ]

    def member(
        self, name: str, is_right: Callable[[Any], bool], wanted: str, *, default: Any = None
    ) -> Any:
        """The member, or the default; where it is wrong, an error is noted."""
        if name not in self._document and default is not None:
            return default
        value = self._document.get(name)
        # A tier may be anything in JSON, and not everything can be looked for in a set.
        if isinstance(value, list | dict) or not is_right(value):
            missing = "" if name in self._document else "is missing; it "
            path = f"{self._path}.{name}"
            self.errors.append({"path": path, "message": f"{missing}must be {wanted}"})
            return default
        return value

    def object(self, name: str) -> _Reading | None:
        """The object that a member is; ``None`` where it is null or absent, or no object."""
        value = self._document.get(name)
        path = f"{self._path}.{name}"
        if isinstance(value, Mapping):
            inner = _Reading(value, path)
            inner.errors = self.errors
            return inner
        if value is not None:
            self.errors.append(_error(path, "an object or null"))
        return None


def _read_limit(reading: _Reading) -> RateLimitRecord | None:
    inner = reading.object("rateLimit")
    if inner is None:
        return None
    inner.refuse_others(("limit", "windowSeconds"), "$.rateLimit")
    limit = inner.member(
        "limit", _whole(HIGHEST_LIMIT), f"a whole number from 1 to {HIGHEST_LIMIT}"
    )
    window = inner.member(
        "windowSeconds",
        _is_window,
        f"a number from {SHORTEST_WINDOW_SECONDS:g} to {LONGEST_WINDOW_SECONDS:.0f}",
    )
    if limit is None or window is None:
        return None
    return RateLimitRecord(limit, float(window))


def _limit_document(limit: RateLimitRecord) -> dict[str, Any]:
    seconds = limit.window_seconds
    return {
        "limit": limit.limit,
        "windowSeconds": int(seconds) if seconds == int(seconds) else seconds,
    }


def _error(path: str, wanted: str) -> dict[str, str]:
    return {"path": path, "message": f"must be {wanted}"}


def _name(value: object) -> bool:
    return (
        isinstance(value, str)
        and 1 <= len(value) <= LONGEST_NAME
        and value.isprintable()
        and value == value.strip()
    )


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _whole(highest: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and 1 <= value <= highest


def _is_window(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return SHORTEST_WINDOW_SECONDS <= value <= LONGEST_WINDOW_SECONDS
