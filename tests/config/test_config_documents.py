"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from bulkhead_trio.config import DEFAULT_TIERS, explain_settings, load_settings
from bulkhead_trio.config.display import rows
from bulkhead_trio.config.settings import TIER_VARIABLES, VARIABLES

ROOT = Path(__file__).parents[2]
ENV_EXAMPLE = (ROOT / ".env.example").read_text()
PAGE = (ROOT / "docs" / "configuration.md").read_text()

# Secrets and services: a default would be wrong everywhere, so these show an example.
TLS_FILES = {"TLS_CERTIFICATE", "TLS_KEY"}
WITHOUT_DEFAULT = {
    "BULKHEAD_CONFIG",
    "DATABASE_URL",
    "REDIS_URL",
    "SMTP_URL",
    "ADMIN_API_KEY",
    "ADMIN_BIND",
    "SECRET_KEY",
    "LOG_FORMAT",
    "NOTIFICATIONS_HTTP_IDENTITY",
    *TLS_FILES,
}


def documented_environment() -> dict[str, str]:
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", ENV_EXAMPLE, re.MULTILINE))


def table_rows(heading: str) -> list[list[str]]:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_env_example_names_every_variable_once() -> None:
    """No variable is missing, none is made up, none is there twice."""
    names = re.findall(r"^#?([A-Z][A-Z0-9_]*)=", ENV_EXAMPLE, re.MULTILINE)
    tier = [f"BULKHEAD_TIERS__FREE__{name.upper()}" for name in TIER_VARIABLES]
    expected = ["BULKHEAD_CONFIG", *(name.upper() for name in VARIABLES), *tier]
    assert sorted(names) == sorted(expected)


def test_env_example_changes_nothing_as_it_is() -> None:
    """A copy of the file has no effect until something is uncommented."""
    assert re.findall(r"^[^#\s]", ENV_EXAMPLE, re.MULTILINE) == []


def test_env_example_shows_the_defaults() -> None:
    """What has a default is shown with it."""
    documented = documented_environment()
    given = {name: documented[name] for name in documented.keys() - WITHOUT_DEFAULT}
    assert load_settings(environ=given, overrides={}) == load_settings(environ={}, overrides={})


def test_env_example_has_right_examples() -> None:
    """Everything uncommented at once loads, but for the files and the identity that it names."""
    documented = documented_environment()
    for name in {"BULKHEAD_CONFIG", "NOTIFICATIONS_HTTP_IDENTITY", *TLS_FILES}:
        del documented[name]
    settings = load_settings(environ=documented, overrides={})
    unset = {name for name in VARIABLES if getattr(settings, name) is None}
    assert unset == {
        "max_proxy_body_bytes",
        "notifications_http_identity",
        "tls_certificate",
        "tls_key",
    }


@pytest.mark.parametrize(
    ("column", "environ"),
    [(1, {}), (2, {"ENVIRONMENT": "production", "SECRET_KEY": "0123456789abcdef"})],
)
def test_page_lists_every_variable_with_its_default(column: int, environ: dict[str, str]) -> None:
    """The page's table is the code's, for development and production."""
    documented = {row[0]: row[column] or row[1] for row in table_rows("Variables")}
    explanation = explain_settings(environ=environ, overrides={})
    actual = {
        row.variable: row.value
        for row in rows(explanation)
        if not row.variable.startswith("BULKHEAD_TIERS")
    }
    actual["MAX_PROXY_BODY_BYTES"] = actual["MAX_PROXY_BODY_BYTES"] or "none"
    if environ:
        actual |= {"ENVIRONMENT": "development", "SECRET_KEY": "required"}
    assert documented == actual


def test_page_lists_the_default_tiers() -> None:
    """The page's table of tiers is the code's."""
    expected = [
        ["unlimited" if value is None else f"{value:g}" for value in attrs.astuple(tier)[1:]]
        for tier in DEFAULT_TIERS
    ]
    documented = table_rows("Tiers")
    assert [row[0] for row in documented] == [tier.name for tier in DEFAULT_TIERS]
    assert [row[1:] for row in documented] == expected


def test_page_has_an_example_that_loads(tmp_path: Path) -> None:
    """The TOML on the page can be copied, and its variables too."""
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "bulkhead.toml"
    path.write_text(example)
    (shell,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    variables = re.findall(r"^(\w+)=(\S*) ", shell, re.MULTILINE)
    settings = load_settings(config_path=path, environ=dict(variables), overrides={})
    free, gold = settings.tiers
    assert (free.name, free.rate_limit) == ("free", None)
    assert (gold.name, gold.workers, gold.queue) == ("gold-plus", 60, 20)


def test_page_has_right_numbers() -> None:
    """The connections that the page names are those that the settings ask for."""
    assert f"{load_settings(environ={}, overrides={}).connections_needed} with the default" in PAGE
