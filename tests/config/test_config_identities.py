"""Identities in a file and in the environment: read, checked, and shown without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead_trio.config import ConfigurationError, IdentitySettings, Settings, explain_settings
from bulkhead_trio.config.display import rows

BILLING = """
[identities.billing]
token_url = "https://id.example.com/oauth/token"
client_id = "bt"
client_secret = "hush-hush"
scope = "a b"
audience = ["https://billing.example.com/v2", "https://other.example.com"]
"""


def load(directory: Path, text: str, **environ: str) -> Settings:
    path = directory / "bulkhead.toml"
    path.write_text(text)
    return explain_settings(config_path=path, environ=environ, overrides={}).settings


def mistakes(directory: Path, text: str, **environ: str) -> dict[str, str]:
    """What is wrong, by variable."""
    with pytest.raises(ConfigurationError) as caught:
        load(directory, text, **environ)
    assert "hush" not in str(caught.value)
    return {each.variable: each.reason for each in caught.value.mistakes}


def test_identity_is_read(tmp_path: Path) -> None:
    """All of it, from a table of its name."""
    (identity,) = load(tmp_path, BILLING).identities
    assert identity == IdentitySettings(
        name="billing",
        token_url="https://id.example.com/oauth/token",
        client_id="bt",
        client_secret="hush-hush",
        scope="a b",
        audience=("https://billing.example.com/v2", "https://other.example.com"),
    )


def test_settings_without_identities_have_none(tmp_path: Path) -> None:
    """As most have."""
    assert load(tmp_path, "").identities == ()
    assert load(tmp_path, "[identities]").identities == ()


def test_secret_comes_from_the_environment(tmp_path: Path) -> None:
    """In the place of what the file has, be it the secret or where it is."""
    name = "BULKHEAD_IDENTITIES__BILLING__CLIENT_SECRET"
    in_file = BILLING.replace('client_secret = "hush-hush"', 'client_secret_file = "/nowhere"')
    for text in (BILLING, in_file):
        (identity,) = load(tmp_path, text, **{name: "hush-2"}).identities
        assert identity.client_secret == "hush-2"


def test_secret_comes_from_a_file(tmp_path: Path) -> None:
    """Without what surrounds it there."""
    secret = tmp_path / "secret"
    secret.write_text("hush-3\n")
    text = BILLING.replace('client_secret = "hush-hush"', f'client_secret_file = "{secret}"')
    (identity,) = load(tmp_path, text).identities
    assert identity.client_secret == "hush-3"
    name = "BULKHEAD_IDENTITIES__BILLING__CLIENT_SECRET_FILE"
    (identity,) = load(tmp_path, BILLING, **{name: str(secret)}).identities
    assert identity.client_secret == "hush-3"


def test_identities_are_shown_without_secrets(tmp_path: Path) -> None:
    """Each value with where it comes from; and in no repr either."""
    path = tmp_path / "bulkhead.toml"
    path.write_text(BILLING)
    environ = {"BULKHEAD_IDENTITIES__BILLING__SCOPE": "c"}
    explanation = explain_settings(config_path=path, environ=environ, overrides={})
    shown = {row.variable.rpartition("__")[2]: row[1:] for row in rows(explanation)}
    assert shown["CLIENT_SECRET"] == ("***", f"{path}, [identities.billing]")
    assert shown["SCOPE"] == ("c", "the environment")
    assert shown["AUDIENCE"][0] == "https://billing.example.com/v2,https://other.example.com"
    assert "hush" not in repr(explanation.settings)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("token_url", '"http://id.example.com/t"', "https://, unless it is on this machine"),
        ("token_url", '"https://u:hush@id.example.com/t"', "neither a user"),
        ("token_url", '"id.example.com"', "must be a URL"),
        ("token_url", '"https://"', "must be a URL"),
        ("token_url", '""', "is required"),
        ("client_id", '""', "is required"),
        ("client_secret", '"  "', "is required, or its _FILE"),
        ("client_secret", '"hu\\u0007sh"', "printable"),
        ("scope", '"a  b"', "single blanks"),
        ("scope", '"a\\"b"', "single blanks"),
        ("audience", "[]", "is required"),
        ("audience", '["https://a.example/x?y"]', "without a query"),
        ("audience", '["https://a.example/x/../y"]', "segments of dots"),
        ("audience", '["https://a.example/%2e"]', "plain paths"),
        ("audience", '["https://u@a.example"]', "neither a user"),
        ("audience", '["*"]', "must be a URL"),
    ],
)
def test_identity_with_a_mistake_is_refused(
    field: str, value: str, reason: str, tmp_path: Path
) -> None:
    """By its variable's name, and never with a secret."""
    lines = [line for line in BILLING.splitlines() if not line.startswith(f"{field} ")]
    found = mistakes(tmp_path, "\n".join([*lines, f"{field} = {value}"]))
    assert reason in found[f"BULKHEAD_IDENTITIES__BILLING__{field.upper()}"]
    assert len(found) == 1


def test_token_endpoint_on_this_machine_needs_no_tls(tmp_path: Path) -> None:
    """Nobody is between."""
    text = BILLING.replace("https://id.example.com/", "http://127.0.0.1:8081/")
    assert load(tmp_path, text).identities[0].token_url == "http://127.0.0.1:8081/oauth/token"


@pytest.mark.parametrize(
    ("text", "environ", "variable", "reason"),
    [
        ("identities = 3", {}, "BULKHEAD_IDENTITIES", "must be tables"),
        ("[identities]\na = 3", {}, "BULKHEAD_IDENTITIES__A", "must be a table"),
        ("[identities.A]", {}, "BULKHEAD_IDENTITIES", "must be a lower-case letter"),
        ("[identities.a]\nsecret = 1", {}, "BULKHEAD_IDENTITIES__A__SECRET", "is no setting"),
        ("", {"BULKHEAD_IDENTITIES__A__SCOPE": "x"}, "BULKHEAD_IDENTITIES__A__SCOPE",
         "does not exist"),
        (BILLING, {"BULKHEAD_IDENTITIES__BILLING__X": "x"}, "BULKHEAD_IDENTITIES__BILLING__X",
         "is no setting"),
        (BILLING, {"BULKHEAD_IDENTITIES_X": "x"}, "BULKHEAD_IDENTITIES_X", "must be named"),
        (BILLING + 'client_secret_file = "x"', {},
         "BULKHEAD_IDENTITIES__BILLING__CLIENT_SECRET_FILE", "beside"),
        (BILLING + BILLING.replace("billing]", "bil-ling]") + BILLING.replace("billing]",
         "bil_ling]"), {}, "BULKHEAD_IDENTITIES__BIL_LING", "stands for both"),
        ('notifications_http_identity = "x"' + BILLING, {}, "NOTIFICATIONS_HTTP_IDENTITY",
         "must be the name of an identity"),
    ],
)  # fmt: skip
def test_tables_that_are_none_are_told(
    text: str, environ: dict[str, str], variable: str, reason: str, tmp_path: Path
) -> None:
    """Whatever they are instead."""
    assert reason in mistakes(tmp_path, text, **environ)[variable]


def test_notifications_name_an_identity(tmp_path: Path) -> None:
    """One that there is."""
    text = 'notifications_http_identity = "billing"' + BILLING
    assert load(tmp_path, text).notifications_http_identity == "billing"
