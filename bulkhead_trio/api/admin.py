"""The key to the surface that is not for tenants."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable

from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Handler
from bulkhead_trio.errors import AdminKeyInvalid, AdminKeyMissing


class AdminGuard:
    """Asks for ``X-Admin-Key`` where configuration says so.

    Args:
        key: the right one.
        is_public: whether everybody may look.
    """

    def __init__(self, key: str, *, is_public: bool) -> None:
        self._key = key.encode()
        self._is_public = is_public

    def around(self, handler: Handler) -> Handler:
        """The handler, for those who may; whoever reaches the admin listener may."""

        def guarded(request: Request) -> Response | Awaitable[Response]:
            if not (self._is_public or request.listener == "admin"):
                self.check(request.headers.get("x-admin-key"))
            return handler(request)

        return guarded

    def check(self, given: str | None) -> None:
        """Compare in constant time.

        Raises:
            AdminKeyMissing: there is none.
            AdminKeyInvalid: it is another one.
        """
        if not given:
            raise AdminKeyMissing("Send the admin key in the header X-Admin-Key.")
        if not hmac.compare_digest(given.encode(), self._key):
            raise AdminKeyInvalid("This is not the admin key.")
