"""Who is calling: the tier that a request belongs to, and whether it needs a key."""

from bulkhead_trio.tenancy.identify import ApiKeyGuard, TierResolver

__all__ = ["ApiKeyGuard", "TierResolver"]
