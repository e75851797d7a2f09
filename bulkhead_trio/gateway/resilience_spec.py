"""What protects a route, as people write it: the parts of ``resilience`` in the route document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from bulkhead_trio.gateway import _document_rules as rules
from bulkhead_trio.gateway._part_types import URL, Milliseconds, Part
from bulkhead_trio.gateway._reading_rules import Check, Mistake, says

StatusCode: TypeAlias = Annotated[int, Meta(ge=400, le=599)]


class BreakerSpec(Part, frozen=True, kw_only=True):
    """A circuit breaker for each upstream: by failures in a row, or by their rate.

    Attributes:
        failure_threshold: failures in a row that open it; not looked at where there is a rate.
        success_threshold: good probes that close it again.
        timeout: milliseconds from opening to the first probe.
        failure_rate_threshold: percentage of failures that opens it.
        sliding_window_size: calls that the rate is taken of; 100 unless said.
        minimum_calls: calls before it is looked at; 10, or all of the window, unless said.
    """

    enabled: bool = True
    failure_threshold: Annotated[int, Meta(ge=1, le=1000)] = 5
    success_threshold: Annotated[int, Meta(ge=1, le=100)] = 2
    timeout: Milliseconds = 30_000
    failure_rate_threshold: Annotated[float, Meta(gt=0, le=100)] | None = None
    sliding_window_size: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    minimum_calls: Annotated[int, Meta(ge=1, le=10_000)] | None = None

    @property
    def window(self) -> int:
        """Calls that the rate is taken of."""
        return 100 if self.sliding_window_size is None else self.sliding_window_size

    @property
    def least_calls(self) -> int:
        """Calls before the rate is looked at."""
        return min(10, self.window) if self.minimum_calls is None else self.minimum_calls

    def mistakes(self) -> Iterator[Mistake]:
        """What is wrong with it as a whole."""
        if self.failure_rate_threshold is None:
            for name, value in (
                (".slidingWindowSize", self.sliding_window_size),
                (".minimumCalls", self.minimum_calls),
            ):
                if value is not None:
                    yield name, "has no effect without failureRateThreshold"
        elif self.least_calls > self.window:
            yield ".minimumCalls", f"must not be more than slidingWindowSize, {self.window}"


class BudgetSpec(Part, frozen=True, kw_only=True):
    """What retries a route may have in all: a share of its requests, or so many.

    Attributes:
        ratio: retries a request.
        min_retries: retries in a window that are granted however few requests there are.
        window_ms: how far back it looks.
    """

    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.2
    min_retries: Annotated[int, Meta(ge=0, le=10_000)] = 100
    """As Finagle's 10 a second: what one caller does alone is never too much."""
    window_ms: Annotated[int, Meta(ge=1000, le=600_000)] = 10_000


class RetrySpec(Part, frozen=True, kw_only=True):
    """Trying again, with full jitter.

    Attributes:
        max_retries: beside the first try.
        base_delay_ms: the wait before the first retry is chosen from up to so much, and it doubles;
            0 for at once.
        max_delay_ms: no wait is longer.
        retryable_status_codes: answers that are tried again; failed connections always are.
        non_idempotent: whether requests are repeated that may do something twice, such as POST.
        max_body_bytes: of a request's body that is kept to be sent again; a larger one is not.
        budget: what all requests together may have.
    """

    enabled: bool = True
    max_retries: Annotated[int, Meta(ge=0, le=10)] = 3
    base_delay_ms: Annotated[int, Meta(ge=0, le=60_000)] = 1000
    max_delay_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 10_000
    retryable_status_codes: Annotated[
        tuple[StatusCode, ...], Meta(max_length=64), says(rules.repetition)
    ] = (500, 502, 503, 504)
    non_idempotent: bool = False
    max_body_bytes: Annotated[int, Meta(ge=0, le=16 * 2**20)] = 64 * 1024
    budget: BudgetSpec = BudgetSpec()

    def mistakes(self) -> Iterator[Mistake]:
        """What is wrong with it as a whole."""
        if self.max_delay_ms < self.base_delay_ms:
            yield ".maxDelayMs", f"must not be less than baseDelayMs, {self.base_delay_ms}"


