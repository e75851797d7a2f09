"""The receiver that judges signatures with the public package, not with our code.

As a process: ``python -m tests.system.delivery._receiver``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from standardwebhooks import Webhook, WebhookVerificationError

from bulkhead_trio.testing.receiver.running import command

MODULE = "tests.system.delivery._receiver"


@functools.cache
def _judge_of(secret: str) -> Webhook:
    return Webhook(secret)


def is_signed_with(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the signatures is of this secret."""
    try:
        _judge_of(secret).verify(body, dict(headers), json_parse=False)
    except WebhookVerificationError:
        return False
    return True


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes) -> bool:
    """Whether every one of these secrets has signed."""
    return all(is_signed_with(secret, headers, body) for secret in secrets)


if __name__ == "__main__":
    command(verify)(prog_name=f"python -m {MODULE}")
