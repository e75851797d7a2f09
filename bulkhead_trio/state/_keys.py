"""The names of keys and of instances; braces are literal: a cluster keeps a tenant together."""

from __future__ import annotations

import hashlib
import re
import uuid


def upstream_key(prefix: str, key: tuple[str, str, str]) -> bytes:
    """``prefix:{tenant}:route:hash`` of an upstream: its tenant's id, its route's, and its URL."""
    tenant_id, route_id, url = key
    digest = hashlib.sha256(url.encode()).hexdigest()[:32]
    return f"{prefix}:{{{tenant_id}}}:{route_id}:{digest}".encode()


def rate_key(tenant_id: str) -> bytes:
    """``ratelimit:{tenant}``."""
    return f"ratelimit:{{{tenant_id}}}".encode()


def token_key(name: str, about: str) -> bytes:
    """``token:{identity}:hash`` of an identity: its name, and of all that its tokens depend on."""
    digest = hashlib.sha256(about.encode()).hexdigest()[:32]
    return f"token:{{{name}}}:{digest}".encode()


_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")


def instance_word(instance_id: str | None) -> bytes:
    """What an instance is called in Redis: a new name where none is given.

    Raises:
        ValueError: it is not up to 64 letters, digits, dots, dashes and underscores.
    """
    if instance_id is None:
        return uuid.uuid4().hex.encode()
    if not _WORD.fullmatch(instance_id):
        raise ValueError(f"instance_id must be one plain word, not {instance_id!r}")
    return instance_id.encode()
