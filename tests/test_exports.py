"""The toolkit's public names: exactly these, each importable, documented and typed."""

from __future__ import annotations

import inspect
import subprocess
import sys

import bulkhead_trio
from bulkhead_trio import errors

PUBLIC = {
    "AdaptiveBulkhead", "AdaptiveBulkheadStatistics", "AddressForbidden", "AIMD", "BoundedQueue",
    "BreakerCallEnded", "BreakerOutcome", "BreakerRefused", "BreakerState", "BreakerStatistics",
    "BreakerTransition", "Bulkhead", "BulkheadEntered", "BulkheadFull", "BulkheadHTTPClient",
    "BulkheadLeft", "BulkheadRefused", "BulkheadRegistry", "BulkheadResized",
    "BulkheadSettings", "BulkheadStatistics", "BulkheadTrioError", "CallerError",
    "check_reachable", "CircuitBreaker", "CircuitOpen", "ClientLimits", "CommandResult",
    "Compartment", "CompartmentStatistics", "Consecutive", "ContainerBulkhead",
    "ContainerBulkheadStatistics", "ContainerEnded", "ContainerFailed", "ContainerResult",
    "ContainerStarted", "CountWindow", "current_request", "Deadline", "deadline",
    "DeadlineExceeded", "DeadlineUnreachable", "Decision", "EngineMissing", "FairQueue",
    "Fallback", "FallbackStatistics", "FellBack", "FixedWindow", "FlightHandedOver",
    "FlightLanded", "GaveUp", "Gradient2", "Hedge", "HedgeEnded", "HedgeStarted",
    "HedgeStatistics", "HTTPClient", "InvalidRequest", "is_overload", "is_worth_retrying",
    "Job", "JobFailed", "JobShed", "KeyedRateLimiter", "KeyedRateLimiterStatistics",
    "KeyedSingleFlight", "KeyPolicy", "KeyStatistics", "Kind", "LeakyBucket", "LimitRule",
    "LimitSample", "LineBroken", "NoUpstream", "open_worker_pool", "Pipeline", "PipelineOrderError",
    "PipelineStatistics", "Policy", "Priority", "PriorityQueue", "ProcessBulkhead",
    "ProcessBulkheadStatistics", "QueueStatistics", "QueueTimeout", "RateLimited",
    "RateLimiter", "RateLimiterStatistics", "RateLimitRefused", "Rejected", "remaining",
    "RemoteError", "request_context", "RequestContext", "Reservation", "Retry", "RetryBudget",
    "RetryBudgetStatistics", "Retrying", "RetryStatistics", "Rule", "Shed", "SingleFlight",
    "SingleFlightStatistics", "SlidingLog", "SlidingWindow", "SupervisorCrashed",
    "ThreadAbandoned", "ThreadBulkhead", "ThreadBulkheadStatistics", "Throttle", "Throttled",
    "ThrottleRefused", "ThrottleStatistics", "TicketLine", "TimedOut", "Timeout",
    "TimeoutStatistics", "TimeWindow", "TokenBucket", "Unavailable", "UnknownEndpoint",
    "UpstreamBodyTooLarge", "UpstreamError", "UpstreamProtocolError", "UpstreamTimeout",
    "UpstreamUnreachable", "UtilisationTarget", "Vegas", "WaitingLine", "WorkerCrashed",
    "WorkerEnded", "WorkerPool", "WorkerPoolStatistics", "WorkerStarted",
}  # fmt: skip


def test_public_names_are_these() -> None:
    """A name that comes or goes is a change of the public API, and has to be meant."""
    assert set(bulkhead_trio.__all__) == PUBLIC
    assert len(bulkhead_trio.__all__) == len(PUBLIC)


def test_public_names_are_documented() -> None:
    """Each says what it is, and so does each of its public methods."""
    for name in PUBLIC:
        thing = getattr(bulkhead_trio, name)
        assert inspect.getdoc(thing), name
        for member, value in vars(thing).items():
            if inspect.isfunction(value) and not member.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{member}"


def test_errors_of_one_family_are_public_together() -> None:
    """Whoever catches one kind of an upstream's failures can name the others."""
    ours = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.UpstreamError)
    }
    assert "NoUpstream" in ours
    assert ours <= set(bulkhead_trio.__all__)


def test_toolkit_imports_no_server() -> None:
    """Whoever imports the toolkit gets neither a web framework nor a database driver with it."""
    code = "import sys, bulkhead_trio; print(*sorted(m for m in sys.modules if '.' not in m))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"quart", "hypercorn", "psycopg", "h11", "structlog", "prometheus_client"}
