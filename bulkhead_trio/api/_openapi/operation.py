"""One operation of the description, and what the tables of operations write it with."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import attrs

from bulkhead_trio.api._openapi.components import QUOTA_HEADERS
from bulkhead_trio.api._openapi.errors import JSON, responses_of
from bulkhead_trio.api.data_plane import PROBES

DEFAULT_ADDRESS = "http://127.0.0.1:8080"
"""Where the server listens unless told otherwise; what the samples ask."""

QUOTA_STATUSES = (400, 429, 500, 503, 504)
"""The errors that come once the quota has been asked, and so carry its headers."""


@attrs.frozen(kw_only=True)
class Operation:
    """One method of one path.

    Attributes:
        method: in lower case.
        body: its ``requestBody``, where it takes one.
        id: its ``operationId``.
        answers: what it answers that is no problem, by status.
        codes: its own error codes, besides those that any request can be answered.
        parameters: names in ``components.parameters``.
        key: the name of a security scheme that may be asked for.
        is_key_required: whether it always is.
        has_quota: whether answers carry a quota's headers.
        quota_statuses: which of its errors carry them then.
        samples: how to try it: a label and a line for the shell each.
    """

    path: str
    method: str = "get"
    id: str
    tag: str
    summary: str
    description: str
    answers: dict[str, JSON]
    codes: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    key: str | None = None
    is_key_required: bool = False
    body: JSON | None = None
    has_quota: bool = False
    quota_statuses: tuple[int, ...] = QUOTA_STATUSES
    samples: tuple[tuple[str, str], ...]

    def described(self) -> JSON:
        """The operation object of the document."""
        operation: JSON = {
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "description": self.description,
        }
        if self.key is not None:
            with_key: JSON = {self.key: []}
            operation["security"] = [with_key] if self.is_key_required else [{}, with_key]
        if self.parameters:
            operation["parameters"] = [
                {"$ref": f"#/components/parameters/{name}"} for name in self.parameters
            ]
        if self.body is not None:
            operation["requestBody"] = self.body
        operation["responses"] = self._responses()
        operation["x-codeSamples"] = [
            {"lang": "Shell", "label": label, "source": line} for label, line in self.samples
        ]
        return operation

    def _responses(self) -> dict[str, JSON]:
        draining = () if self.path in PROBES else ("draining",)
        return responses_of(
            (*self.codes, *draining),
            answers=self.answers,
            headers=dict.fromkeys(self.quota_statuses, QUOTA_HEADERS) if self.has_quota else {},
        )


def answer(
    description: str,
    schema: JSON,
    example: object,
    *,
    media_type: str = "application/json",
    headers: Sequence[str] = (),
) -> JSON:
    content = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {
        "description": description,
        "headers": {
            name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *headers)
        },
        "content": {media_type: content},
    }


def curl(target: str, *headers: str) -> str:
    words = ["curl", "-i", DEFAULT_ADDRESS + target]
    for header in headers:
        words += ["-H", header]
    return shlex.join(words)


def samples_with_key(target: str) -> tuple[tuple[str, str], ...]:
    # The variable must be left for the shell to fill in, hence the double quotes.
    with_key = f'{curl(target)} -H "X-Admin-Key: $ADMIN_API_KEY"'
    return (("Ask", curl(target)), ("Where the admin key is asked for", with_key))
