"""What `config show` prints."""

from __future__ import annotations

from bulkhead_trio.config import Explanation, explain_settings
from bulkhead_trio.config.display import rows


def explain(**environ: str) -> Explanation:
    return explain_settings(environ=environ, overrides={})


def test_rows_taken_back_give_the_same_settings() -> None:
    """What is shown is what the environment would have to say."""
    first = explain(
        TRUSTED_PROXIES="10.0.0.0/8,fd00::/8",
        ALLOWED_PRIVATE_NETWORKS="none",
        ADMIN_BIND="[::1]:9000",
        SHUTDOWN_GRACE_SECONDS="2.5",
        WEBHOOK_RETRY_SCHEDULE="0.5,2592000",
        EVENTS_EXEMPT_TENANTS="6f1c1f9e-3f0b-4f0e-9a55-0d2a3e6b7c11",
        WEBHOOK_TIMEOUT_SECONDS="2.5",
        SMTP_FROM="alerts@example.com",
        BULKHEAD_TIERS__FREE__RATE_LIMIT="",
        BULKHEAD_TIERS__PRO__WINDOW="0.25",
    )
    again = explain(**{row.variable: row.value for row in rows(first)})
    assert again.settings == first.settings


def test_rows_mask_secrets() -> None:
    """A password's place is shown, the password is not."""
    explanation = explain(
        DATABASE_URL="postgresql://app:hunter2@db/app?sslmode=require",
        REDIS_URL="redis://:hunter2@cache",
        SMTP_URL="smtps://mailer:hunter2@mail",
        ADMIN_API_KEY="hunter2",
        SECRET_KEY="hunter2",
    )
    shown = {row.variable: row.value for row in rows(explanation)}
    assert shown["DATABASE_URL"] == "postgresql://app:***@db/app?sslmode=require"
    assert shown["REDIS_URL"] == "redis://:***@cache"
    assert shown["SMTP_URL"] == "smtps://mailer:***@mail"
    assert shown["ADMIN_API_KEY"] == shown["SECRET_KEY"] == "***"
    assert "hunter2" not in repr(explanation)


def test_rows_name_the_origin() -> None:
    """Each row says why the value is so."""
    origins = {row.variable: row.origin for row in rows(explain(API_PORT="1"))}
    assert origins["API_PORT"] == "the environment"
    assert origins["API_HOST"] == "default"
    assert origins["BULKHEAD_TIERS__ENTERPRISE__RATE_LIMIT"] == "default"
