"""What is refused, how it is named, and that nothing secret is repeated."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from bulkhead_trio.config import ConfigurationError, Mistake, load_settings


def mistakes(path: Path | None = None, /, **environ: str) -> tuple[Mistake, ...]:
    return mistakes_over({}, path, **environ)


def mistakes_over(
    overrides: dict[str, object], path: Path | None = None, /, **environ: str
) -> tuple[Mistake, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config_path=path, environ=environ, overrides=overrides)
    return caught.value.mistakes


def toml(directory: Path, text: str) -> Path:
    path = directory / "bulkhead.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("API_PORT", "-1", "must be a whole number from 0 to 65535, not '-1'"),
        ("API_PORT", "65536", "must be a whole number from 0 to 65535"),
        ("API_PORT", "80.5", "must be a whole number"),
        ("API_PORT", "1_000", "must be a whole number"),
        ("API_PORT", "٣", "must be a whole number"),
        ("API_PORT", "9" * 5000, "must be a whole number"),
        ("API_HOST", "a b", "must be a host name or an IP address"),
        ("API_HOST", "300.1.1.1", "must be a host name or an IP address"),
        ("API_HOST", "a..b", "must be a host name or an IP address"),
        ("API_HOST", "*", "0.0.0.0 or :: for all"),
        ("API_HOST", "[::1", "must be a host name or an IP address"),
        ("API_HOST", "x" * 254, "must be a host name or an IP address"),
        ("DATABASE_URL", "mysql://h/db", "must be a URL that starts with postgresql://"),
        ("DATABASE_URL", "postgresql+psycopg://h/db", "must be a URL that starts with postgresql"),
        ("DATABASE_URL", "postgresql://h/db?sslmod=x", "must be a connection string of libpq"),
        ("DATABASE_URL", "postgresql://h:0/db", "must have a port from 1 to 65535"),
        ("DATABASE_URL", "postgresql://h:99999999999/db", "must have a port from 1 to 65535"),
        ("DATABASE_URL", "postgresql://u:a/b@h/db", "write / in a password as %2F"),
        ("DATABASE_URL", "nonsense", "must be a connection string of libpq"),
        ("DATA_DIR", "a\0b", "must be text of printable characters"),
        ("DATA_DIR", "~nobody-has-this-name/x", "must be a path whose home directory exists"),
        ("REDIS_URL", "http://h", "must be a URL that starts with redis:// or rediss:// or unix"),
        ("REDIS_URL", "redis://", "must name a host"),
        ("REDIS_URL", "redis://h:x", "must be a URL with a valid host and port"),
        ("REDIS_URL", "redis://h:0", "must have a port from 1 to 65535"),
        ("REDIS_URL", "unix://", "must name the path of a socket"),
        ("REDIS_URL", "redis:h", "must be a URL that starts with redis://"),
        ("REDIS_URL", "redis://[::1", "must be a URL with a valid host and port"),
        ("SMTP_URL", "mail.example.com:25", "must be a URL that starts with smtp:// or smtps://"),
        ("SMTP_URL", "smtp://mail/inbox", "must have nothing but a query after the host"),
        ("SMTP_URL", "smtp://mail#x", "must have nothing but a query after the host"),
        ("SMTP_URL", "smtp://:hunter2@mail", "must have a user where it has a password"),
        ("SMTP_URL", "smtp://u:%C3%BC@mail", "must have a user and a password of visible ASCII"),
        ("SMTP_URL", "smtp://u:a%0d%0a@mail", "must have a user and a password of visible ASCII"),
        ("SMTP_URL", "smtp://mail?starttls=maybe", "must have no other query than starttls="),
        ("SMTP_URL", "smtp://mail?timeout=3", "must have no other query than starttls="),
        ("SMTP_URL", "smtps://mail?starttls=try", "and none with smtps://"),
        ("ON_STATE_ERROR", "shrug", "must be local, allow or deny, not 'shrug'"),
        ("ADMIN_API_KEY", "two words", "must be visible ASCII characters without blanks"),
        ("ADMIN_API_KEY", "schlüssel", "must be visible ASCII characters without blanks"),
        ("ADMIN_BIND", "8081", "must be host:port or [ipv6]:port, not '8081'"),
        ("ADMIN_BIND", "localhost:", "must be host:port"),
        ("ADMIN_BIND", "localhost:70000", "must be host:port"),
        ("ADMIN_BIND", "::1:8081", "must be host:port or [ipv6]:port"),
        ("ADMIN_BIND", "[localhost]:80", "must be host:port or [ipv6]:port"),
        ("ADMIN_BIND", "127.0.0.1:8080", "must differ from the API's own address"),
        ("ENVIRONMENT", "staging", "must be development or production, not 'staging'"),
        ("SECRET_KEY", "a\x07b", "must be text of printable characters"),
        ("ALLOWED_PRIVATE_NETWORKS", "10.0.0.1/8", "must be networks without host bits"),
        ("ALLOWED_PRIVATE_NETWORKS", "10.0.0.0/8,", "must be networks such as 10.0.0.0/8"),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "must be networks such as 10.0.0.0/8 or fd00::/8"),
        ("TRUSTED_PROXIES", ",".join(["::1"] * 1001), "must have at most 1000 entries"),
        ("MAX_BODY_BYTES", "0", "must be a whole number from 1 to"),
        ("MAX_BODY_BYTES", "1MiB", "must be a whole number from 1 to"),
        ("MAX_PROXY_BODY_BYTES", "0", "must be none or a whole number from 1 to"),
        ("METRICS_PUBLIC", "perhaps", "must be true or false, not 'perhaps'"),
        ("TRUST_TIER_HEADER", "2", "must be true or false"),
        ("FORCE_ERROR_ENABLED", "t", "must be true or false"),
        ("LOG_LEVEL", "loud", "must be debug, info, warning, error or critical, not 'loud'"),
        ("LOG_FORMAT", "xml", "must be console or json, not 'xml'"),
        ("WORKERS", "0", "must be a whole number from 1 to 64"),
        ("WORKERS", "65", "must be a whole number from 1 to 64"),
        ("BIND", "8080", "must be host:port, [ipv6]:port, :port, unix:/path or fd://3, not '8080'"),
        ("BIND", "127.0.0.1:8080,", "must be host:port"),
        ("BIND", "::8080", "must be host:port"),
        ("BIND", "[::1]:99999", "must be host:port"),
        ("BIND", "unix:relative.sock", "must be host:port"),
        ("BIND", "unix:/run/", "must be host:port"),
        ("BIND", "unix:/a?mode=999", "must be host:port"),
        ("BIND", "unix:/a\x07b", "must be host:port"),
        ("BIND", "fd://2", "must be host:port"),
        ("BIND", "fd://three", "must be host:port"),
        ("BIND", ":8080,:8080", "must not name an address twice"),
        ("BIND", ",".join(f":{port}" for port in range(1, 102)), "must have at most 100 entries"),
        ("SHUTDOWN_GRACE_SECONDS", "nan", "must be a number of seconds from 0 to 3600"),
        ("SHUTDOWN_GRACE_SECONDS", "inf", "must be a number of seconds"),
        ("SHUTDOWN_GRACE_SECONDS", "1e999", "must be a number of seconds"),
        ("SHUTDOWN_GRACE_SECONDS", "-0.1", "must be a number of seconds"),
        ("WEBHOOKS_MAX_PARALLEL_DELIVERIES", "0", "must be a whole number from 1 to 100"),
        ("NOTIFICATIONS_MAX_PARALLEL_DELIVERIES", "101", "must be a whole number from 1 to 100"),
        ("WEBHOOK_RETRY_SCHEDULE", "5,,300", "must be a number of seconds from 0 to 2592000"),
        ("WEBHOOK_RETRY_SCHEDULE", "5,-1", "must be a number of seconds"),
        ("WEBHOOK_RETRY_SCHEDULE", "5,2592001", "must be a number of seconds"),
        ("WEBHOOK_RETRY_SCHEDULE", ",".join(["1"] * 101), "must have at most 100 entries"),
        ("WEBHOOK_TIMEOUT_SECONDS", "0", "must be a number of seconds from 0.1 to 120"),
        ("WEBHOOK_TIMEOUT_SECONDS", "121", "must be a number of seconds from 0.1 to 120"),
        ("WEBHOOK_SECRET_GRACE_SECONDS", "-1", "must be a number of seconds from 0 to 2592000"),
        ("WEBHOOK_DISABLE_AFTER_SECONDS", "0", "must be a number of seconds from 1 to 31536000"),
        ("DELIVERY_LEASE_SECONDS", "3601", "must be a number of seconds from 1 to 3600"),
        ("DELIVERY_LEASE_SECONDS", "15", "must be 17 or more, not 15: 2 s longer than a try takes"),
        ("DELIVERIES_RETENTION_DAYS", "0", "must be a whole number from 1 to 3650"),
        ("DELIVERIES_CONNECTIONS", "1", "must be a whole number from 2 to"),
        ("EVENTS_RATE", "0", "must be a number a second from 0.001 to"),
        ("EVENTS_BURST", "0", "must be a whole number from 1 to"),
        ("EVENTS_EXEMPT_TENANTS", "acme", "must be ids of tenants (UUIDs), not 'acme'"),
        ("EVENTS_EXEMPT_TENANTS", f"{UUID(int=1)},", "must be ids of tenants (UUIDs), not ''"),
        ("EVENTS_EXEMPT_TENANTS", f"{{{UUID(int=1)}}}", "must be ids of tenants (UUIDs)"),
        ("SMTP_FROM", "postmaster", "must be a mail address such as alerts@example.com"),
        ("SMTP_FROM", "Acme <a@example.com>", "must be a mail address"),
        ("SMTP_FROM", "a@example.com\r\nBcc: b@example.com", "must be a mail address"),
        ("SMTP_FROM", "a@exa mple.com", "must be a mail address"),
        ("SMTP_FROM", f"{'a' * 65}@example.com", "must be a mail address"),
        ("BULKHEAD_TIERS__FREE__WORKERS", "0", "must be a whole number from 1 to"),
        ("BULKHEAD_TIERS__FREE__WORKERS", "", "must be a whole number from 1 to"),
        ("BULKHEAD_TIERS__FREE__QUEUE", "-1", "must be a whole number from 0 to"),
        ("BULKHEAD_TIERS__FREE__CONNECTIONS", "many", "must be a whole number from 1 to"),
        ("BULKHEAD_TIERS__FREE__RATE_LIMIT", "0", "(empty: unlimited)"),
        ("BULKHEAD_TIERS__FREE__WINDOW", "0", "must be a number of seconds from 0.001 to 86400"),
        ("BULKHEAD_TIERS__FREE__COOLDOWN", "NaN", "must be a number of seconds"),
        ("BULKHEAD_TIERS__FREE__TIMEOUT", "3601", "must be a number of seconds"),
        ("BULKHEAD_TIERS__FREE__FAILURE_THRESHOLD", "0", "must be a whole number from 1 to"),
        ("BULKHEAD_TIERS__GOLD__WORKERS", "1", "names a tier that does not exist; there are free"),
        ("BULKHEAD_TIERS__FREE__WORKER", "1", "is no setting of a tier; did you mean workers?"),
        ("BULKHEAD_TIERS__FREE__ZZZ", "1", "is no setting of a tier; there are connections, "),
        ("BULKHEAD_TIERS__FREE", "1", "must be named BULKHEAD_TIERS__TIER__SETTING"),
        ("BULKHEAD_TIERS_FREE_WORKERS", "1", "must be named BULKHEAD_TIERS__TIER__SETTING"),
    ],
)
def test_mistake_in_the_environment_is_named_with_its_reason(
    variable: str, value: str, reason: str
) -> None:
    """One wrong variable is one mistake, under its own name, saying what it must be."""
    (mistake,) = mistakes(**{variable: value})
    assert mistake.variable == variable
    assert reason in mistake.reason
    assert len(str(mistake)) < 300


@pytest.mark.parametrize(
    ("text", "variable", "reason"),
    [
        ("api_port = true", "API_PORT", "must be a whole number from 0 to 65535, not True"),
        ("api_port = 80.0", "API_PORT", "must be a whole number from 0 to 65535, not 80.0"),
        ("[api_port]", "API_PORT", "must be a whole number from 0 to 65535, not a table"),
        ("api_port = 2024-01-01", "API_PORT", "not a date"),
        ("api_host = 1", "API_HOST", "must be a host name"),
        ("shutdown_grace_seconds = nan", "SHUTDOWN_GRACE_SECONDS", "must be a number of seconds"),
        ("shutdown_grace_seconds = true", "SHUTDOWN_GRACE_SECONDS", "must be a number of seconds"),
        ("metrics_public = 1", "METRICS_PUBLIC", "must be true or false, not 1"),
        ("trusted_proxies = [1]", "TRUSTED_PROXIES", "must be networks such as"),
        ("trusted_proxies = 1", "TRUSTED_PROXIES", "must be networks such as"),
        ("log_level = 1", "LOG_LEVEL", "must be debug, info"),
        ("admin_bind = 1", "ADMIN_BIND", "must be host:port"),
        ("data_dir = 1", "DATA_DIR", "must be text"),
        ("database_url = 1", "DATABASE_URL", "must be text"),
        ("api_prot = 1", "API_PROT", "is no setting; did you mean api_port?"),
        ("API_PORT = 1", "API_PORT", "is no setting; did you mean api_port?"),
        ("zzz = 1", "ZZZ", "is no setting"),
        ("tiers = 1", "BULKHEAD_TIERS", "must be tables, at least one: [tiers.NAME], not 1"),
        ("[tiers]", "BULKHEAD_TIERS", "must be tables, at least one: [tiers.NAME]"),
        ("[tiers]\nfree = 1", "BULKHEAD_TIERS__FREE", "must be a table, not 1"),
        ("[tiers.Free]", "BULKHEAD_TIERS", "the tier name 'Free' must be a lower-case letter"),
        (f"[tiers.{'a' * 33}]", "BULKHEAD_TIERS", "must be a lower-case letter"),
        ('[tiers."a b"]', "BULKHEAD_TIERS", "the tier name 'a b' must be"),
        ("[tiers.a-b]\n[tiers.a_b]", "BULKHEAD_TIERS__A_B", "stands for both a-b and a_b"),
        ("[tiers.free]\nworker = 1", "BULKHEAD_TIERS__FREE__WORKER", "did you mean workers?"),
        ("[tiers.free]\nname = 'x'", "BULKHEAD_TIERS__FREE__NAME", "is no setting of a tier"),
        ("[tiers.free]\nqueue = -1", "BULKHEAD_TIERS__FREE__QUEUE", "must be a whole number"),
        ("[tiers.free]\nwindow = inf", "BULKHEAD_TIERS__FREE__WINDOW", "must be a number of"),
    ],
)
def test_mistake_in_the_file_has_the_variables_name_and_the_file(
    tmp_path: Path, text: str, variable: str, reason: str
) -> None:
    """The same names as in the environment, and where to look."""
    path = toml(tmp_path, text)
    (mistake,) = mistakes(path)
    assert mistake.variable == variable
    assert reason in mistake.reason
    assert mistake.source.startswith(str(path))
    assert str(mistake).endswith(f"(from {mistake.source})")


def test_mistakes_are_all_listed(tmp_path: Path) -> None:
    """Every source and every kind of mistake at once, in the order of the variables."""
    path = toml(
        tmp_path,
        'api_host = "a b"\nlog_level = "loud"\nbogus = 1\n[tiers.free]\nworkers = 0\nqueue = -1\n',
    )
    found = mistakes_over(
        {"api_port": "x"},
        path,
        ENVIRONMENT="production",
        LOG_FORMAT="xml",
        ADMIN_API_KEY="a\x07b",
        BULKHEAD_TIERS__GOLD__WORKERS="1",
    )
    assert [mistake.variable for mistake in found] == [
        "API_HOST",
        "API_PORT",
        "ADMIN_API_KEY",
        "LOG_LEVEL",
        "LOG_FORMAT",
        "BULKHEAD_TIERS__GOLD__WORKERS",
        "BULKHEAD_TIERS__FREE__WORKERS",
        "BULKHEAD_TIERS__FREE__QUEUE",
        "SECRET_KEY",
        "BOGUS",
    ]


def test_lease_that_a_try_outlasts_is_a_mistake() -> None:
    """Whichever of the two was set, the lease is named with both."""
    (mistake,) = mistakes(WEBHOOK_TIMEOUT_SECONDS="58.5")
    assert mistake.variable == "DELIVERY_LEASE_SECONDS"
    assert mistake.reason == (
        "must be 60.5 or more, not 60: 2 s longer than a try takes, WEBHOOK_TIMEOUT_SECONDS=58.5"
    )


def test_lease_is_not_judged_by_a_timeout_that_is_wrong() -> None:
    """One mistake is one line."""
    (mistake,) = mistakes(WEBHOOK_TIMEOUT_SECONDS="x", DELIVERY_LEASE_SECONDS="1")
    assert mistake.variable == "WEBHOOK_TIMEOUT_SECONDS"


def test_events_that_cannot_be_divided_are_a_mistake() -> None:
    """Each process gets a part of them."""
    (mistake,) = mistakes(EVENTS_BURST="2", WORKERS="3")
    assert mistake.variable == "EVENTS_BURST"
    assert "must be 3 or more with WORKERS=3, not 2" in mistake.reason


def test_mistakes_are_the_errors_text() -> None:
    """A line each, as the command line prints them."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ={"API_PORT": "x", "WORKERS": "y"}, overrides={})
    lines = str(caught.value).splitlines()
    assert lines == [str(mistake) for mistake in caught.value.mistakes]
    assert [line.split(":")[0] for line in lines] == ["API_PORT", "WORKERS"]


