"""Whose request it is: which tier's, which tenant's."""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from typing import Protocol

import msgspec

from bulkhead_trio.errors import ApiKeyInvalid, ApiKeyMissing, TierInvalid, TierMissing
from bulkhead_trio.tenancy._lookup_rules import Caller


class KeyDirectory(Protocol):
    """Who knows whose keys are; `bulkhead_trio.tenancy.TenantDirectory` does."""

    def find(self, api_key: str) -> Caller | Awaitable[Caller]:
        """Who has this key: at once where that is known, otherwise to be awaited."""


class Identity(msgspec.Struct, frozen=True):
    """Whose a request is.

    Attributes:
        tier: its name, one of those that are configured.
        caller: ``None`` for somebody who has named a tier and shown no key.
    """

    tier: str
    caller: Caller | None = None


class TierResolver:
    """Reads a request's credentials.

    A key counts, and its tenant's tier with it. A plain tier header is believed only where
    configuration says so: it is a claim, not a proof. Where there are both, they must agree.

    Args:
        tiers: the names that exist.
        trust_header: whether the plain header counts.
        directory: whose keys are known; ``None``: nobody has one, and every key is refused.
    """

    def __init__(
        self,
        tiers: Collection[str],
        *,
        trust_header: bool,
        directory: KeyDirectory | None = None,
    ) -> None:
        self._anonymous = {tier: Identity(tier) for tier in tiers}
        self._known = ", ".join(tiers)
        self._trust_header = trust_header
        self._directory = directory

    def resolve(
        self, *, tier_header: str | None, api_key: str | None
    ) -> Identity | Awaitable[Identity]:
        """Whose the request is: at once where that is known, otherwise to be awaited.

        Raises, at once or when awaited:
            ApiKeyInvalid: there is a key and it is nobody's.
            ApiKeyMissing: there is none, and the tier header alone is not believed.
            TenantInactive: the key's tenant is switched off.
            TierMissing: neither says anything.
            TierInvalid: there is no tier of that name, or it is another than the key's.
            DatabaseUnavailable: only the database knows whose the key is, and it is away.
        """
        if api_key is not None:
            caller = _find(self._directory, api_key)
            if isinstance(caller, Caller):
                return self._of(caller, tier_header)
            return self._wait(caller, tier_header)
        if not self._trust_header:
            raise ApiKeyMissing("Send your API key in the header X-API-Key.")
        if not tier_header:
            raise TierMissing(f"Say your tier in the header X-Tenant-Tier: {self._known}.")
        identity = self._anonymous.get(tier_header)
        if identity is None:
            raise TierInvalid(f"There is no such tier; there are: {self._known}.")
        return identity

    async def _wait(self, caller: Awaitable[Caller], tier_header: str | None) -> Identity:
        return self._of(await caller, tier_header)

    def _of(self, caller: Caller, tier_header: str | None) -> Identity:
        tier = caller.tenant.tier
        if tier_header is not None and tier_header != tier:
            raise TierInvalid("The header X-Tenant-Tier names another tier than your API key has.")
        if tier not in self._anonymous:
            raise TierInvalid("Your tenant's tier does not exist on this server.")
        return Identity(tier, caller)


class ApiKeyGuard:
    """Asks for an API key where configuration says so.

    Args:
        is_required: whether a request without a key is refused.
        directory: whose keys are known; ``None``: nobody has one, and every key is refused.
    """

    def __init__(self, *, is_required: bool, directory: KeyDirectory | None = None) -> None:
        self._is_required = is_required
        self._directory = directory

    def check(self, api_key: str | None) -> Caller | Awaitable[Caller] | None:
        """Who it is: at once where that is known, otherwise to be awaited.

        Returns:
            ``None`` for whoever has no key and needs none.

        Raises, at once or when awaited:
            ApiKeyInvalid: there is a key and it is nobody's.
            ApiKeyMissing: there is none, and there has to be.
            TenantInactive: the key's tenant is switched off.
            DatabaseUnavailable: only the database knows whose the key is, and it is away.
        """
        if api_key is not None:
            return _find(self._directory, api_key)
        if self._is_required:
            raise ApiKeyMissing("Send your API key in the header X-API-Key.")
        return None


def _find(directory: KeyDirectory | None, api_key: str) -> Caller | Awaitable[Caller]:
    if directory is None:
        raise ApiKeyInvalid("This API key is not known.")
    return directory.find(api_key)
