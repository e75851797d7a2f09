"""How a webhook is signed: Standard Webhooks 1.0, symmetric (``v1``). Pure.

What is signed is ``{id}.{timestamp}.{body}``, with HMAC-SHA-256 (RFC 2104); the header has one
signature for each secret that is good at the moment, so that a receiver may change to a new secret
whenever it likes while the old one still signs along.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable
from typing import Final

import attrs

PREFIX: Final = "whsec_"

LEAST_BYTES: Final = 24
"""Of a secret; the specification's, as is the most."""

MOST_BYTES: Final = 64

RANDOM_BYTES: Final = 32
"""What making a secret takes of randomness: as much as the hash gives."""

_MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


@attrs.frozen
class WebhookSecret:
    """What an endpoint's webhooks are signed with.

    Attributes:
        key: its bytes; no text of this object shows them.

    Raises:
        ValueError: there are fewer than 24 of them, or more than 64.
    """

    key: bytes = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        if not LEAST_BYTES <= len(self.key) <= MOST_BYTES:
            raise ValueError(
                f"a webhook's secret must have {LEAST_BYTES} to {MOST_BYTES} bytes,"
                f" not {len(self.key)}"
            )

    @property
    def text(self) -> str:
        """As its owner is shown it, once: ``whsec_`` and base64."""
        return PREFIX + base64.b64encode(self.key).decode("ascii")


def make_secret(randomness: bytes) -> WebhookSecret:
    """A new secret.

    Args:
        randomness: `RANDOM_BYTES` of it, from a source that nobody can predict.

    Raises:
        ValueError: there is more or less of it.
    """
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"randomness must be {RANDOM_BYTES} bytes, not {len(randomness)}")
    return WebhookSecret(randomness)


def sign(secrets: Iterable[WebhookSecret], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``.

    Args:
        secrets: the newest first; one signature each, in this order.
        message_id: the event's id; the value of ``webhook-id``. It has no full stop in it: that
            would let one message be read as another.
        timestamp: of this try, in whole seconds since 1970; the value of ``webhook-timestamp``.
        body: as it is sent, byte for byte.

    Raises:
        ValueError: there is no secret, or that is no id.
    """
    if _MESSAGE_ID.fullmatch(message_id) is None:
        raise ValueError("a message's id must be letters, digits, - and _ only")
    signed = b"%b.%d.%b" % (message_id.encode("ascii"), timestamp, body)
    signatures = [_signature(secret.key, signed) for secret in secrets]
    if not signatures:
        raise ValueError("nothing can be signed without a secret")
    return " ".join(signatures)


def _signature(key: bytes, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")
