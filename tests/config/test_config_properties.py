"""Whatever the sources hold, the answer is settings or a list of mistakes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bulkhead_trio.config import ConfigurationError, Settings, load_settings
from bulkhead_trio.config.settings import TIER_VARIABLES, VARIABLES

TIER_NAMES = [
    f"BULKHEAD_TIERS__{tier}__{field.upper()}"
    for tier in ("FREE", "Pro", "GOLD", "")
    for field in TIER_VARIABLES
]
NAMES = st.one_of(
    st.sampled_from([name.upper() for name in VARIABLES] + TIER_NAMES),
    st.text().map("BULKHEAD_TIERS".__add__),
    st.text(),
)
VALUES = st.one_of(
    st.text(),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", "none", "true", "production", "json", "127.0.0.1", "a:1", "[::1]:0"]),
    st.text(max_size=8).map("redis://h:1/{}".format),
    st.text(max_size=8).map("postgresql://u:p@h/db?{}".format),
    st.text(max_size=8).map("host=h password={}".format),
    st.text(max_size=8).map("smtp://[{}".format),
)
SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(), VALUES)


def check(
    environ: dict[str, str], overrides: dict[str, object], config_path: Path | None = None
) -> None:
    outcome: Settings | ConfigurationError
    try:
        outcome = load_settings(config_path=config_path, environ=environ, overrides=overrides)
    except ConfigurationError as error:
        outcome = error
    if isinstance(outcome, ConfigurationError):
        assert outcome.mistakes
        assert all(str(mistake).isprintable() for mistake in outcome.mistakes)
    else:
        assert repr(outcome).isprintable()


@given(environ=st.dictionaries(NAMES, VALUES, max_size=6))
def test_environment_loads_or_is_a_list_of_mistakes(environ: dict[str, str]) -> None:
    """No environment raises anything but a ConfigurationError."""
    environ.pop("BULKHEAD_CONFIG", None)
    check(environ, {})


@given(
    overrides=st.dictionaries(
        st.sampled_from(sorted(VARIABLES)),
        st.one_of(st.none(), SCALARS, st.lists(SCALARS, max_size=3)),
        max_size=6,
    )
)
def test_values_of_any_type_load_or_are_mistakes(overrides: dict[str, object]) -> None:
    """No value of any type raises anything but a ConfigurationError."""
    check({}, overrides)


@given(content=st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-8", "replace"))))
def test_file_loads_or_is_a_list_of_mistakes(content: bytes) -> None:
    """No file raises anything but a ConfigurationError."""
    handle, name = tempfile.mkstemp(suffix=".toml")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        check({}, {}, Path(name))
    finally:
        Path(name).unlink()


@given(
    secret=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=20),
    form=st.sampled_from(
        [
            ("database_url", "postgresql://user:{}@host:5432/db"),
            ("database_url", "postgresql://user:x%40{}@h1:1,h2:2/db?connect_timeout=3"),
            ("database_url", "postgresql://host/db?user=x&password={}"),
            ("database_url", "postgresql://host/db?user=x&pass%77ord={}"),
            ("database_url", "postgresql://host/db?sslpassword={}"),
            ("database_url", "postgresql://u@h/db?password={}&application_name=a@b"),
            ("database_url", "postgresql://u@h/db?password={}:x&application_name=a@b"),
            ("database_url", "postgresql://u:a?b{}#@h/db"),
            ("database_url", "host=h password={} dbname=x"),
            ("database_url", "host=h password = 'a b\\' {}' dbname=x"),
            ("database_url", "host=h password=a\\ {} dbname=x"),
            ("redis_url", "redis://:{}@host:6379/0"),
            ("redis_url", "rediss://user:{}@host"),
            ("redis_url", "unix://user:{}@/run/redis.sock?db=1"),
            ("smtp_url", "smtp://user:{}@mail"),
            ("smtp_url", "smtp://user:{}@mail:587?starttls=require"),
            ("smtp_url", "smtp://user:a@{}@mail"),
            ("admin_api_key", "{}"),
            ("secret_key", "{}"),
        ]
    ),
)
def test_secret_is_masked_in_repr(secret: str, form: tuple[str, str]) -> None:
    """However a password is written into a value, it is not in the settings' repr."""
    name, pattern = form
    marked = f"S3cr3t{secret}"
    settings = load_settings(environ={name.upper(): pattern.format(marked)}, overrides={})
    assert marked in getattr(settings, name)
    assert marked not in repr(settings)
    assert "***" in repr(settings)