class TimeoutSpec(Part, frozen=True, kw_only=True):
    """How long an upstream may take to begin its answer, each try; within the request's deadline.

    Attributes:
        default: milliseconds; ``None``: 30 s.
        by_method: milliseconds, by the method.
    """

    default: Milliseconds | None = None
    by_method: Annotated[
        dict[str, Milliseconds], Meta(max_length=32), Check(rules.by_method_mistakes)
    ] = msgspec.field(default_factory=dict)

    def of(self, method: str) -> int | None:
        """Milliseconds for a request; ``None`` where it has none of its own."""
        return self.by_method.get(method, self.default)


class HealthCheckSpec(Part, frozen=True, kw_only=True):
    """Checks of each upstream, whether or not there are requests.

    Attributes:
        endpoint: path and query that are asked for, behind the base path of the upstream's URL.
        interval_ms: from one check's start to the next one's.
        timeout_ms: for one check.
        healthy_threshold: good ones in a row that bring an upstream back.
        unhealthy_threshold: bad ones in a row that take it out.
    """

    enabled: bool = True
    endpoint: Annotated[str, Meta(max_length=rules.LONGEST_PATH), says(rules.endpoint_mistake)] = (
        "/health"
    )
    interval_ms: Annotated[int, Meta(ge=10, le=3_600_000)] = 30_000
    timeout_ms: Milliseconds = 5000
    healthy_threshold: Annotated[int, Meta(ge=1, le=100)] = 2
    unhealthy_threshold: Annotated[int, Meta(ge=1, le=100)] = 3


class EjectionSpec(Part, frozen=True, kw_only=True):
    """Taking out for a while what fails requests.

    Attributes:
        consecutive_failures: in a row.
        base_ms: how long the first time; the n-th time n times as long.
        max_ms: no time is longer.
    """

    enabled: bool = True
    consecutive_failures: Annotated[int, Meta(ge=1, le=1000)] = 5
    base_ms: Milliseconds = 30_000
    max_ms: Milliseconds = 300_000

    def mistakes(self) -> Iterator[Mistake]:
        """What is wrong with it as a whole."""
        if self.max_ms < self.base_ms:
            yield ".maxMs", f"must not be less than baseMs, {self.base_ms}"


class FallbackSpec(Part, frozen=True, kw_only=True):
    """What is answered when no upstream can.

    Attributes:
        upstream: another one that is asked then; ``None`` for none.
        status_code: of the answer that is given otherwise, or when that one fails as well.
        content_type: of that answer.
        body: of that answer.
    """

    enabled: bool = True
    upstream: URL | None = None
    status_code: Annotated[int, Meta(ge=200, le=599)] = 503
    content_type: Annotated[str, Meta(max_length=256), says(rules.media_type_mistake)] = (
        "application/json"
    )
    body: Annotated[str, says(rules.body_mistake)] = '{"error":"Service temporarily unavailable"}'

    def mistakes(self) -> Iterator[Mistake]:
        """What is wrong with it as a whole."""
        if self.body and not rules.can_have_body(self.status_code):
            yield ".body", f"must be empty: an answer {self.status_code} has no body"


class BulkheadSpec(Part, frozen=True, kw_only=True):
    """How many requests each upstream gets at once.

    Attributes:
        max_concurrent: so many.
        queue_size: how many more may wait.
    """

    enabled: bool = True
    max_concurrent: Annotated[int, Meta(ge=1, le=100_000)] = 64
    queue_size: Annotated[int, Meta(ge=0, le=100_000)] = 128


class ResilienceSpec(Part, frozen=True, kw_only=True):
    """What protects a route; each is off while it is absent, or not ``enabled``."""

    circuit_breaker: BreakerSpec | None = None
    retry: RetrySpec | None = None
    timeout: TimeoutSpec | None = None
    health_check: HealthCheckSpec | None = None
    ejection: EjectionSpec | None = None
    fallback: FallbackSpec | None = None
    bulkhead: BulkheadSpec | None = None


Switched = TypeVar("Switched", BreakerSpec, RetrySpec, HealthCheckSpec, EjectionSpec, FallbackSpec,
                   BulkheadSpec)  # fmt: skip


def switched_on(part: Switched | None) -> Switched | None:
    """The part; ``None`` where it is absent or not ``enabled``, which is the same."""
    return part if part is not None and part.enabled else None
