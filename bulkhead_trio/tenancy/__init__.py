"""Who is calling: the tier that a request belongs to."""

from bulkhead_trio.tenancy.identify import TierResolver

__all__ = ["TierResolver"]
