"""Signatures and secrets, as Standard Webhooks 1.0 has them."""

from __future__ import annotations

import base64
import datetime
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from bulkhead_trio.delivery._signing_rules import (
    LEAST_BYTES,
    MOST_BYTES,
    RANDOM_BYTES,
    WebhookSecret,
    make_secret,
    sign,
)

from ._secrets import read_secret

PUBLISHED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

secrets = st.binary(min_size=LEAST_BYTES, max_size=MOST_BYTES).map(WebhookSecret)
bodies = st.dictionaries(st.text(), st.text()).map(lambda body: json.dumps(body).encode())


def sent_headers(*signing: WebhookSecret, body: bytes, message_id: str = "evt_1") -> dict[str, str]:
    """The headers of a message sent now."""
    now = int(datetime.datetime.now(datetime.UTC).timestamp())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign(signing, message_id, now, body),
    }


def test_signature_of_the_published_vector() -> None:
    """The example of the specification's libraries comes out as they have it."""
    signature = sign(
        [read_secret(PUBLISHED)],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(secrets, bodies)
def test_signature_is_verified_by_the_public_package(secret: WebhookSecret, body: bytes) -> None:
    """Whoever has the secret's text verifies what we send with a library that is not ours."""
    headers = sent_headers(secret, body=body)
    assert Webhook(secret.text).verify(body, headers) == json.loads(body)


@given(secrets, secrets, bodies)
def test_signature_with_another_secret_is_refused(
    ours: WebhookSecret, theirs: WebhookSecret, body: bytes
) -> None:
    """A signature is good with its own secret and no other."""
    headers = sent_headers(ours, body=body)
    if ours != theirs:
        with pytest.raises(WebhookVerificationError):
            Webhook(theirs.text).verify(body, headers)


@pytest.mark.parametrize("what", ["body", "webhook-id", "webhook-timestamp"])
def test_signature_covers_all_of_the_message(what: str) -> None:
    """The body, the id and the time are signed: none of them can be changed on the way."""
    secret, body = make_secret(bytes(32)), b'{"a":1}'
    headers = sent_headers(secret, body=body)
    if what == "body":
        body = b'{"a":2}'
    else:
        last = headers[what][-1]
        headers[what] = headers[what][:-1] + ("1" if last == "0" else "0")
    with pytest.raises(WebhookVerificationError):
        Webhook(secret.text).verify(body, headers)


def test_signatures_during_a_rotation_come_newest_first() -> None:
    """Each secret signs, the newest first, and a receiver with either of them is content."""
    new, old = make_secret(b"n" * 32), make_secret(b"o" * 32)
    headers = sent_headers(new, old, body=b"{}")
    first, second = headers["webhook-signature"].split(" ")
    timestamp = int(headers["webhook-timestamp"])
    assert first == sign([new], "evt_1", timestamp, b"{}")
    assert second == sign([old], "evt_1", timestamp, b"{}")
    for secret in (new, old):
        assert Webhook(secret.text).verify(b"{}", headers) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(make_secret(b"x" * 32).text).verify(b"{}", headers)


def test_signing_without_a_secret_is_refused() -> None:
    """Nothing goes out unsigned."""
    with pytest.raises(ValueError, match="secret"):
        sign([], "evt_1", 0, b"{}")


@pytest.mark.parametrize("message_id", ["", "evt.1", "evt 1", "evt\n1", "é", "e" * 129])
def test_id_that_could_be_read_as_another_message_is_refused(message_id: str) -> None:
    """A full stop in an id would move the border between the signed parts."""
    with pytest.raises(ValueError, match="id"):
        sign([make_secret(bytes(32))], message_id, 0, b"{}")


def test_made_secret_has_32_bytes_of_randomness() -> None:
    """All of the randomness is in it, and its text is read back."""
    randomness = bytes(range(RANDOM_BYTES))
    secret = make_secret(randomness)
    assert secret.key == randomness
    assert secret.text == "whsec_" + base64.b64encode(randomness).decode()
    assert read_secret(secret.text) == secret
    for wrong in (randomness[1:], randomness + b"x", b""):
        with pytest.raises(ValueError, match="32 bytes"):
            make_secret(wrong)


@given(secrets)
def test_secret_is_read_back(secret: WebhookSecret) -> None:
    """Its text is ``whsec_`` and base64, as receivers read it."""
    assert read_secret(secret.text) == secret


@pytest.mark.parametrize("count", [LEAST_BYTES - 1, MOST_BYTES + 1, 0, 10_000])
def test_secret_of_another_size_is_refused(count: int) -> None:
    """24 to 64 bytes is a secret; the refusal shows nothing of it."""
    with pytest.raises(ValueError, match=f"24 to 64 bytes, not {count}"):
        WebhookSecret(b"v" * count)


@pytest.mark.parametrize("count", [LEAST_BYTES, MOST_BYTES])
def test_secret_of_the_extreme_sizes_is_taken(count: int) -> None:
    """24 and 64 bytes are within bounds."""
    assert WebhookSecret(bytes(count)).key == bytes(count)


def test_secret_is_not_in_its_repr() -> None:
    """What is logged by accident shows nothing."""
    secret = make_secret(b"visible!" * 4)
    assert "visible" not in repr(secret) + str(secret)
    assert secret.text not in repr(secret) + str([secret])
