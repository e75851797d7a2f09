"""What our fronts and an application may say to each other beyond ASGI: names in a scope.

An application that knows none of them is served all the same, and one that does runs under any
server: a server need not have ``extensions`` in its scopes at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CANCELS = "bulkhead_trio.cancels"
"""The extension that says: when the client goes, the application is cancelled, and so it is when
the server is told to cut off what still runs. An application need not listen for
``http.disconnect`` while it works."""

RESPOND = "bulkhead_trio.respond"
"""The extension with a coroutine function of status, headers, body and, where there are such,
headers that differ from answer to answer: a whole answer in one call, for an application that has
all of it. The same as the two messages, at half the cost; less, where the headers are a tuple that
has been sent before."""

ACCOUNT = "bulkhead_trio.account"
"""Whose request it was, as an application says in its scope: loop time is shared out by this."""

PARTY = "bulkhead_trio.party"
"""Who of those that share the account it was, such as one tenant of a tier: they take turns."""

REFUSED = "bulkhead_trio.refused"
"""Set in the scope of a request that took no work, so that its connection may be made to wait."""


def extensions_of(scope: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the server of this request offers; ASGI lets it leave the member out, or empty."""
    found: Mapping[str, Any] | None = scope.get("extensions")
    return found or {}
