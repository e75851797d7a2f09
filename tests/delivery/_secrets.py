"""Webhooks' secrets, read as a receiver reads them."""

from __future__ import annotations

import base64

from bulkhead_trio.delivery._signing_rules import PREFIX, WebhookSecret


def read_secret(text: str) -> WebhookSecret:
    """The secret that ``text`` writes.

    Raises:
        ValueError: it is none.
    """
    if not text.startswith(PREFIX):
        raise ValueError(f"a secret begins with {PREFIX}")
    return WebhookSecret(base64.b64decode(text.removeprefix(PREFIX), validate=True))
