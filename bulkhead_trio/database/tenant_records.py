"""What tenants and their keys are in the database, and what is asked of it."""

from __future__ import annotations

import datetime

import msgspec
from msgspec import UNSET, UnsetType


class RateLimitRecord(msgspec.Struct, frozen=True):
    """So many requests in any ``window_seconds``."""

    limit: int
    window_seconds: float


class TenantRecord(msgspec.Struct, frozen=True):
    """A tenant as it is kept.

    Attributes:
        id: a UUID.
        active: whether its keys open anything.
        weight: its share among its tier's tenants, 1 or more.
        version: 1 at first, and one more with each change.
    """

    id: str
    name: str
    tier: str
    active: bool
    rate_limit: RateLimitRecord | None
    weight: int
    version: int
    created_at: datetime.datetime
    updated_at: datetime.datetime


class KeyRecord(msgspec.Struct, frozen=True):
    """An API key as it is kept, which is without the key.

    Attributes:
        id: what the key's text says of itself.
        digest: 32 bytes, made of the key's text and a secret of the server's.
        last_used_at: some seconds behind.
        revoked_at: since when it opens nothing; ``None``: it is good.
    """

    id: str
    tenant_id: str
    digest: bytes
    created_at: datetime.datetime
    last_used_at: datetime.datetime | None
    revoked_at: datetime.datetime | None

    def __repr__(self) -> str:
        return f"KeyRecord(id={self.id!r}, tenant_id={self.tenant_id!r})"


class FoundKey(msgspec.Struct, frozen=True):
    """A key, whose it is, and when that was read.

    Attributes:
        read_at: by PostgreSQL's clock, in seconds since 1970.
    """

    key: KeyRecord
    tenant: TenantRecord
    read_at: float


class TenantDraft(msgspec.Struct, frozen=True):
    """A tenant to be made.

    Attributes:
        id: a UUID; ``None``: a new one.
    """

    name: str
    tier: str
    active: bool = True
    rate_limit: RateLimitRecord | None = None
    weight: int = 1
    id: str | None = None


class TenantChanges(msgspec.Struct, frozen=True):
    """What to change of a tenant; what is ``UNSET`` stays."""

    name: str | UnsetType = UNSET
    tier: str | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    rate_limit: RateLimitRecord | UnsetType | None = UNSET
    weight: int | UnsetType = UNSET


class NewKey(msgspec.Struct, frozen=True):
    """What is kept of a key that has just been made; `bulkhead_trio.tenancy.keys` makes them."""

    id: str
    digest: bytes

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r})"
