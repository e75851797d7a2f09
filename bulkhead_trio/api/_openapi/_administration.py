"""What the tables of operations under ``/admin`` are written with."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bulkhead_trio.api._openapi._objects import JSON
from bulkhead_trio.api._openapi.operation import DEFAULT_ADDRESS, Operation, answer

MOMENT = "2026-02-11T12:00:00.000Z"

_CODES = (
    "admin_key_missing", "admin_key_invalid", "rate_limited", "invalid_header", "not_found",
    "database_unavailable", "deadline_exceeded",
)  # fmt: skip
BODY_CODES = ("invalid_body", "unsupported_media_type")
_CHANGE_CODES = ("conflict",)


def administration(
    method: str,
    path: str,
    id_: str,
    *,
    tag: str,
    summary: str,
    description: str,
    answers: dict[str, JSON],
    parameters: tuple[str, ...] = (),
    body: tuple[str, JSON] | None = None,
    is_patch: bool = False,
    changes: bool = False,
    codes: tuple[str, ...] = (),
    label: str,
    target: str,
) -> Operation:
    """An operation that asks for the admin key.

    Args:
        body: the name of its schema, and an example.
        is_patch: whether the body may be a merge patch.
        changes: whether it may be refused with ``conflict``.
        codes: its own, besides those that follow from all this.
        label: of its sample.
        target: which the sample asks.
    """
    codes = (
        *_CODES,
        *(BODY_CODES if body else ()),
        *(_CHANGE_CODES if changes else ()),
        *codes,
    )
    example = None if body is None else body[1]
    return Operation(
        path=path,
        method=method,
        id=id_,
        tag=tag,
        summary=summary,
        description=description,
        parameters=(*parameters, "X-Request-Timeout"),
        key="adminKey",
        is_key_required=True,
        body=None if body is None else request_body(*body, is_patch=is_patch),
        answers=answers,
        codes=codes,
        samples=((label, _sample(method, target, example)),),
    )


def schema(name: str) -> JSON:
    """A reference to one of ``components.schemas``."""
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str, item: Mapping[str, object]) -> dict[str, JSON]:
    """The answers of a list."""
    return {"200": answer("A page.", schema(name), {"items": [item], "nextCursor": None})}


def nothing(description: str) -> dict[str, JSON]:
    """The answers of what has nothing to say."""
    return {
        "204": {
            "description": description,
            "headers": {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}},
            "content": {},
        }
    }


def request_body(
    name: str, example: JSON, *, is_patch: bool = False, is_required: bool = True
) -> JSON:
    """A body of JSON.

    Args:
        name: of its schema.
        example: one that fits that.
        is_patch: whether it may say that it is a merge patch.
        is_required: whether there has to be one.
    """
    content = {"schema": schema(name), "example": example}
    types = ["application/json", *(["application/merge-patch+json"] if is_patch else [])]
    return {"required": is_required, "content": dict.fromkeys(types, content)}


def _sample(method: str, target: str, body: JSON | None) -> str:
    words = ["curl -i"]
    if method != "get" and not (method == "post" and body):
        words.append(f"-X {method.upper()}")
    words += [DEFAULT_ADDRESS + target, '-H "X-Admin-Key: $ADMIN_API_KEY"']
    if body is not None:
        text = msgspec.json.encode(body).decode()
        words += ["-H 'Content-Type: application/json'", f"-d '{text}'"]
    return " ".join(words)
