"""A plan in words: what will be, or was, made, changed and deleted. No secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from bulkhead_trio.gateway.as_code._mask_rules import masked
from bulkhead_trio.gateway.as_code._plan_rules import (
    MISSING,
    Document,
    Kind,
    Plan,
    RouteStep,
    TenantStep,
    differences,
    route_key,
)

SIGNS: Final[Mapping[Kind | None, str]] = {"create": "+", "update": "~", "delete": "-", None: " "}
"""What a line begins with, behind its indentation."""

_DONE: Final[Mapping[Kind, str]] = {
    "create": "to make", "update": "to change", "delete": "to delete",
}  # fmt: skip


def plan_lines(plan: Plan) -> list[str]:
    """What is to be done, tenant by tenant; none where there is nothing to do."""
    return [line for step in plan.steps for line in _tenant_lines(step)]


def summary_of(plan: Plan) -> str:
    """The numbers, in a sentence."""
    parts = []
    for what in ("tenants", "routes"):
        for kind, words in _DONE.items():
            number = plan.count(what, kind)
            if number:
                parts.append(f"{number} {what[:-1] if number == 1 else what} {words}")
    alone = len(plan.left_alone)
    others = ""
    if alone:
        are = "1 tenant is" if alone == 1 else f"{alone} tenants are"
        others = f" {are} not in the file and left alone (--prune deletes)."
    return f"{', '.join(parts) or 'Nothing to do'}.{others}"


def _tenant_lines(step: TenantStep) -> Iterator[str]:
    kept = {} if step.kept is None else step.kept.document
    title = f"{SIGNS[step.kind]} tenant {step.name}"
    if step.wanted is None:
        number = 0 if step.kept is None else len(step.kept.routes)
        yield f"{title}, its keys and its routes ({number})"
        return
    yield title
    yield from _difference_lines(kept, step.wanted, "    ", without="name")
    for route in step.routes:
        yield from _route_lines(route)


def _route_lines(step: RouteStep) -> Iterator[str]:
    before = {} if step.kept is None else step.kept.document
    document = before if step.wanted is None else step.wanted
    yield f"  {SIGNS[step.kind]} route {_title(document)}"
    if step.wanted is not None:
        yield from _difference_lines(before, step.wanted, "      ")


def _title(document: Document) -> str:
    path, path_type, methods = route_key(document)
    return f"{' '.join(methods)} {path} ({path_type})"


def _difference_lines(
    before: Document, after: Document, indentation: str, *, without: str = ""
) -> Iterator[str]:
    shown_before, shown_after = dict(_all(masked(before))), dict(_all(masked(after)))
    for path, old, new in differences(before, after):
        if path == without:
            continue
        was, will = shown_before.get(path, MISSING), shown_after.get(path, MISSING)
        if old is MISSING:
            yield f"{indentation}+ {path}: {_text(will)}"
        elif new is MISSING:
            yield f"{indentation}- {path}: {_text(was)}"
        else:
            secret = " (another secret)" if was == will else ""
            yield f"{indentation}~ {path}: {_text(was)} -> {_text(will)}{secret}"


def _all(document: Document) -> list[tuple[str, Any]]:
    return [(path, new) for path, _, new in differences({}, document)]


def _text(value: Any) -> str:
    # JSON, so that what a line may not have in it is escaped.
    return msgspec.json.encode(value).decode()
