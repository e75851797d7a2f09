"""Names of headers that mean something to the gateway itself; in lower case."""

from __future__ import annotations

from typing import Final

HOP_BY_HOP: Final = frozenset(
    [
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    ]
)
"""Of one connection only, and never passed on: RFC 9110, section 7.6.1, and what was one before.

``TE: trailers`` promises that trailers are passed on, and ours drops them; so it goes too."""

OURS: Final = frozenset([b"x-api-key", b"x-admin-key"])
"""What opens us is nothing for an upstream."""

FORWARDING: Final = frozenset(
    [
        b"cf-connecting-ip",
        b"client-ip",
        b"fastly-client-ip",
        b"forwarded",
        b"true-client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-forwarded-for",
        b"x-original-host",
        b"x-original-uri",
        b"x-original-url",
        b"x-real-ip",
        b"x-rewrite-url",
    ]
)
"""Beside everything that begins with ``x-forwarded-``: what only a proxy can know, such as who the
client is or what it asked for at first. Whoever is no proxy of ours makes it up."""

TRACING: Final = frozenset([b"traceparent", b"tracestate", b"x-request-id", b"x-request-timeout"])

SET_BY_US: Final = (
    HOP_BY_HOP
    | OURS
    | TRACING
    | frozenset([b"content-length", b"expect", b"forwarded", b"host", b"via"])
)
"""What no route may set, add or remove in requests; ``x-forwarded-*`` neither."""

SET_BY_US_IN_ANSWERS: Final = HOP_BY_HOP | frozenset([b"content-length", b"via", b"x-request-id"])
"""What no route may set, add or remove in answers."""
