"""The error codes in words, and the responses that carry them.

Status, title and type of a code come from `bulkhead_trio.api._problem.KINDS`, and each example is
what `problem` really makes: here is only what a machine cannot know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import msgspec

from bulkhead_trio.api._problem import CONTENT_TYPE, KINDS, WAITING_HELPS, problem

JSON: TypeAlias = dict[str, Any]


@attrs.frozen
class Meaning:
    """A code for people.

    Attributes:
        when: the situation, as a sentence.
        detail: of the example; ``{tier}`` stands for a tier's name.
        retry_after: of the example, in seconds, where waiting helps.
        instance: of the example; ``None`` where the request was not read that far.
        errors: of the example, where a body's members are to blame.
    """

    when: str
    detail: str
    retry_after: float | None = None
    instance: str | None = "/api/data"
    errors: tuple[dict[str, str], ...] | None = None


MEANINGS: dict[str, Meaning] = {
    "tenant_tier_missing": Meaning(
        "The request does not say which tier it belongs to.",
        "Say your tier in the header X-Tenant-Tier.",
    ),
    "tenant_tier_invalid": Meaning(
        "There is no tier of that name, or the API key's tenant has another.",
        "There is no such tier.",
    ),
    "bad_request": Meaning(
        "The request, or one of its query parameters, is not what it may be.",
        "limit must be a whole number from 1 to 100",
    ),
    "invalid_body": Meaning(
        "The body is not JSON, or not of the form that is wanted; `errors` says where.",
        "The body is not what it should be.",
        instance="/api/orders",
        errors=({"path": "$.amount", "message": "must be above 0"},),
    ),
    "invalid_header": Meaning(
        "A header has a value that it cannot have.",
        "X-Request-Timeout must be decimal seconds above 0",
    ),
    "api_key_missing": Meaning(
        "There is no API key, and the path is not one of the server's own, or the plain tier "
        "header is not trusted by it.",
        "Send your API key in the header X-API-Key.",
    ),
    "api_key_invalid": Meaning(
        "The API key is nobody's, or has been revoked.", "This API key is not known."
    ),
    "tenant_inactive": Meaning(
        "The API key is good, and its tenant has been switched off.",
        "This tenant is not active.",
    ),
    "admin_key_missing": Meaning(
        "This server shows its inside only to those who have the admin key.",
        "Send the admin key in the header X-Admin-Key.",
        instance="/metrics",
    ),
    "admin_key_invalid": Meaning(
        "The admin key is another one.", "This is not the admin key.", instance="/metrics"
    ),
    "not_found": Meaning(
        "There is nothing at this path, or not on this listener, or nothing with this id.",
        "Nothing matches the given URI",
        instance="/admin/tenant",
    ),
    "route_not_found": Meaning(
        "The path is not one of the server's own, and the API key's tenant has no route for it and "
        "the method.",
        "No route of yours is for this method and path.",
        instance="/api/users",
    ),
    "method_not_allowed": Meaning(
        "The path exists, but not with this method; `Allow` says with which.",
        "Specified method is invalid for this resource",
    ),
    "conflict": Meaning(
        "It contradicts what is there: another order has this id, what is to be changed has "
        "another version by now than `If-Match` names, there are as many webhooks as there may be, "
        "or what is to be replayed is still on its way.",
        "There is another order with this id.",
        instance="/api/orders",
    ),
    "request_timeout": Meaning(
        "The rest of the request did not arrive in time.",
        "Request timed out; try again.",
        instance=None,
    ),
    "body_too_large": Meaning(
        "The body is larger than this server takes.", "A body has at most 1048576 bytes."
    ),
    "uri_too_long": Meaning(
        "Path and query together are too long.", "A target has at most 8192 bytes."
    ),
    "unsupported_media_type": Meaning(
        "The body is of another media type than JSON.",
        "Send the body as application/json.",
        instance="/api/orders",
    ),
    "idempotency_mismatch": Meaning(
        "The `Idempotency-Key` was used before, with something else; nothing was accepted.",
        "This Idempotency-Key was used before, with another content.",
        instance="/api/events",
    ),
    "rate_limited": Meaning(
        "The quota, a tier's, a tenant's or a user's, is used up for now, or too many wrong admin "
        "keys came from this address. The refused request itself does not count.",
        "The tier {tier} allows 100 requests per 60 seconds.",
        retry_after=42,
    ),
    "headers_too_large": Meaning(
        "There are too many header fields, or too many bytes of them.",
        "At most 100 header fields and 16384 bytes of them.",
    ),
    "internal": Meaning("A mistake of the server; it is in its log.", "The server made a mistake."),
    "not_implemented": Meaning(
        "The request uses a transfer coding that this server does not have.",
        "Server does not support this operation",
        instance=None,
    ),
    "upstream_error": Meaning(
        "The upstream could not be reached, broke off, or gave no answer that could be passed on; "
        "or every one is down.",
        "The upstream could not be reached, or gave no answer.",
        instance="/api/users",
    ),
    "bulkhead_full": Meaning(
        "Every worker of the tier, or every place at the upstream, is busy and every waiting place "
        "is taken; nothing was run.",
        "{tier} is full",
        retry_after=3,
    ),
    "queue_timeout": Meaning(
        "Every connection to the upstream stayed in use too long; nothing was run.",
        "all connections to the upstream stayed in use too long",
        retry_after=1,
        instance="/api/users",
    ),
    "deadline_unreachable": Meaning(
        "The predicted wait for a worker is longer than the deadline; refused instead of being "
        "queued to die.",
        "the predicted wait in {tier} is longer than the deadline allows",
        retry_after=2,
    ),
    "shed": Meaning(
        "Dropped to protect the rest: too many connections are open, or while the request waited "
        "other tenants needed its place more, or the tier's supervisor went down.",
        "the supervisor of {tier} is down",
        retry_after=1,
    ),
    "circuit_open": Meaning(
        "The tier's database calls, or calls of the route's upstreams, have been failing; nothing "
        "was tried. `retryAfter` is what is left of the cooldown.",
        "{tier} is open",
        retry_after=12,
    ),
    "channel_unavailable": Meaning(
        "The notification's channel is not configured on this server.",
        "This server has no mail server: SMTP_URL is not set.",
        retry_after=60,
        instance="/api/notifications",
    ),
    "database_unavailable": Meaning(
        "PostgreSQL is away, or went away; also what `force_error` brings about.",
        "The database call failed, as force_error asked.",
        retry_after=1,
    ),
    "state_unavailable": Meaning(
        "What the server's instances share is away, and `ON_STATE_ERROR` says to refuse then.",
        "the shared state is away",
        retry_after=1,
        instance="/api/users",
    ),
    "draining": Meaning(
        "The server is shutting down and takes no new work.",
        "The server is shutting down.",
        retry_after=1,
    ),
    "upstream_timeout": Meaning(
        "The upstream took longer than its route allows.",
        "The upstream took too long.",
        instance="/api/users",
    ),
    "deadline_exceeded": Meaning(
        "The request's deadline passed while it waited or ran.", "the deadline has passed"
    ),
}
"""Every code that this version can answer."""

ANYWHERE = (
    "bad_request", "request_timeout", "body_too_large", "uri_too_long", "headers_too_large",
    "internal", "not_implemented", "shed",
)  # fmt: skip
"""What any request can be answered, since it is decided before or around every handler."""

PROXIED = (
    "api_key_missing", "api_key_invalid", "tenant_inactive", "rate_limited", "route_not_found",
    "bulkhead_full", "queue_timeout", "deadline_unreachable", "circuit_open", "upstream_error",
    "upstream_timeout", "state_unavailable", "deadline_exceeded",
)  # fmt: skip
"""What a request that is passed on to a tenant's upstreams can be answered by us."""

