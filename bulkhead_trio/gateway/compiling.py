"""A route's document becomes what the proxy works with: from milliseconds to seconds, once."""

from __future__ import annotations

import hashlib

from bulkhead_trio.gateway._header_rules import RequestHeaderRules, ResponseHeaderRules
from bulkhead_trio.gateway._path_rules import PathRules, base_path
from bulkhead_trio.gateway._pattern_rules import Pattern, Replacement
from bulkhead_trio.gateway.group import UpstreamGroup
from bulkhead_trio.gateway.identity import Authorizer
from bulkhead_trio.gateway.resilience_spec import switched_on
from bulkhead_trio.gateway.route import HEAD_SECONDS, Destination, FixedAnswer, Retrying, Route
from bulkhead_trio.gateway.spec import RewritingSpec, RouteSpec
from bulkhead_trio.http.client._url_rules import split_url
from bulkhead_trio.policies.retry import RetryBudget
from bulkhead_trio.policies.retry._rules import Schedule

_MS = 1000


def compiled(
    route_id: str,
    tenant_id: str,
    spec: RouteSpec,
    group: UpstreamGroup,
    fallback_group: UpstreamGroup | None,
    identity: Authorizer | None = None,
) -> Route:
    """A route, ready.

    Args:
        route_id: its id.
        tenant_id: whose it is.
        spec: what it says.
        group: its upstreams.
        fallback_group: the one to ask when they fail.
        identity: as whom requests go out.
    """
    transform, resilience = spec.transform, spec.resilience
    request, response = transform.request, transform.response
    timeout, fallback = resilience.timeout, switched_on(resilience.fallback)
    upstreams = [*group.upstreams, *(fallback_group.upstreams if fallback_group else ())]
    return Route(
        id=route_id,
        tenant_id=tenant_id,
        paths=_paths(spec, None if request is None else request.path),
        request_headers=RequestHeaderRules(
            None if request is None else request.headers, says_who=identity is not None
        ),
        response_headers=ResponseHeaderRules(
            None if response is None else response.headers,
            leads_back=response is None or response.locations,
        ),
        group=group,
        destinations={each.url: _destination(each.url) for each in upstreams},
        timeout=HEAD_SECONDS
        if timeout is None or timeout.default is None
        else timeout.default / _MS,
        timeouts={}
        if timeout is None
        else {method: each / _MS for method, each in timeout.by_method.items()},
        retrying=_retrying(spec),
        fallback=None
        if fallback is None
        else FixedAnswer(
            fallback.status_code, fallback.content_type.encode("latin-1"), fallback.body.encode()
        ),
        fallback_group=fallback_group,
        identity=identity,
    )


def _destination(url: str) -> Destination:
    authority = url.partition("://")[2].partition("/")[0]
    label = hashlib.sha256(url.encode()).hexdigest()[:8]
    origin, _ = split_url(url)
    return Destination(base_path(url), authority.encode("ascii"), label, origin)


def _paths(spec: RouteSpec, rewriting: RewritingSpec | None) -> PathRules:
    if rewriting is None:
        return PathRules(strips=spec.strip_path)
    pattern = Pattern(rewriting.pattern)
    return PathRules(
        strips=spec.strip_path,
        pattern=pattern,
        replacement=Replacement(rewriting.replacement, pattern),
    )


def _retrying(spec: RouteSpec) -> Retrying | None:
    retry = switched_on(spec.resilience.retry)
    if retry is None or not retry.max_retries:
        return None
    budget = retry.budget
    return Retrying(
        schedule=Schedule(
            attempts=retry.max_retries + 1,
            base_delay=retry.base_delay_ms / _MS,
            max_delay=retry.max_delay_ms / _MS,
            jitter="full",
        ),
        statuses=frozenset(retry.retryable_status_codes),
        non_idempotent=retry.non_idempotent,
        keeps=retry.max_body_bytes,
        budget=RetryBudget(
            budget.ratio, min_retries=budget.min_retries, window=budget.window_ms / _MS
        ),
    )
