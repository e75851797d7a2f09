"""The toolkit's public names: exactly these, each importable, documented and typed."""

from __future__ import annotations

import inspect
import subprocess
import sys

import bulkhead_trio

PUBLIC = {
    "BreakerState", "BreakerStatistics", "BreakerTransition", "BulkheadFull", "BulkheadTrioError",
    "CircuitBreaker", "CircuitOpen", "Compartment", "CompartmentStatistics", "Consecutive",
    "DeadlineExceeded", "DeadlineUnreachable", "Decision", "FixedWindow", "RateLimited",
    "RateLimiter", "RateLimiterStatistics", "Rejected", "Shed", "SupervisorCrashed",
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


def test_toolkit_imports_no_server() -> None:
    """Whoever imports the toolkit gets neither a web framework nor a database driver with it."""
    code = "import sys, bulkhead_trio; print(*sorted(m for m in sys.modules if '.' not in m))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"quart", "hypercorn", "psycopg", "h11", "structlog", "prometheus_client"}
