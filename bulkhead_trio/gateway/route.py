"""A route as the proxy uses it: everything that its document says, made ready once."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from bulkhead_trio.gateway._header_rules import RequestHeaderRules, ResponseHeaderRules
from bulkhead_trio.gateway._location_rules import Asked
from bulkhead_trio.gateway._path_rules import PathRules
from bulkhead_trio.gateway.group import UpstreamGroup
from bulkhead_trio.gateway.identity import Authorizer
from bulkhead_trio.http.client._url_rules import Origin
from bulkhead_trio.policies.retry import RetryBudget
from bulkhead_trio.policies.retry._rules import Schedule

IDEMPOTENT = frozenset(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
"""Methods that do no more when they are done twice (RFC 9110, section 9.2.2)."""


HEAD_SECONDS = 30.0
"""An upstream may take so long to begin an answer, where its route says nothing else."""


@attrs.frozen
class Retrying:
    """When a request is sent again.

    Attributes:
        schedule: how often, and after which waits.
        statuses: answers that are not good enough.
        non_idempotent: whether also for methods that may do something twice.
        keeps: bytes of a request's body that are kept to be sent again.
        budget: bounds what share of the requests are second ones.
    """

    schedule: Schedule
    statuses: frozenset[int]
    non_idempotent: bool
    keeps: int
    budget: RetryBudget


@attrs.frozen
class FixedAnswer:
    """What is answered in the place of an upstream that has none."""

    status: int
    content_type: bytes
    body: bytes


@attrs.frozen
class Destination:
    """An upstream's URL, taken apart.

    Attributes:
        base: its path, which is put before that of every request.
        authority: its host and port, as ``Host`` says them.
        label: eight digits that stand for it, and give no host away.
        origin: whom connections lead to.
    """

    base: bytes
    authority: bytes
    label: str
    origin: Origin

    def asked(self, taken_off: bytes = b"") -> Asked:
        """Where a request was sent whose path has lost ``taken_off``."""
        return Asked(self.origin, self.base, taken_off)


@attrs.frozen(eq=False, kw_only=True)
class Route:
    """One route.

    Attributes:
        id: of the route.
        tenant_id: whose it is.
        paths: what becomes of a request's path.
        request_headers: what becomes of its header.
        response_headers: what becomes of an answer's header.
        group: its upstreams.
        destinations: their URLs, taken apart.
        timeout: seconds for the head of one answer, where no method has its own.
        timeouts: by method.
        retrying: ``None``: nothing is sent again.
        fallback: ``None``: errors are told.
        fallback_group: another upstream to ask once, before that.
        identity: as whom its requests go out; ``None``: as whoever has sent them.
    """

    id: str
    tenant_id: str
    paths: PathRules
    request_headers: RequestHeaderRules
    response_headers: ResponseHeaderRules
    group: UpstreamGroup
    destinations: Mapping[str, Destination]
    timeout: float = HEAD_SECONDS
    timeouts: Mapping[str, float] = attrs.field(factory=dict)
    retrying: Retrying | None = None
    fallback: FixedAnswer | None = None
    fallback_group: UpstreamGroup | None = None
    identity: Authorizer | None = None

    @property
    def has_fallback(self) -> bool:
        """Whether something is answered in the place of its upstreams."""
        return self.fallback is not None or self.fallback_group is not None

    def seconds(self, method: str) -> float:
        """For the head of one answer to such a request."""
        return self.timeouts.get(method, self.timeout)
