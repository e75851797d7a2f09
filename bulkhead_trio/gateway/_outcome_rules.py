"""How a request to an upstream counts, for its breaker and for its ejection. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bulkhead_trio.errors import UpstreamBodyTooLarge, UpstreamError
from bulkhead_trio.policies.breaker import BreakerOutcome

FIRST_FAILURE_STATUS = 500
"""From here on a status says that the upstream has failed, and not its caller."""


def outcome_of_error(error: BaseException) -> BreakerOutcome:
    """How a request counts that ended with ``error``.

    A connection that could not be made or broke, an answer that is none and a timeout of ours are
    the upstream's failures. Whatever else it is says nothing of the upstream: a cancellation, a
    caller that went away or is in a hurry (`DeadlineExceeded`), a body beyond what we take, a
    refusal of our own, a mistake in our own code. Of a group each leaf is asked, and one failure is
    enough; but what comes together with a cancellation may well be of being cut off.
    """
    if isinstance(error, BaseExceptionGroup) and not isinstance(error, ExceptionGroup):
        return BreakerOutcome.IGNORED
    if any(_is_failure(leaf) for leaf in _leaves(error)):
        return BreakerOutcome.FAILURE
    return BreakerOutcome.IGNORED


def _is_failure(error: BaseException) -> bool:
    return isinstance(error, UpstreamError) and not isinstance(error, UpstreamBodyTooLarge)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