def test_production_requires_a_secret_key() -> None:
    """Without one, production does not start; the reason says how to make one."""
    (mistake,) = mistakes(ENVIRONMENT="production")
    assert mistake.variable == "SECRET_KEY"
    assert "openssl rand" in mistake.reason
    assert not mistake.source


@pytest.mark.parametrize("variable", ["SECRET_KEY", "ADMIN_API_KEY"])
def test_production_points_out_short_secrets(variable: str) -> None:
    """Short secrets start all the same, and are named for a warning; elsewhere they are fine."""
    assert load_settings(environ={variable: "short"}, overrides={}).short_secrets == ()
    environ = {"ENVIRONMENT": "production", "SECRET_KEY": "0123456789abcdef", variable: "short"}
    assert load_settings(environ=environ, overrides={}).short_secrets == (variable,)


def test_mistake_in_a_secret_hides_no_other_and_adds_none() -> None:
    """A secret key that is wrong is not missing as well."""
    (mistake,) = mistakes(ENVIRONMENT="production", SECRET_KEY="a\x07b")
    assert mistake.variable == "SECRET_KEY"


def test_tier_set_twice_in_different_case_is_a_mistake() -> None:
    """Which one would win is nobody's guess."""
    (mistake,) = mistakes(BULKHEAD_TIERS__FREE__QUEUE="1", BULKHEAD_TIERS__free__queue="2")
    assert mistake.variable == "BULKHEAD_TIERS__free__queue"
    assert "is set twice, as BULKHEAD_TIERS__FREE__QUEUE too" in mistake.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"api_port = ", "is not TOML"),
        (b"a = 1\na = 2", "is not TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a = " + b"9" * 5000, "is not TOML"),
        (b"a = " + b"[" * 5000, "is not TOML"),
    ],
)
def test_file_that_is_not_toml_is_a_mistake(tmp_path: Path, content: bytes, reason: str) -> None:
    """Whatever is in the file, the answer is a mistake; what else can be told is told."""
    path = tmp_path / "bulkhead.toml"
    path.write_bytes(content)
    found = mistakes(path, API_PORT="x", BULKHEAD_TIERS__GOLD__QUEUE="1", ENVIRONMENT="production")
    assert [mistake.variable for mistake in found] == ["BULKHEAD_CONFIG", "API_PORT"]
    assert reason in found[0].reason


