"""Where settings come from, and which source wins."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import attrs
import pytest

from bulkhead_trio.config import (
    Address,
    ConfigurationError,
    PassedDescriptor,
    Settings,
    SocketPath,
    explain_settings,
    load_settings,
)
from bulkhead_trio.config.display import rows


def load(path: Path | None = None, /, **environ: str) -> Settings:
    return load_settings(config_path=path, environ=environ, overrides={})


def load_over(overrides: dict[str, object]) -> Settings:
    return load_settings(environ={}, overrides=overrides)


def toml(directory: Path, text: str) -> Path:
    path = directory / "bulkhead.toml"
    path.write_text(text)
    return path


def test_defaults_are_the_contracts() -> None:
    """With nothing said, every variable has the contract's default."""
    settings = load()
    shown = {
        field.name: getattr(settings, field.name)
        for field in attrs.fields(Settings)
        if field.name not in ("tiers", "allowed_private_networks")
    }
    assert shown == {
        "api_host": "127.0.0.1",
        "api_port": 8080,
        "bind": (),
        "tls_certificate": None,
        "tls_key": None,
        "database_url": None,
        "data_dir": Path(".bulkhead"),
        "redis_url": None,
        "on_state_error": "local",
        "admin_api_key": None,
        "admin_bind": None,
        "environment": "development",
        "secret_key": None,
        "trusted_proxies": (),
        "max_body_bytes": 1024 * 1024,
        "max_proxy_body_bytes": None,
        "smtp_url": None,
        "smtp_from": "bulkhead-trio@localhost",
        "metrics_public": True,
        "trust_tier_header": True,
        "force_error_enabled": True,
        "log_level": "info",
        "log_format": None,
        "http": "engine",
        "workers": 1,
        "shutdown_grace_seconds": 30.0,
        "refusals_per_second": 2000.0,
        "orders_connections": 10,
        "orders_workers": 4,
        "orders_queue": 100,
        "orders_backlog": 10_000,
        "orders_rate": 5.0,
        "orders_burst": 10,
        "webhooks_max_parallel_deliveries": 20,
        "notifications_max_parallel_deliveries": 8,
        "notifications_http_identity": None,
        "webhook_retry_schedule": (*(5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400),),
        "webhook_timeout_seconds": 15.0,
        "webhook_secret_grace_seconds": 86_400.0,
        "webhook_disable_after_seconds": 432_000.0,
        "delivery_lease_seconds": 60.0,
        "deliveries_retention_days": 30,
        "deliveries_connections": 4,
        "events_rate": 100.0,
        "events_burst": 200,
        "events_exempt_tenants": (),
        "identities": (),
    }
    assert [str(network) for network in settings.allowed_private_networks] == [
        "127.0.0.0/8",
        "::1/128",
    ]


def test_tiers_by_default_are_the_contracts() -> None:
    """The table of the contract, in its order."""
    assert [attrs.astuple(tier) for tier in load().tiers] == [
        ("free", 5, 10, 20, 100, 60, 5, 15, 10),
        ("pro", 20, 30, 60, 1000, 60, 5, 15, 10),
        ("enterprise", 50, 60, 120, None, 60, 5, 15, 10),
    ]


def test_production_has_secure_defaults() -> None:
    """Production trusts nobody, shows nothing, and fails nothing on request."""
    settings = load(ENVIRONMENT="production", SECRET_KEY="0123456789abcdef")
    assert settings.is_production
    assert not settings.metrics_public
    assert not settings.trust_tier_header
    assert not settings.force_error_enabled
    assert settings.allowed_private_networks == ()


def test_production_can_be_told_otherwise_except_for_forced_errors() -> None:
    """What is set on purpose holds in production too; forced errors never do."""
    settings = load(
        ENVIRONMENT="production",
        SECRET_KEY="0123456789abcdef",
        METRICS_PUBLIC="true",
        TRUST_TIER_HEADER="yes",
        FORCE_ERROR_ENABLED="true",
        ALLOWED_PRIVATE_NETWORKS="10.0.0.0/8",
    )
    assert settings.metrics_public
    assert settings.trust_tier_header
    assert [str(network) for network in settings.allowed_private_networks] == ["10.0.0.0/8"]
    assert not settings.force_error_enabled


def test_sources_later_wins(tmp_path: Path) -> None:
    """The file, then the environment, then the command line."""
    path = toml(tmp_path, 'api_host = "10.0.0.1"\napi_port = 1\nlog_level = "debug"\n')
    settings = load_settings(
        config_path=path,
        environ={"API_PORT": "2", "LOG_LEVEL": "error"},
        overrides={"log_level": "warning"},
    )
    assert (settings.api_host, settings.api_port, settings.log_level) == ("10.0.0.1", 2, "warning")


