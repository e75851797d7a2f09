"""What the tables of operations for tenants are written with: those that ask for an API key."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bulkhead_trio.api._openapi._administration import BODY_CODES, request_body
from bulkhead_trio.api._openapi._objects import JSON
from bulkhead_trio.api._openapi.operation import DEFAULT_ADDRESS, Operation

_CODES = (
    "api_key_missing", "api_key_invalid", "tenant_inactive", "invalid_header", "circuit_open",
    "bulkhead_full", "deadline_unreachable", "database_unavailable", "deadline_exceeded",
)  # fmt: skip
_QUOTA_STATUSES = (400, 404, 409, 415, 422, 429, 500, 503, 504)


def tenancy(
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
    is_body_required: bool = True,
    has_quota: bool = False,
    codes: tuple[str, ...] = (),
    label: str,
    target: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Operation:
    """An operation that asks for a tenant's API key.

    Args:
        body: the name of its schema, and an example.
        is_patch: whether the body may be a merge patch.
        is_body_required: whether there has to be one.
        has_quota: whether it takes from the tenant's quota.
        codes: its own, besides those that follow from all this.
        label: of its sample.
        target: which the sample asks; otherwise the path.
        headers: of the sample.
    """
    codes = (
        *_CODES,
        *(BODY_CODES if body else ()),
        *(("not_found",) if "{" in path else ()),
        *(("rate_limited",) if has_quota else ()),
        *codes,
    )
    statuses = tuple(each for each in _QUOTA_STATUSES if each != 422 or body)
    return Operation(
        path=path,
        method=method,
        id=id_,
        tag=tag,
        summary=summary,
        description=description,
        parameters=(*parameters, "X-Request-Timeout"),
        key="apiKey",
        is_key_required=True,
        body=None
        if body is None
        else request_body(*body, is_patch=is_patch, is_required=is_body_required),
        answers=answers,
        codes=codes,
        has_quota=has_quota,
        quota_statuses=statuses,
        samples=((label, _sample(method, target or path, body, headers or {})),),
    )


def _sample(
    method: str, target: str, body: tuple[str, JSON] | None, headers: Mapping[str, str]
) -> str:
    words = ["curl -i"]
    if method != "get" and not (method == "post" and body):
        words.append(f"-X {method.upper()}")
    # The variable must be left for the shell to fill in, hence the double quotes.
    where = DEFAULT_ADDRESS + target
    words += [f"'{where}'" if "&" in where else where, '-H "X-API-Key: $API_KEY"']
    words += [f"-H '{name}: {value}'" for name, value in headers.items()]
    if body is not None:
        text = msgspec.json.encode(body[1]).decode()
        words += ["-H 'Content-Type: application/json'", f"-d '{text}'"]
    return " ".join(words)
