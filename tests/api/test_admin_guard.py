"""The key to what is not for tenants: who is counted for a wrong one, and how it is compared."""

from __future__ import annotations

import ipaddress

import pytest
import trio
from trio.testing import MockClock

from bulkhead_trio.api.admin import WRONG_KEYS_AT_ONCE, AdminGuard
from bulkhead_trio.api.messages import Headers, Request, Response
from bulkhead_trio.errors import AdminKeyInvalid, AdminKeyMissing, RateLimited

KEY = "the-admin-key"
PROXY = "10.0.0.1"
TRUSTED = [ipaddress.ip_network("10.0.0.0/8")]


def asked(key: str | None, client: str = "192.0.2.1", forwarded: str | None = None) -> Request:
    fields = [] if key is None else [(b"x-admin-key", key.encode("latin-1"))]
    if forwarded is not None:
        fields.append((b"x-forwarded-for", forwarded.encode("latin-1")))
    return Request("GET", "/metrics", b"", Headers(fields), client=client)


def spend(guard: AdminGuard, client: str, forwarded: str | None = None) -> None:
    for _ in range(WRONG_KEYS_AT_ONCE):
        with pytest.raises(AdminKeyInvalid):
            guard.admit(asked("wrong", client, forwarded))
    with pytest.raises(RateLimited):
        guard.admit(asked("wrong", client, forwarded))


@pytest.mark.parametrize(
    "given", ["x", KEY[:-1], KEY + "x", KEY.upper(), "x" + KEY, KEY + "\0", "\xe9", "x" * 8000]
)
async def test_key_is_right_as_a_whole_only(autojump_clock: MockClock, given: str) -> None:
    """Of whatever length; and what it was compared with is not kept as it is."""
    guard = AdminGuard(KEY, is_public=False)
    with pytest.raises(AdminKeyInvalid):
        guard.admit(asked(given))
    guard.admit(asked(KEY))
    with pytest.raises(AdminKeyMissing):
        guard.admit(asked(None))
    assert KEY not in repr(vars(guard))
    assert KEY.encode() not in vars(guard).values()


async def test_metrics_are_guarded_with_the_same_patience(autojump_clock: MockClock) -> None:
    """Whoever guesses there is counted as well; whoever needs no key is not asked."""
    guard = AdminGuard(KEY, is_public=False)
    shown = guard.around(lambda _: Response.json("ok"))
    for _ in range(WRONG_KEYS_AT_ONCE):
        with pytest.raises(AdminKeyInvalid):
            shown(asked("wrong"))
    with pytest.raises(RateLimited) as refused:
        shown(asked(KEY))
    assert refused.value.retry_after == pytest.approx(10.0)
    public = AdminGuard(KEY, is_public=True).around(lambda _: Response.json("ok"))
    for _ in range(2 * WRONG_KEYS_AT_ONCE):
        assert isinstance(public(asked("wrong")), Response)


async def test_address_is_the_clients_behind_a_trusted_proxy(autojump_clock: MockClock) -> None:
    """One of a proxy's clients does not cost the others their way in."""
    guard = AdminGuard(KEY, is_public=False, trusted_proxies=TRUSTED)
    spend(guard, PROXY, "203.0.113.9")
    with pytest.raises(RateLimited):
        guard.admit(asked(KEY, PROXY, "1.1.1.1, 203.0.113.9"))
    guard.admit(asked(KEY, PROXY, "203.0.113.10"))
    guard.admit(asked(KEY, PROXY))
    assert guard.client_of(asked(KEY, PROXY, "203.0.113.9")) == "203.0.113.9"


async def test_address_cannot_be_made_up(autojump_clock: MockClock) -> None:
    """Whoever is no trusted proxy says nothing about where it comes from."""
    for networks in ([], TRUSTED):
        guard = AdminGuard(KEY, is_public=False, trusted_proxies=networks)
        for number in range(WRONG_KEYS_AT_ONCE):
            with pytest.raises(AdminKeyInvalid):
                guard.admit(asked("wrong", "192.0.2.1", f"203.0.113.{number}"))
        with pytest.raises(RateLimited):
            guard.admit(asked("wrong", "192.0.2.1", "203.0.113.200"))


async def test_way_in_opens_again_by_itself(autojump_clock: MockClock) -> None:
    """However often it was tried while it was closed."""
    guard = AdminGuard(KEY, is_public=False)
    spend(guard, "192.0.2.1")
    for _ in range(100):
        with pytest.raises(RateLimited):
            guard.admit(asked("wrong"))
    await trio.sleep(10.0)
    guard.admit(asked(KEY))


async def test_memory_for_addresses_is_bounded(autojump_clock: MockClock) -> None:
    """When there is no room for one more, a wrong key is refused for that; the right one is not."""
    guard = AdminGuard(KEY, is_public=False)
    for number in range(10_000):
        with pytest.raises(AdminKeyInvalid):
            guard.admit(asked("wrong", str(ipaddress.ip_address(number))))
    with pytest.raises(RateLimited) as refused:
        guard.admit(asked("wrong", "192.0.2.1"))
    assert refused.value.retry_after is not None
    assert refused.value.retry_after > 0
    guard.admit(asked(KEY, "192.0.2.1"))
