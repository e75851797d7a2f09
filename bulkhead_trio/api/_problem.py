"""Errors on the wire: the only place where an error becomes a status code.

The body is ``application/problem+json`` (RFC 9457). What it says comes from this table and from our
own errors' messages, never from an exception that somebody else raised.
"""

from __future__ import annotations

import http
import math
from collections.abc import Sequence

import attrs
import msgspec

from bulkhead_trio.api.messages import Response
from bulkhead_trio.errors import BulkheadTrioError, InvalidBody

CONTENT_TYPE = "application/problem+json"

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
REDUCED_CAPACITY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"


@attrs.frozen
class Kind:
    """What a code means on the wire."""

    status: int
    title: str
    type: str | None = None


KINDS: dict[str, Kind] = {
    "tenant_tier_missing": Kind(400, "Tenant tier missing"),
    "tenant_tier_invalid": Kind(400, "Tenant tier invalid"),
    "bad_request": Kind(400, "Bad request"),
    "invalid_body": Kind(400, "Invalid body"),
    "invalid_header": Kind(400, "Invalid header"),
    "api_key_missing": Kind(401, "API key missing"),
    "api_key_invalid": Kind(403, "API key invalid"),
    "tenant_inactive": Kind(403, "Tenant inactive"),
    "admin_key_missing": Kind(401, "Admin key missing"),
    "admin_key_invalid": Kind(403, "Admin key invalid"),
    "not_found": Kind(404, "Not found"),
    "route_not_found": Kind(404, "Route not found"),
    "method_not_allowed": Kind(405, "Method not allowed"),
    "conflict": Kind(409, "Conflict"),
    "request_timeout": Kind(408, "Request timeout"),
    "body_too_large": Kind(413, "Body too large"),
    "uri_too_long": Kind(414, "URI too long"),
    "unsupported_media_type": Kind(415, "Unsupported media type"),
    "idempotency_mismatch": Kind(422, "Idempotency mismatch"),
    "rate_limited": Kind(429, "Rate limit exceeded", QUOTA_EXCEEDED),
    "headers_too_large": Kind(431, "Headers too large"),
    "internal": Kind(500, "Internal error"),
    "not_implemented": Kind(501, "Not implemented"),
    "upstream_error": Kind(502, "Upstream error"),
    "bulkhead_full": Kind(503, "Service overloaded", REDUCED_CAPACITY),
    "queue_timeout": Kind(503, "Queue timeout", REDUCED_CAPACITY),
    "deadline_unreachable": Kind(503, "Deadline unreachable", REDUCED_CAPACITY),
    "shed": Kind(503, "Request shed", REDUCED_CAPACITY),
    "circuit_open": Kind(503, "Circuit open"),
    "channel_unavailable": Kind(503, "Channel unavailable"),
    "database_unavailable": Kind(503, "Database unavailable"),
    "state_unavailable": Kind(503, "State unavailable"),
    "draining": Kind(503, "Draining"),
    "upstream_timeout": Kind(504, "Upstream timeout"),
    "deadline_exceeded": Kind(504, "Deadline exceeded"),
}

WAITING_HELPS = frozenset(
    code for code, kind in KINDS.items() if kind.status == 503 or code == "rate_limited"
)

_WWW_AUTHENTICATE = {
    "api_key_missing": b'ApiKey realm="bulkhead-trio", header="X-API-Key"',
    "admin_key_missing": b'ApiKey realm="bulkhead-trio admin", header="X-Admin-Key"',
}

_CODE_OF_STATUS = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    431: "headers_too_large",
    501: "not_implemented",
}


class Problem(msgspec.Struct, omit_defaults=True, rename="camel"):
    """The members of a problem document, in the order in which they are written."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    instance: str | None = None
    retry_after: int | None = None
    errors: Sequence[dict[str, str]] | None = None


def problem(
    code: str,
    detail: str,
    *,
    instance: str | None = None,
    retry_after: float | None = None,
    errors: Sequence[dict[str, str]] | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Response:
    """The answer for ``code``.

    Args:
        code: one of `KINDS`.
        detail: a sentence for the caller.
        instance: the path that was asked for.
        retry_after: seconds; said in whole ones, at least 1, where waiting helps.
        errors: what is wrong with which member of a body.
        headers: others that the answer needs.
    """
    kind = KINDS[code]
    seconds = max(1, math.ceil(retry_after or 0)) if code in WAITING_HELPS else None
    extra = list(headers)
    if seconds is not None:
        extra.append((b"retry-after", b"%d" % seconds))
    if code in _WWW_AUTHENTICATE:
        extra.append((b"www-authenticate", _WWW_AUTHENTICATE[code]))
    document = Problem(
        type=kind.type or f"urn:bulkhead-trio:problem:{code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        code=code,
        error=kind.title,
        instance=instance,
        retry_after=seconds,
        errors=errors,
    )
    return Response(
        status=kind.status,
        body=msgspec.json.encode(document),
        content_type=CONTENT_TYPE,
        headers=tuple(extra),
    )


def problem_of(error: BulkheadTrioError, *, instance: str) -> Response:
    """The answer for one of our errors."""
    return problem(
        error.code,
        error.message,
        instance=instance,
        retry_after=error.retry_after,
        errors=error.errors if isinstance(error, InvalidBody) else None,
    )


def problem_of_status(
    status: int, *, instance: str | None = None, headers: Sequence[tuple[bytes, bytes]] = ()
) -> Response:
    """The answer for a status that a library under us decided on."""
    code = _CODE_OF_STATUS.get(status, "bad_request" if status < 500 else "internal")
    return problem(code, _phrase(KINDS[code].status), instance=instance, headers=headers)


def _phrase(status: int) -> str:
    return http.HTTPStatus(status).description or http.HTTPStatus(status).phrase
