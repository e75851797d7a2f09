"""JSON objects as clients send them: whole ones, and merge patches to what there is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from bulkhead_trio.api._payload_rules import repeated_member
from bulkhead_trio.api.messages import Request, invalid_body
from bulkhead_trio.errors import InvalidBody
from bulkhead_trio.gateway.spec import merge_patch

MERGE_PATCH: Final = "application/merge-patch+json"

_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_AS_WRITTEN: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_object(request: Request, *, is_patch: bool = False) -> dict[str, Any]:
    """The body, which must be a JSON object.

    Args:
        request: has it.
        is_patch: whether it may also say that it is a JSON merge patch.

    Raises:
        UnsupportedMediaType: it says that it is something else.
        InvalidBody: it is none, or has a member twice: others may take it for another one.
    """
    media_types = (MERGE_PATCH, "application/json") if is_patch else ("application/json",)
    document = request.json(_OBJECT, media_types=media_types)
    repeated = repeated_member(request.body, _AS_WRITTEN.decode(request.body))
    if repeated is not None:
        raise invalid_body(f"$.{repeated}", "is there more than once")
    return document


def changed_document(
    current: Mapping[str, Any], patch: Mapping[str, Any], *, read_only: Collection[str]
) -> dict[str, Any]:
    """What ``current`` becomes by a merge patch, without its read-only members.

    A client may send back what it was told: a read-only member that says what is so anyway is no
    mistake.

    Raises:
        InvalidBody: the patch changes a read-only member.
    """
    errors = read_only_mistakes(current, patch, read_only=read_only)
    if errors:
        raise InvalidBody("The body is not what it should be.", errors=errors)
    return merged_document(current, patch, read_only=read_only)


def read_only_mistakes(
    current: Mapping[str, Any], patch: Mapping[str, Any], *, read_only: Collection[str]
) -> list[dict[str, str]]:
    """What a merge patch would change that cannot be changed, each with its path."""
    return [
        {"path": f"$.{name}", "message": "cannot be changed"}
        for name in read_only
        if name in patch and patch[name] != current[name]
    ]


def merged_document(
    current: Mapping[str, Any], patch: Mapping[str, Any], *, read_only: Collection[str]
) -> dict[str, Any]:
    """What ``current`` becomes by a merge patch, without its read-only members."""
    merged: dict[str, Any] = merge_patch(current, patch)
    return {name: value for name, value in merged.items() if name not in read_only}