def test_sources_a_value_that_is_overridden_is_not_judged(tmp_path: Path) -> None:
    """A wrong value that a later source replaces does no harm."""
    path = toml(tmp_path, 'api_port = "x"\n')
    assert load(path, API_PORT="4").api_port == 4
    settings = load_settings(config_path=path, environ={"API_PORT": "y"}, overrides={"api_port": 3})
    assert settings.api_port == 3


def test_sources_are_named(tmp_path: Path) -> None:
    """Each value knows where it came from."""
    path = toml(tmp_path, "api_port = 1\n[tiers.free]\nqueue = 3\n")
    explanation = explain_settings(
        config_path=path,
        environ={
            "LOG_LEVEL": "debug",
            "BULKHEAD_TIERS__FREE__WORKERS": "2",
            "ENVIRONMENT": "production",
            "SECRET_KEY": "0123456789abcdef",
            "FORCE_ERROR_ENABLED": "true",
        },
        overrides={"api_host": "::1", "data_dir": None},
    )
    assert explanation.origins == {
        "API_HOST": "the command line",
        "API_PORT": str(path),
        "LOG_LEVEL": "the environment",
        "ENVIRONMENT": "the environment",
        "SECRET_KEY": "the environment",
        "FORCE_ERROR_ENABLED": "ENVIRONMENT=production",
        "BULKHEAD_TIERS__FREE__QUEUE": f"{path}, [tiers.free]",
        "BULKHEAD_TIERS__FREE__WORKERS": "the environment",
    }


def test_environment_empty_value_is_unset(tmp_path: Path) -> None:
    """An empty variable is no value: the file's holds, or the default."""
    path = toml(tmp_path, "api_port = 9\n")
    settings = load(path, API_PORT="", DATABASE_URL="  ", LOG_LEVEL="")
    assert (settings.api_port, settings.database_url, settings.log_level) == (9, None, "info")


def test_file_is_named_by_the_environment(tmp_path: Path) -> None:
    """BULKHEAD_CONFIG names the file, and an explicit path wins over it."""
    named = toml(tmp_path, "api_port = 9\n")
    other = tmp_path / "other.toml"
    other.write_text("api_port = 10\n")
    assert load(BULKHEAD_CONFIG=str(named)).api_port == 9
    assert load(other, BULKHEAD_CONFIG=str(named)).api_port == 10
    assert load(BULKHEAD_CONFIG="").api_port == 8080


def test_file_has_toml_types(tmp_path: Path) -> None:
    """Numbers, booleans and lists are written as TOML has them, or as text."""
    path = toml(
        tmp_path,
        """
        api_port = "1234"
        trust_tier_header = false
        shutdown_grace_seconds = 1
        trusted_proxies = ["10.0.0.0/8", "fd00::/8"]
        allowed_private_networks = []
        webhook_retry_schedule = [1, 2.5]
        max_proxy_body_bytes = 10
        """,
    )
    settings = load(path)
    assert settings.api_port == 1234
    assert settings.trust_tier_header is False
    assert settings.shutdown_grace_seconds == 1.0
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "fd00::/8"]
    assert settings.allowed_private_networks == ()
    assert settings.webhook_retry_schedule == (1.0, 2.5)
    assert settings.max_proxy_body_bytes == 10


def test_environment_none_empties_what_the_file_filled(tmp_path: Path) -> None:
    """The word none is a value: no network, no bound, no retry."""
    path = toml(
        tmp_path,
        'trusted_proxies = ["10.0.0.0/8"]\nmax_proxy_body_bytes = 5\nwebhook_retry_schedule = [1]',
    )
    settings = load(
        path, TRUSTED_PROXIES="none", MAX_PROXY_BODY_BYTES="None", WEBHOOK_RETRY_SCHEDULE="none"
    )
    assert settings.trusted_proxies == ()
    assert settings.max_proxy_body_bytes is None
    assert settings.webhook_retry_schedule == ()


def test_tiers_in_the_file_replace_the_default_ones(tmp_path: Path) -> None:
    """Tiers have the file's order and names; what a table leaves out has its default."""
    path = toml(tmp_path, "[tiers.gold-plus]\nworkers = 7\n[tiers.pro]\nrate_limit = 5\n")
    assert [attrs.astuple(tier) for tier in load(path).tiers] == [
        ("gold-plus", 5, 7, 20, None, 60, 5, 15, 10),
        ("pro", 20, 30, 60, 5, 60, 5, 15, 10),
    ]


