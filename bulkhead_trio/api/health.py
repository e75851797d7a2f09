"""``/health``: is the process alive; ``/ready``: should it get traffic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from bulkhead_trio.api.drain import DrainGate
from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Route

Check = Callable[[], Awaitable[None]]
"""Returns when what it asks works; raises when it does not."""

CHECK_SECONDS = 2.0
"""The longest that a check may take; less than the usual probe's own timeout of a few seconds."""


class HealthResource:
    """Answers for the process and for what it depends on.

    Args:
        checks: by name.
        gate: says whether the server is draining.
    """

    name = "health"

    def __init__(self, checks: Mapping[str, Check], gate: DrainGate) -> None:
        self._checks = checks
        self._gate = gate
        self._lock = trio.Lock()
        self._results: dict[str, str] = {}
        self._began = float("-inf")

    def routes(self) -> tuple[Route, ...]:
        """Both probes."""
        return (
            Route("GET", "/health", self.health, is_admin=True, is_hot=True),
            Route("GET", "/ready", self.ready, is_admin=True, is_hot=True),
        )

    def health(self, request: Request) -> Response:  # noqa: ARG002
        """The process is alive; asks nothing else."""
        return Response.json({"status": "healthy"})

    async def ready(self, request: Request) -> Response:  # noqa: ARG002
        """Everything that it needs answers, and it is not on its way out."""
        results = await self._fresh_results()
        if self._gate.is_draining:
            results = {**results, "server": "draining"}
        is_ready = all(result == "ok" for result in results.values())
        return Response.json(
            {"status": "ready" if is_ready else "not_ready", "checks": results},
            status=200 if is_ready else 503,
        )

    async def _fresh_results(self) -> dict[str, str]:
        """Results of checks that began after this was called.

        Whoever waits while others check shares what was begun in the meantime, so that no number
        of probes becomes a load of its own.
        """
        called = trio.current_time()
        async with self._lock:
            if self._began < called:
                began = trio.current_time()
                self._results = {name: await _run(check) for name, check in self._checks.items()}
                self._began = began  # only now: checks that were cancelled have nothing to share
            return self._results


async def _run(check: Check) -> str:
    try:
        with trio.fail_after(CHECK_SECONDS):
            await check()
    except trio.TooSlowError:
        return "timeout"
    except Exception:  # noqa: BLE001  a check that fails in any way says: not ready
        return "unavailable"
    return "ok"
