"""Every member of a route in words. What has no words here is a mistake, which a test finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_ON = "False is as good as leaving all of it out."

MAP_NAMES: Final[Mapping[str, str]] = {"set": "name", "add": "name", "byMethod": "METHOD"}
"""What stands in the place of a name that is anybody's to choose."""

_ROUTE: Final = {
    "tenantId": "Whose it is.",
    "method": "One method, a list of them, or `*` for all.",
    "path": "What a request's path is compared with.",
    "pathType": "How: `exact`; `prefix`, by whole segments; `regex`, an RE2 expression from the "
    "path's beginning. The most specific match wins: exact, the longest prefix, then regex.",
    "priority": "Of two regular expressions that match, the higher one counts.",
    "stripPath": "Whether what was matched is taken off the path.",
    "upstreams": "Where requests go, one at least.",
    "loadBalancing": "How upstreams share the requests.",
    "slowStartMs": "Over how long an upstream that came back gets its whole part again.",
    "identity": "As whom requests go to the upstreams: the name of an identity of the server's "
    "configuration. Its token takes the place of the caller's `Authorization`; every upstream has "
    "to be one that the token is for.",
}

_UPSTREAM: Final = {
    "upstream": "One upstream.",
    "upstream.url": "http or https; its path is put before that of each request. Addresses inside "
    "are refused unless `ALLOWED_PRIVATE_NETWORKS` has them.",
    "upstream.weight": "Its part beside the others' weights; `round-robin` does not look at it.",
}


def _headers(path: str, whose: str) -> dict[str, str]:
    return {
        path: f"Headers of {whose}.",
        f"{path}.set": "In place of whatever was sent.",
        f"{path}.add": "Beside whatever was sent.",
        f"{path}.remove": "Names of headers that are not passed on.",
    }


_TRANSFORM: Final = {
    "transform": "What is changed on the way.",
    "transform.request": "What is changed in requests.",
    **_headers("transform.request.headers", "requests"),
    "transform.request.path": "What becomes of the path; the query stays as it is.",
    "transform.request.path.pattern": "RE2; where it does not match, the path stays as it is.",
    "transform.request.path.replacement": "In place of the first match; `$1`, `${1}` or `${name}` "
    "stand for groups.",
    "transform.response": "What is changed in answers.",
    **_headers("transform.response.headers", "answers"),
    "transform.response.locations": "Whether `Location` and `Content-Location` that name the "
    "upstream itself become what its client has asked: without its scheme, host and base path.",
}

_BREAKER: Final = {
    "circuitBreaker": "A breaker for each upstream; 5xx, failed connections and timeouts count.",
    "circuitBreaker.enabled": _ON,
    "circuitBreaker.failureThreshold": "Failures in a row that open it.",
    "circuitBreaker.successThreshold": "Good probes that close it again.",
    "circuitBreaker.timeout": "Milliseconds from opening to the first probe.",
    "circuitBreaker.failureRateThreshold": "Percentage of failures that opens it, instead of so "
    "many in a row.",
    "circuitBreaker.slidingWindowSize": "Calls that the rate is taken of; 100 unless said.",
    "circuitBreaker.minimumCalls": "Calls before the rate is looked at; 10 unless said.",
}

_RETRY: Final = {
    "retry": "Trying again, with full jitter.",
    "retry.enabled": _ON,
    "retry.maxRetries": "Beside the first try.",
    "retry.baseDelayMs": "The first wait is up to so much; it doubles.",
    "retry.maxDelayMs": "No wait is longer.",
    "retry.retryableStatusCodes": "Answers that are tried again; failed connections always are.",
    "retry.nonIdempotent": "Whether requests are repeated that may do something twice, as POST.",
    "retry.maxBodyBytes": "Of a request's body that is kept to be sent again.",
    "retry.budget": "What retries all requests of the route may have together.",
    "retry.budget.ratio": "Retries a request.",
    "retry.budget.minRetries": "Retries in a window that are granted however few requests come.",
    "retry.budget.windowMs": "How far back it looks.",
}

_OTHERS: Final = {
    "timeout": "How long each try may take to the head of its answer, within the whole deadline.",
    "timeout.default": "Milliseconds; 30 s unless said.",
    "timeout.byMethod": "Milliseconds, by the method.",
    "healthCheck": "Checks of each upstream, whether or not there are requests.",
    "healthCheck.enabled": _ON,
    "healthCheck.endpoint": "Path and query, behind the path of the upstream's URL.",
    "healthCheck.intervalMs": "From one check's start to the next one's.",
    "healthCheck.timeoutMs": "For one check.",
    "healthCheck.healthyThreshold": "Good checks in a row that bring an upstream back.",
    "healthCheck.unhealthyThreshold": "Bad checks in a row that take it out.",
    "ejection": "Taking out for a while what fails requests; half of the upstreams at most.",
    "ejection.enabled": _ON,
    "ejection.consecutiveFailures": "In a row.",
    "ejection.baseMs": "How long the first time; the n-th time n times as long.",
    "ejection.maxMs": "No time is longer.",
    "fallback": "What is answered when no upstream can.",
    "fallback.enabled": _ON,
    "fallback.upstream": "Another one that is asked then.",
    "fallback.statusCode": "Of the answer that is given otherwise.",
    "fallback.contentType": "Of that answer.",
    "fallback.body": "Of that answer.",
    "bulkhead": "How many requests each upstream gets at once.",
    "bulkhead.enabled": _ON,
    "bulkhead.maxConcurrent": "So many.",
    "bulkhead.queueSize": "How many more may wait.",
}

WORDS: Final[Mapping[str, str]] = {
    **_ROUTE,
    **_UPSTREAM,
    **_TRANSFORM,
    "resilience": "What protects the route; each is off while it is absent.",
    **{f"resilience.{path}": words for path, words in {**_BREAKER, **_RETRY, **_OTHERS}.items()},
}
"""By path; members of the parts that are described once begin with the part's name."""
