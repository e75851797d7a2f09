"""What a request carries with it wherever its work goes: its deadline, its number, whose it is.

A contextvar holds it. Trio copies the context of whoever starts a task, so that every task of a
request sees the request, and no function has to take it as an argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec
import trio

from bulkhead_trio.policies._checks import check_priority, check_seconds
from bulkhead_trio.policies.deadline import Deadline

CURRENT_REQUEST: ContextVar[RequestContext | None] = ContextVar(
    "bulkhead_trio.request", default=None
)
"""Where it is kept. `request_context` is the way to set it; whoever sets it by hand, to save what a
block costs, resets it as well."""


class RequestContext(msgspec.Struct, frozen=True, gc=False):
    """What is known of the request that the current task works for.

    A struct of msgspec rather than an attrs class: one is made for every request, and this takes a
    tenth of the time.

    Attributes:
        deadline: when it has to be done, on Trio's clock; ``math.inf`` for no limit. It is enforced
            by the `request_context` block that set it; a task that outlives the block reads it.
        request_id: its number, for logs and for whoever is called on its behalf.
        tenant: whose it is.
        priority: how much it matters; what the numbers mean is the program's affair.
        trace_id: the trace that it is part of, as W3C Trace Context writes it.
    """

    deadline: float = math.inf
    request_id: str | None = None
    tenant: str | None = None
    priority: int | None = None
    trace_id: str | None = None


def current_request() -> RequestContext | None:
    """The request that the current task works for; ``None`` outside every request."""
    return CURRENT_REQUEST.get()


@contextmanager
def request_context(
    *,
    timeout: float | None = None,
    deadline: float | None = None,
    request_id: str | None = None,
    tenant: str | None = None,
    priority: int | None = None,
) -> Iterator[RequestContext]:
    """Work for a request within a ``with`` block; the tasks that it starts do so too.

    Inside another such block, what is not given is inherited, and a deadline can only become
    tighter.

    Args:
        timeout: seconds from now until it has to be done.
        deadline: the same as a point on Trio's clock; of both the earlier one counts.
        request_id: its number.
        tenant: whose it is.
        priority: how much it matters.

    Raises:
        DeadlineExceeded: the deadline passed inside the block, and no wider one had.
        ValueError: ``timeout`` is negative, not a number or infinite, ``deadline`` not a number, or
            ``priority`` not a whole one.
    """
    if timeout is not None:
        check_seconds("timeout", timeout)
    if priority is not None:
        check_priority(priority)
    if deadline is not None and math.isnan(deadline):
        raise ValueError("deadline must be a point on Trio's clock, not nan")
    outer = CURRENT_REQUEST.get() or RequestContext()
    inner = RequestContext(
        deadline=_tightest(outer.deadline, timeout, deadline),
        request_id=outer.request_id if request_id is None else request_id,
        tenant=outer.tenant if tenant is None else tenant,
        priority=outer.priority if priority is None else priority,
        trace_id=outer.trace_id,
    )
    token = CURRENT_REQUEST.set(inner)
    try:
        if timeout is None and deadline is None:
            yield inner
        else:
            with Deadline(inner.deadline).enforced():
                yield inner
    finally:
        CURRENT_REQUEST.reset(token)


def _tightest(inherited: float, timeout: float | None, deadline: float | None) -> float:
    limits = [inherited]
    if timeout is not None:
        limits.append(trio.current_time() + timeout)
    if deadline is not None:
        limits.append(deadline)
    return min(limits)
