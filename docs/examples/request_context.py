"""A request and everything that is done for it: one deadline, one number, known everywhere.

Run it: ``python docs/examples/request_context.py``. Two seconds of real time; the test runs it on a
virtual clock.
"""

from __future__ import annotations

import trio

from bulkhead_trio import (
    DeadlineExceeded,
    DeadlineUnreachable,
    check_reachable,
    current_request,
    remaining,
    request_context,
)


def log(text: str) -> None:
    """Print with the number and the tenant of the request that the task works for."""
    request = current_request()
    who = f"{request.request_id} of {request.tenant}" if request else "nobody"
    print(f"[{who}] {text}")


async def read_rows(seconds: float) -> None:
    """A query: nobody hands it a deadline or a number, and it has both."""
    log(f"rows: {remaining():.1f} s left for them")
    await trio.sleep(seconds)
    log("rows: done")


async def write_report(seconds: float) -> None:
    """Something that is not worth beginning when there is no time for it."""
    try:
        check_reachable(0.0, seconds, what="the report")
    except DeadlineUnreachable as refusal:
        log(f"report: not begun, {refusal}")
        return
    await trio.sleep(seconds)
    log("report: done")


async def serve(request_id: str, tenant: str, *, rows_take: float) -> None:
    """One request: two things at once, within a second."""
    try:
        with request_context(timeout=1.0, request_id=request_id, tenant=tenant):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_rows, rows_take)
                with request_context(tenant=f"{tenant}/reports"):
                    nursery.start_soon(write_report, 0.5 if tenant == "acme" else 3.0)
            log("answered")
    except DeadlineExceeded as error:
        log(f"{request_id}: too late, {error}")


async def main() -> None:
    """A request that is in time, and one that is not."""
    log("nothing to do yet")
    await serve("r-1", "acme", rows_take=0.3)
    await serve("r-2", "umbrella", rows_take=5.0)


if __name__ == "__main__":
    trio.run(main)
