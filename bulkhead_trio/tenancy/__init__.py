"""Who is calling: the tier that a request belongs to, and the tenant whose key it shows."""

from bulkhead_trio.tenancy.directory import (
    Caller,
    KeySource,
    TenantDirectory,
    TenantDirectoryStatistics,
)
from bulkhead_trio.tenancy.identify import ApiKeyGuard, Identity, KeyDirectory, TierResolver
from bulkhead_trio.tenancy.keys import IssuedKey, KeyMaker
from bulkhead_trio.tenancy.shared import SharedKeyCache

__all__ = [
    "ApiKeyGuard",
    "Caller",
    "Identity",
    "IssuedKey",
    "KeyDirectory",
    "KeyMaker",
    "KeySource",
    "SharedKeyCache",
    "TenantDirectory",
    "TenantDirectoryStatistics",
    "TierResolver",
]
