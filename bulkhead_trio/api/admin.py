"""The key to the surface that is not for tenants."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeAlias

import structlog

from bulkhead_trio.api.messages import Request, Response
from bulkhead_trio.api.routes import Handler
from bulkhead_trio.database.audit import Author
from bulkhead_trio.errors import AdminKeyInvalid, AdminKeyMissing, NotFound, RateLimited
from bulkhead_trio.http._forwarding_rules import Network, client_address
from bulkhead_trio.policies.context import current_request, request_context
from bulkhead_trio.policies.rate import Decision, KeyedRateLimiter, TokenBucket

WRONG_KEYS_AT_ONCE: Final = 10
WRONG_KEYS_PER_SECOND: Final = 0.1
"""What one address may get wrong: ten for a person with a wrong file, and then one in 10 s."""

IPV6_SITE_BITS: Final = 64
"""What one customer gets at least, and may choose addresses in."""

ADMIN_SECONDS: Final = 10.0
"""The server's own deadline for a request of the admin API; its statements take milliseconds."""

AdminHandler: TypeAlias = Callable[[Request, Author], Awaitable[Response]]
"""A handler that is told on whose behalf it changes something."""

_log = structlog.get_logger("bulkhead_trio.api")


class AdminGuard:
    """Asks for ``X-Admin-Key`` where configuration says so.

    Args:
        key: the right one.
        is_public: whether everybody may look.
        trusted_proxies: networks whose ``X-Forwarded-For`` says whose address a wrong key is from.
    """

    def __init__(
        self, key: str, *, is_public: bool, trusted_proxies: Iterable[Network] = ()
    ) -> None:
        self._digest = hashlib.sha256(key.encode()).digest()
        self._is_public = is_public
        self._trusted_proxies: Sequence[Network] = tuple(trusted_proxies)
        self._wrong_keys = KeyedRateLimiter(
            TokenBucket(rate=WRONG_KEYS_PER_SECOND, capacity=WRONG_KEYS_AT_ONCE),
            name="wrong admin keys",
            max_keys=10_000,
        )

    @property
    def fingerprint(self) -> str:
        """Names the key without telling it: 32 bits of its SHA-256."""
        return self._digest.hex()[:8]

    def around(self, handler: Handler) -> Handler:
        """The handler, for those who may; whoever reaches the admin listener may."""

        def guarded(request: Request) -> Response | Awaitable[Response]:
            if not (self._is_public or request.listener == "admin"):
                self.admit(request)
            return handler(request)

        return guarded

    def admit(self, request: Request) -> None:
        """Let a request pass that has the key.

        An address that has sent too many wrong ones is refused whatever it sends, so that it does
        not learn whether the next one was right. Only wrong ones count, and no refusal does: who
        has the right key waits 10 s at most once the wrong ones stop.

        Raises:
            AdminKeyMissing: there is none.
            AdminKeyInvalid: it is another one.
            RateLimited: too many wrong ones came from there.
        """
        given = request.headers.get("x-admin-key")
        client = self.client_of(request)
        site = _site(client)
        if given and self._wrong_keys.for_key(site).statistics().remaining < 1:
            raise _too_many(self._wrong_keys.acquire_nowait(site))
        try:
            self.check(given)
        except AdminKeyInvalid:
            decision = self._wrong_keys.acquire_nowait(site)
            _log.warning("wrong_admin_key", client=client)
            if not decision.allowed:  # so many addresses do this that there is no room for one more
                raise _too_many(decision) from None
            raise

    def client_of(self, request: Request) -> str:
        """The address of whoever sent a request; of proxies that are trusted, for whom they did."""
        if not self._trusted_proxies:
            return request.client
        forwarded = request.headers.get("x-forwarded-for") or ""
        headers = [(b"x-forwarded-for", forwarded.encode("latin-1"))]
        return client_address((request.client, None), headers, self._trusted_proxies)

    def check(self, given: str | None) -> None:
        """Compare in constant time, whatever the length.

        Raises:
            AdminKeyMissing: there is none.
            AdminKeyInvalid: it is another one.
        """
        if not given:
            raise AdminKeyMissing("Send the admin key in the header X-Admin-Key.")
        if not hmac.compare_digest(hashlib.sha256(given.encode()).digest(), self._digest):
            raise AdminKeyInvalid("This is not the admin key.")


class AdminDoor:
    """The way into everything under ``/admin``: nobody gets in without the key, wherever they come.

    Args:
        guard: knows the key.
        has_own_listener: whether there is an admin listener; then nothing is here on another one.
    """

    def __init__(self, guard: AdminGuard, *, has_own_listener: bool) -> None:
        self._guard = guard
        self._has_own_listener = has_own_listener

    def around(self, handler: AdminHandler) -> Handler:
        """The handler, for those who have the key, within `ADMIN_SECONDS`."""

        async def guarded(request: Request) -> Response:
            if self._has_own_listener and request.listener != "admin":
                raise NotFound("There is nothing here.")
            self._guard.admit(request)
            timeout = min(request.timeout() or ADMIN_SECONDS, ADMIN_SECONDS)
            with request_context(timeout=timeout):
                return await handler(request, self._author(request))

        return guarded

    def _author(self, request: Request) -> Author:
        client = self._guard.client_of(request)
        where = f" from {client}" if client else ""
        context = current_request()
        request_id = None if context is None else context.request_id
        return Author(f"admin:{self._guard.fingerprint}{where}", request_id)


def _too_many(decision: Decision) -> RateLimited:
    return RateLimited(
        "Too many wrong admin keys came from this address.", retry_after=decision.retry_after
    )


def _site(client: str) -> str:
    """What wrong keys are counted by: an address of IPv4, a network of IPv6."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), IPV6_SITE_BITS), strict=False))
