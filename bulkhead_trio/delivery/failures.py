"""Why there was no answer, in words that tell a tenant nothing of what is inside."""

from __future__ import annotations

import socket
import ssl
from typing import Final

from bulkhead_trio.delivery._verdict_rules import Failure
from bulkhead_trio.errors import (
    AddressForbidden,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnreachable,
)


def failure_of(error: UpstreamError) -> Failure:
    """Why there was no answer, in words that tell a tenant nothing of what is inside."""
    match error:
        case AddressForbidden():
            return Failure.REFUSED_ADDRESS
        case UpstreamUnreachable():
            return _why_unreachable(error)
        case UpstreamTimeout(phase="connect"):
            return Failure.NO_CONNECTION
        case UpstreamTimeout():
            return Failure.TIMEOUT
        case UpstreamProtocolError():
            return Failure.NO_ANSWER
    return Failure.BROKEN_OFF


_CAUSES: Final[tuple[tuple[type[BaseException], Failure], ...]] = (
    (socket.gaierror, Failure.NO_SUCH_HOST),
    (ssl.SSLCertVerificationError, Failure.TLS_CERTIFICATE),
    (ssl.SSLError, Failure.TLS),
    (ConnectionRefusedError, Failure.CONNECTION_REFUSED),
)


def _why_unreachable(error: UpstreamUnreachable) -> Failure:
    """By what has caused it: the messages name addresses, and are for logs."""
    cause: BaseException | None = error
    while cause is not None:
        for kind, failure in _CAUSES:
            if isinstance(cause, kind):
                return failure
        cause = cause.__cause__
    return Failure.NO_CONNECTION