UNROUTED = (
    "not_found", "method_not_allowed", "route_not_found", "upstream_error", "queue_timeout",
    "state_unavailable", "upstream_timeout",
)  # fmt: skip
"""What only a request is answered that is for none of the operations."""


def examples(tier: str) -> dict[str, JSON]:
    """One problem document a code, for ``components.examples``; they speak of ``tier``."""
    return {
        code: {
            "summary": KINDS[code].title,
            "description": meaning.when,
            "value": msgspec.json.decode(
                problem(
                    code,
                    meaning.detail.format(tier=tier),
                    instance=meaning.instance,
                    retry_after=meaning.retry_after,
                    errors=meaning.errors,
                ).body
            ),
        }
        for code, meaning in MEANINGS.items()
    }


def problem_schema() -> JSON:
    """What every error's body looks like."""
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "A problem document (RFC 9457). More members may come.",
        "required": ["type", "title", "status", "detail", "code", "error"],
        "properties": {
            "type": {
                "type": "string",
                "format": "uri",
                "description": "Names the kind of problem; an identifier, not an address to open.",
            },
            "title": {**text, "description": "The kind of problem in words, always the same."},
            "status": {
                "type": "integer",
                "enum": sorted({KINDS[code].status for code in MEANINGS}),
                "description": "The HTTP status code.",
            },
            "detail": {**text, "description": "What happened to this request."},
            "code": {
                "type": "string",
                "enum": list(MEANINGS),
                "description": "Names the kind of problem for programs; never renamed.",
            },
            "error": {**text, "description": "The same as `title`."},
            "instance": {
                **text,
                "description": "The path that was asked for, where it could be read.",
            },
            "errors": {
                "type": "array",
                "description": "What is wrong with a body, member by member.",
                "items": {
                    "type": "object",
                    "required": ["path", "message"],
                    "properties": {
                        "path": {**text, "description": "Of the member, as `$.amount`."},
                        "message": {**text, "description": "What is wrong with it."},
                    },
                },
            },
            "retryAfter": {
                "type": "integer",
                "minimum": 1,
                "description": "Seconds to wait before another try, where waiting helps; the "
                "same as the header `Retry-After`.",
            },
        },
    }


