"""What can go wrong, and whose fault it is.

Errors state facts: a stable ``code`` (the contract's), a message for the caller, and where waiting
helps, ``retry_after``. They know nothing of HTTP; ``bulkhead_trio.api._problem`` is the only place
where one becomes a status code.

Three kinds:

* `Rejected`: refused before it ran, to protect something. Never an accident, never a failure of
  whatever was protected.
* `Unavailable` and `DeadlineExceeded`: it was tried, and what it needs failed or was too slow.
* `CallerError`: the caller's mistake. It never counts against a breaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class BulkheadTrioError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        code: the contract's name for this kind of error.
        retry_after: seconds after which another try may succeed; ``None`` where waiting does not
            help.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


# --- refused before it ran -----------------------------------------------------------------------


class Rejected(BulkheadTrioError):
    """Work that was refused before it ran."""

    @property
    def reason(self) -> str:
        """Why, as a stable word for metrics and callers: the error's ``code``."""
        return self.code


class BulkheadFull(Rejected):
    """Every worker is busy and every waiting place is taken."""

    code = "bulkhead_full"


class QueueTimeout(Rejected):
    """The longest wait that this bulkhead allows has passed before a worker was free."""

    code = "queue_timeout"


class DeadlineUnreachable(Rejected):
    """The predicted wait is longer than what remains of the request's deadline."""

    code = "deadline_unreachable"


class Shed(Rejected):
    """Dropped to protect the rest: displaced by something more important, or left by a crash."""

    code = "shed"


class Throttled(Shed):
    """Not even sent: what it would ask has been refusing too much to be asked by everybody."""


class CircuitOpen(Rejected):
    """The breaker is open; ``retry_after`` is what is left of its cooldown."""

    code = "circuit_open"


class RateLimited(Rejected):
    """The caller's quota is used up; ``retry_after`` says when there is some again."""

    code = "rate_limited"


class ChannelUnavailable(Rejected):
    """A notification's channel is not configured on this server."""

    code = "channel_unavailable"


class Draining(Rejected):
    """The server is shutting down and takes no new work."""

    code = "draining"


# --- tried, and failed ---------------------------------------------------------------------------


class DeadlineExceeded(BulkheadTrioError):
    """The deadline passed while the work waited or ran."""

    code = "deadline_exceeded"


class DatabaseTooSlow(DeadlineExceeded):
    """The deadline passed in the database, which had been given its fair share of the time."""


class Unavailable(BulkheadTrioError):
    """Something that the work needs is away."""


class DatabaseUnavailable(Unavailable):
    """PostgreSQL is away, refuses connections, or broke off in the middle."""

    code = "database_unavailable"


class StateUnavailable(Unavailable):
    """The shared state (Redis) is away and configuration says to refuse then."""

    code = "state_unavailable"