@pytest.mark.parametrize("name", ["absent.toml", "", "a\0b"])
def test_file_that_cannot_be_read_is_a_mistake(tmp_path: Path, name: str) -> None:
    """A file that was asked for must be there: absent, a directory, or no path at all."""
    (mistake,) = mistakes(tmp_path / name)
    assert mistake.variable == "BULKHEAD_CONFIG"
    assert "\0" not in str(mistake)


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SECRET_KEY", f"{SECRET}\x07"),
        ("ADMIN_API_KEY", f"{SECRET} x"),
        ("DATABASE_URL", SECRET),
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/db"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:x/db"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}%zz@h/db"),
        ("DATABASE_URL", f"host=h password {SECRET}"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}\x07@h/db"),
        ("REDIS_URL", f"http://:{SECRET}@h"),
        ("REDIS_URL", f"redis://:{SECRET}@h:x"),
        ("REDIS_URL", f"redis://:{SECRET}@[::1"),
        ("SMTP_URL", f"smtp://u:{SECRET}@"),
        ("SMTP_URL", SECRET),
    ],
)
def test_mistake_never_repeats_a_secret(tmp_path: Path, variable: str, value: str) -> None:
    """However wrong a value is that may hold a secret, no part of it is printed."""
    (mistake,) = mistakes(**{variable: value})
    assert mistake.variable == variable
    assert SECRET not in str(mistake)
    (option,) = mistakes_over({variable.lower(): value})
    assert SECRET not in str(option)
    (listed,) = mistakes(toml(tmp_path, f'{variable.lower()} = ["{SECRET}"]'))
    assert SECRET not in str(listed)


