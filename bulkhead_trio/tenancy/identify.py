"""Which tier a request belongs to."""

from __future__ import annotations

from collections.abc import Collection

from bulkhead_trio.errors import ApiKeyInvalid, ApiKeyMissing, TierInvalid, TierMissing


class TierResolver:
    """Reads a request's credentials.

    A plain tier header is believed only where configuration says so: it is a claim, not a proof.
    No API keys have been given out yet, so every key is unknown, and an unknown key is refused
    even beside a header that would do.

    Args:
        tiers: the names that exist.
        trust_header: whether the plain header counts.
    """

    def __init__(self, tiers: Collection[str], *, trust_header: bool) -> None:
        self._tiers = frozenset(tiers)
        self._known = ", ".join(tiers)
        self._trust_header = trust_header

    def resolve(self, *, tier_header: str | None, api_key: str | None) -> str:
        """The tier's name.

        Raises:
            ApiKeyInvalid: there is a key and it is nobody's.
            ApiKeyMissing: there is none, and the tier header alone is not believed.
            TierMissing: neither says anything.
            TierInvalid: there is no tier of that name.
        """
        if api_key is not None:
            raise ApiKeyInvalid("This API key is not known.")
        if not self._trust_header:
            raise ApiKeyMissing("Send your API key in the header X-API-Key.")
        if not tier_header:
            raise TierMissing(f"Say your tier in the header X-Tenant-Tier: {self._known}.")
        if tier_header not in self._tiers:
            raise TierInvalid(f"There is no such tier; there are: {self._known}.")
        return tier_header


class ApiKeyGuard:
    """Asks for an API key where configuration says so. No keys have been given out yet.

    Args:
        is_required: whether a request without a key is refused.
    """

    def __init__(self, *, is_required: bool) -> None:
        self._is_required = is_required

    def check(self, api_key: str | None) -> None:
        """Let the caller pass, or not.

        Raises:
            ApiKeyInvalid: there is a key and it is nobody's.
            ApiKeyMissing: there is none, and there has to be.
        """
        if api_key is not None:
            raise ApiKeyInvalid("This API key is not known.")
        if self._is_required:
            raise ApiKeyMissing("Send your API key in the header X-API-Key.")