class WorkerCrashed(Unavailable):
    """A worker process ended while it ran a call; the call is lost, and nothing else is.

    Attributes:
        exit_code: what it exited with; ``None`` where a signal ended it.
        signal: the signal that ended it, such as ``"SIGSEGV"``; ``None`` where it exited.
    """

    def __init__(self, message: str, *, exit_code: int | None, signal: str | None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.signal = signal


class RemoteError(Unavailable):
    """What a function in a worker process raised or returned, where it cannot be carried over.

    Attributes:
        type_name: the type of what it raised, with its module.
        text: its message.
    """

    def __init__(self, message: str, *, type_name: str, text: str) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.text = text


class ContainerFailed(Unavailable):
    """A container ended with an error, or could not be started.

    Attributes:
        exit_code: the command's exit code; 125 to 127 where the engine could not start it.
        log: the end of what it wrote to stderr, and to stdout where stderr was empty.
    """

    def __init__(self, message: str, *, exit_code: int | None, log: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.log = log


class EngineMissing(Unavailable):
    """No container engine is installed here, or none of them answers."""


class UpstreamError(Unavailable):
    """An upstream broke a request off: it closed the connection, or reset it.

    Attributes:
        origin: whom it was sent to, as ``https://api.example.com``.
    """

    code = "upstream_error"

    def __init__(self, message: str, *, origin: str) -> None:
        super().__init__(message)
        self.origin = origin


class UpstreamUnreachable(UpstreamError):
    """No connection to an upstream could be made; nothing of the request was sent."""


class AddressForbidden(UpstreamUnreachable):
    """An upstream is, or its name leads to, an address that may not be connected to.

    Attributes:
        kind: why not, for logs: ``private``, ``loopback``, ``metadata``, ``spelling`` and so on.
            The message does not say where a name leads.
    """

    def __init__(self, message: str, *, origin: str, kind: str) -> None:
        super().__init__(message, origin=origin)
        self.kind = kind


class NoUpstream(UpstreamError):
    """Every upstream that a request could go to is down; nothing was sent."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, origin="")
        self.retry_after = retry_after


class UpstreamProtocolError(UpstreamError):
    """What an upstream sent is no answer that can be relied on."""


class UpstreamBodyTooLarge(UpstreamError):
    """An upstream's answer has a larger body than its reader takes.

    Attributes:
        max_bytes: what it takes.
    """

    def __init__(self, message: str, *, origin: str, max_bytes: int) -> None:
        super().__init__(message, origin=origin)
        self.max_bytes = max_bytes


class UpstreamTimeout(UpstreamError):
    """An upstream was too slow: a limit of the client passed, or the request's own timeout.

    Attributes:
        phase: what took too long: ``connect``, ``write``, ``head`` or ``body``.
    """

    code = "upstream_timeout"

    def __init__(self, message: str, *, origin: str, phase: str) -> None:
        super().__init__(message, origin=origin)
        self.phase = phase


# --- the caller's mistakes -----------------------------------------------------------------------


class CallerError(BulkheadTrioError):
    """The request cannot be served as it is; sending it again unchanged will not help."""

    code = "bad_request"


class InvalidBody(CallerError):
    """A body is not what it should be.

    Attributes:
        errors: what is wrong with which member, each ``{"path": "$.amount", "message": "..."}``.
    """

    code = "invalid_body"

    def __init__(self, message: str, *, errors: Sequence[dict[str, str]]) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class UnsupportedMediaType(CallerError):
    """A body has a media type that is not understood here."""

    code = "unsupported_media_type"


class NotFound(CallerError):
    """What was asked for does not exist."""

    code = "not_found"


class RouteNotFound(NotFound):
    """No route of the tenant is for this method and path."""

    code = "route_not_found"


class Conflict(CallerError):
    """It contradicts what is there already."""

    code = "conflict"


class AlreadyThere(Conflict):
    """What should be made is there already, and may be there only once."""


class IdempotencyMismatch(Conflict):
    """An idempotency key was used before, for something else."""

    code = "idempotency_mismatch"


class InvalidHeader(CallerError):
    """A header has a value that it cannot have."""

    code = "invalid_header"


class TierMissing(CallerError):
    """The request does not say which tier it belongs to."""

    code = "tenant_tier_missing"


class TierInvalid(CallerError):
    """There is no such tier."""

    code = "tenant_tier_invalid"


class ApiKeyMissing(CallerError):
    """The request needs an API key and has none."""

    code = "api_key_missing"


class ApiKeyInvalid(CallerError):
    """The API key is not one of ours."""

    code = "api_key_invalid"


class TenantInactive(CallerError):
    """The API key is good, and its tenant has been switched off."""

    code = "tenant_inactive"


class AdminKeyMissing(CallerError):
    """The admin surface was asked without its key."""

    code = "admin_key_missing"


class AdminKeyInvalid(CallerError):
    """The admin key is wrong."""

    code = "admin_key_invalid"


class InvalidRequest(CallerError):
    """What a program wants an HTTP client to send is no request; nothing was sent, or not all."""


class UnknownEndpoint(CallerError):
    """No endpoint is configured that a URL belongs to.

    Attributes:
        patterns: those that are configured.
    """

    def __init__(self, message: str, *, patterns: Sequence[str]) -> None:
        super().__init__(message)
        self.patterns = tuple(patterns)
