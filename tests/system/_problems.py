"""What the contract says of every answer, as assertions."""

from __future__ import annotations

from typing import Any

from ._client import Answer

STATUS_OF_CODE = {
    "tenant_tier_missing": 400,
    "tenant_tier_invalid": 400,
    "bad_request": 400,
    "invalid_body": 400,
    "invalid_header": 400,
    "api_key_missing": 401,
    "api_key_invalid": 403,
    "tenant_inactive": 403,
    "admin_key_missing": 401,
    "admin_key_invalid": 403,
    "not_found": 404,
    "route_not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "body_too_large": 413,
    "uri_too_long": 414,
    "headers_too_large": 431,
    "unsupported_media_type": 415,
    "idempotency_mismatch": 422,
    "rate_limited": 429,
    "upstream_error": 502,
    "upstream_timeout": 504,
    "bulkhead_full": 503,
    "queue_timeout": 503,
    "deadline_unreachable": 503,
    "shed": 503,
    "circuit_open": 503,
    "channel_unavailable": 503,
    "database_unavailable": 503,
    "state_unavailable": 503,
    "draining": 503,
    "deadline_exceeded": 504,
    "internal": 500,
}

QUOTA_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"
OVERLOAD_TYPE = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"

WAITING_HELPS = {"rate_limited", "bulkhead_full", "circuit_open"}
"""Codes that can only come with a ``retryAfter``."""

LEAKS = (b"Traceback", b'File "', b"psycopg", b"SELECT ", b"tenant_data", b".s.PGSQL")
"""What never belongs into an answer: stack traces, SQL, sockets."""


def assert_request_id(answer: Answer) -> str:
    """Every answer names its request: 1 to 128 visible ASCII characters, once."""
    value = answer.header("x-request-id")
    assert value is not None, f"no X-Request-Id:\n{answer}"
    assert 1 <= len(value) <= 128, value
    assert all("!" <= character <= "~" for character in value), value
    return value


def assert_problem(answer: Answer, status: int | None = None, code: str | None = None) -> Any:
    """An error as RFC 9457 and the contract want it; gives back its members."""
    if status is not None:
        assert answer.status == status, f"expected {status}:\n{answer}"
    content_type = answer.header("content-type") or ""
    assert content_type.split(";")[0].strip() == "application/problem+json", str(answer)
    members = answer.json()
    assert isinstance(members, dict), str(answer)
    for name in ("type", "title", "detail", "instance", "code", "error"):
        assert isinstance(members.get(name), str), f"{name} of {members}"
    assert members["type"], members
    assert members["title"], members
    assert members["status"] == answer.status, members
    assert members["error"] == members["title"], members
    assert members["code"] in STATUS_OF_CODE, members
    assert STATUS_OF_CODE[members["code"]] == answer.status, members
    if code is not None:
        assert members["code"] == code, members
    _assert_waiting(answer, members)
    _assert_type(members)
    assert_request_id(answer)
    assert_no_leak(answer)
    return members


def _assert_waiting(answer: Answer, members: dict[str, Any]) -> None:
    in_header = answer.header("retry-after")
    in_body = members.get("retryAfter")
    if in_body is None:
        assert in_header is None, f"Retry-After without retryAfter:\n{answer}"
        assert members["code"] not in WAITING_HELPS, f"no retryAfter:\n{answer}"
        return
    assert type(in_body) is int, members
    assert in_body >= 1, members
    assert in_header == str(in_body), str(answer)


def _assert_type(members: dict[str, Any]) -> None:
    if members["status"] == 429:
        assert members["type"] == QUOTA_TYPE, members
    if members["code"] == "bulkhead_full":
        assert members["type"] == OVERLOAD_TYPE, members


def assert_no_leak(answer: Answer) -> None:
    """Nothing of the inside is in an error."""
    for leak in LEAKS:
        assert leak not in answer.body, f"{leak!r} in:\n{answer}"


def assert_decent(answer: Answer) -> None:
    """Whatever was sent: no 500, and every error is one of the contract's."""
    assert answer.status != 500, str(answer)
    assert_request_id(answer)
    if answer.status >= 400:
        assert_problem(answer)
    else:
        assert answer.status in {200, 204, 308}, str(answer)


def assert_refused(answer: Answer) -> None:
    """Bytes that are no request: a refusal, in problem+json if it says anything at all."""
    assert 400 <= answer.status < 500 or answer.status in {501, 505}, str(answer)
    assert_no_leak(answer)
    if answer.body:
        content_type = answer.header("content-type") or ""
        assert content_type.split(";")[0].strip() == "application/problem+json", str(answer)