def shared_responses() -> dict[str, JSON]:
    """For ``components.responses``: what several operations answer, or none of them."""
    return {code: _response([code], ()) for code in (*ANYWHERE, *UNROUTED)}


def responses_of(
    codes: Iterable[str], *, answers: Mapping[str, JSON], headers: Mapping[int, Sequence[str]]
) -> dict[str, JSON]:
    """All responses of one operation, by status.

    Args:
        codes: its own; those of `ANYWHERE` are added.
        answers: what it answers that is no problem.
        headers: which of ``components.headers`` its errors carry besides the usual ones.
    """
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*codes, *ANYWHERE)):
        by_status.setdefault(KINDS[code].status, []).append(code)
    responses = dict(answers)
    for status, of_status in sorted(by_status.items()):
        own = answers.get(str(status))
        if own is not None:
            responses[str(status)] = _either(own, _response(of_status, headers.get(status, ())))
        elif of_status[0] in ANYWHERE and len(of_status) == 1 and status not in headers:
            responses[str(status)] = {"$ref": f"#/components/responses/{of_status[0]}"}
        else:
            responses[str(status)] = _response(of_status, headers.get(status, ()))
    return responses


def _either(one: JSON, other: JSON) -> JSON:
    """One status with two kinds of body."""
    return {
        "description": f"{one['description']} {other['description']}",
        "headers": one["headers"] | other["headers"],
        "content": one["content"] | other["content"],
    }


def _response(codes: Sequence[str], headers: Sequence[str]) -> JSON:
    """One status; each of its codes is an example, named by the code."""
    status = KINDS[codes[0]].status
    names = ["X-Request-Id", *headers]
    if not WAITING_HELPS.isdisjoint(codes):
        names.append("Retry-After")
    if status == 401:
        names.append("WWW-Authenticate")
    if status == 405:
        names.append("Allow")
    return {
        "description": " ".join(f"`{code}`: {MEANINGS[code].when}" for code in codes),
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {
            CONTENT_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
            }
        },
    }