def test_mistake_shows_no_screenful_and_one_line() -> None:
    """A long value is cut, and control characters are escaped."""
    (mistake,) = mistakes(LOG_LEVEL="x" * 100_000 + "\n")
    assert len(str(mistake)) < 300
    (other,) = mistakes(LOG_LEVEL="x\ny\x1b[2J")
    assert str(other).isprintable()


def test_limits_that_cannot_be_divided_name_their_tier() -> None:
    """With more workers than a tier has of something, some would have none of it."""
    found = mistakes(WORKERS="6", BULKHEAD_TIERS__PRO__RATE_LIMIT="5", ORDERS_BURST="5")
    assert [mistake.variable for mistake in found] == [
        "BULKHEAD_TIERS__FREE__CONNECTIONS",
        "BULKHEAD_TIERS__PRO__RATE_LIMIT",
        "ORDERS_WORKERS",
        "ORDERS_BURST",
    ]
    assert found[0].reason == (
        "must be 6 or more with WORKERS=6, not 5: each process gets a part of tier free"
    )


def test_admin_address_differs_from_every_one_of_bind() -> None:
    """What `BIND` names counts then, and not the address that it replaces."""
    (mistake,) = mistakes(BIND="127.0.0.1:80,127.0.0.1:81", ADMIN_BIND="127.0.0.1:81")
    assert mistake.variable == "ADMIN_BIND"
    load_settings(environ={"BIND": ":81", "ADMIN_BIND": "127.0.0.1:8080"}, overrides={})
