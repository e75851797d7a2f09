"""Secrets as they are kept in the database: sealed, so that a stolen table or backup opens nothing.

AES-256-GCM (NIST SP 800-38D) under a key that HKDF-SHA-256 (RFC 5869) derives from the server's
secret key for one purpose. A nonce is 96 random bits, which is good for 2**32 secrets under one
key; nobody has that many endpoints. Each secret is bound to the row that it belongs to: moved to
another one it does not open.

A sealed secret is one byte for the version, four that tell keys apart, the nonce, and what is
encrypted with its tag.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bulkhead_trio.errors import BulkheadTrioError

VERSION: Final = 1
"""Of the format; another one would be another way of sealing, beside this one."""

WEBHOOK_SECRETS: Final = "webhook secrets"
"""The purpose of what webhooks are signed with."""

KEY_BYTES: Final = 32
MARK_BYTES: Final = 4
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16

_HEAD_BYTES: Final = 1 + MARK_BYTES
_LABEL: Final = b"bulkhead-trio sealing\0"


class Unsealable(BulkheadTrioError):
    """What is kept cannot be opened: it was sealed under another key, for another row, or broken.

    Waiting does not help; giving the server the secret key that it had before does.
    """


class Sealer:
    """Seals what may be read by this server alone, and opens it.

    Args:
        secret_key: the server's; the same on all instances.
        purpose: what is sealed; what is sealed for one purpose does not open for another.
        random_bytes: so many bytes that nobody can predict.

    Raises:
        ValueError: there is no secret key.
    """

    __slots__ = ("_cipher", "_mark", "_random_bytes")

    def __init__(
        self,
        secret_key: str,
        *,
        purpose: str,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not secret_key:
            raise ValueError("secret_key must not be empty")
        derived = HKDF(
            algorithm=SHA256(),
            length=KEY_BYTES + MARK_BYTES,
            salt=None,
            info=_LABEL + purpose.encode(),
        ).derive(secret_key.encode())
        self._cipher = AESGCM(derived[:KEY_BYTES])
        # Says which key, and nothing of it: HKDF's output tells nothing about its other parts.
        self._mark = derived[KEY_BYTES:]
        self._random_bytes = random_bytes

    def seal(self, plain: bytes, *, bound_to: UUID) -> bytes:
        """What may be kept of ``plain``: 33 bytes more.

        Args:
            plain: the secret.
            bound_to: the id of the row that it is kept in.
        """
        head = bytes((VERSION,)) + self._mark
        nonce = self._random_bytes(NONCE_BYTES)
        return head + nonce + self._cipher.encrypt(nonce, plain, head + bound_to.bytes)

    def unseal(self, sealed: bytes, *, bound_to: UUID) -> bytes:
        """What was sealed.

        Args:
            sealed: as `seal` has given it.
            bound_to: the id that it was sealed with.

        Raises:
            Unsealable: it does not open.
        """
        if len(sealed) < _HEAD_BYTES + NONCE_BYTES + TAG_BYTES:
            raise Unsealable("a sealed secret is broken: it is too short")
        if sealed[0] != VERSION:
            raise Unsealable(f"a secret was sealed in version {sealed[0]}, which is not known here")
        head = sealed[:_HEAD_BYTES]
        if head[1:] != self._mark:
            raise Unsealable("a secret was sealed under another SECRET_KEY than this server has")
        nonce = sealed[_HEAD_BYTES : _HEAD_BYTES + NONCE_BYTES]
        encrypted = sealed[_HEAD_BYTES + NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, encrypted, head + bound_to.bytes)
        except InvalidTag:
            raise Unsealable("a sealed secret is broken, or belongs to another row") from None