@pytest.mark.parametrize("line", ["", 'rate_limit = ""'])
def test_tiers_rate_limit_absent_or_empty_is_unlimited(tmp_path: Path, line: str) -> None:
    """A table without a rate limit means no limit, for the known names too."""
    (tier,) = load(toml(tmp_path, f"[tiers.free]\n{line}\n")).tiers
    assert tier.rate_limit is None


def test_tiers_one_value_from_the_environment() -> None:
    """One variable changes one value; empty lifts a rate limit."""
    free, pro, _ = load(
        BULKHEAD_TIERS__FREE__RATE_LIMIT="100000", BULKHEAD_TIERS__PRO__RATE_LIMIT=""
    ).tiers
    assert (free.rate_limit, free.workers) == (100_000, 10)
    assert pro.rate_limit is None


@pytest.mark.parametrize(
    "variable",
    ["BULKHEAD_TIERS__MY_TIER__QUEUE", "BULKHEAD_TIERS__my_tier__queue"],
)
@pytest.mark.parametrize("name", ["my-tier", "my_tier"])
def test_tiers_names_match_in_any_case_with_dashes_as_underscores(
    tmp_path: Path, name: str, variable: str
) -> None:
    """A shell cannot put '-' into a variable's name, so '_' stands for it."""
    (tier,) = load(toml(tmp_path, f"[tiers.{name}]\n"), **{variable: "0"}).tiers
    assert tier.queue == 0


def test_tiers_names_may_hold_two_underscores(tmp_path: Path) -> None:
    """The setting is what follows the last two underscores."""
    path = toml(tmp_path, "[tiers.a__b]\n[tiers.c_]\n")
    environ = {"BULKHEAD_TIERS__A__B__QUEUE": "1", "BULKHEAD_TIERS__C___QUEUE": "2"}
    assert [tier.queue for tier in load(path, **environ).tiers] == [1, 2]


def test_settings_say_how_many_connections_they_need() -> None:
    """The default tiers need 75, the orders 10, deliveries 4; a new PostgreSQL has enough."""
    assert load().connections_needed == 75 + 10 + 4 + 11 == 100
    assert load(WORKERS="4").connections_needed == 75 + 10 + 4 * 2 + 11 + 3 * 4


def test_settings_are_frozen() -> None:
    """Nobody changes settings after they were checked."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        load().api_port = 1  # type: ignore[misc]


def test_overrides_take_paths_and_lists() -> None:
    """A program may override with Python's own values."""
    settings = load_over({"data_dir": Path("/x"), "trusted_proxies": ("10.0.0.0/8",)})
    assert settings.data_dir == Path("/x")
    assert len(settings.trusted_proxies) == 1


def test_exempt_tenants_are_ids_in_any_case(tmp_path: Path) -> None:
    """The environment has commas, TOML a list, a program the ids themselves."""
    first, second = UUID(int=10), UUID("6f1c1f9e-3f0b-4f0e-9a55-0d2a3e6b7c11")
    text = f"{first}, {str(second).upper()}"
    assert load(EVENTS_EXEMPT_TENANTS=text).events_exempt_tenants == (first, second)
    path = toml(tmp_path, f'events_exempt_tenants = ["{first}"]\n')
    assert load(path).events_exempt_tenants == (first,)
    assert load(path, EVENTS_EXEMPT_TENANTS="none").events_exempt_tenants == ()
    assert load_over({"events_exempt_tenants": [second]}).events_exempt_tenants == (second,)


def test_lease_just_long_enough_is_taken() -> None:
    """Two seconds beyond a try's time are enough."""
    settings = load(WEBHOOK_TIMEOUT_SECONDS="0.5", DELIVERY_LEASE_SECONDS="2.5")
    assert (settings.webhook_timeout_seconds, settings.delivery_lease_seconds) == (0.5, 2.5)


def test_overrides_with_an_unknown_name_are_a_mistake() -> None:
    """A name that no setting has is refused, wherever it comes from."""
    with pytest.raises(ConfigurationError, match=r"API_PROT: is no setting; did you mean api_port"):
        load_over({"api_prot": 1})


def test_bind_has_four_forms_and_is_shown_as_it_was_given() -> None:
    """TCP of both families, all addresses, Unix sockets with their mode, inherited sockets."""
    text = "a.example:80,[::1]:81,:82,unix:/run/a.sock,unix:/run/b.sock?mode=0600,fd://3"
    settings = load(BIND=text)
    assert settings.bind == (
        Address("a.example", 80),
        Address("::1", 81),
        Address("", 82),
        SocketPath("/run/a.sock"),
        SocketPath("/run/b.sock", 0o600),
        PassedDescriptor(3),
    )
    explanation = explain_settings(environ={"BIND": text}, overrides={})
    assert {row.variable: row.value for row in rows(explanation)}["BIND"] == text
