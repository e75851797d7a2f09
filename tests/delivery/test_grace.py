"""What sends under way have when the server stops: one setting says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkhead_trio.app.delivery import delivery_settings
from bulkhead_trio.config import load_settings
from bulkhead_trio.delivery.settings import DeliverySettings


def settings_with(tmp_path: Path, **environ: str) -> DeliverySettings:
    """What the server's settings mean for its deliveries."""
    return delivery_settings(
        load_settings(environ={"DATA_DIR": str(tmp_path), **environ}, overrides={})
    )


@pytest.mark.parametrize("seconds", [0, 7, 30, 90])
def test_sends_under_way_have_the_servers_grace(tmp_path: Path, seconds: int) -> None:
    """No less: what is cut off is sent again, and its receiver gets it twice."""
    settings = settings_with(tmp_path, SHUTDOWN_GRACE_SECONDS=str(seconds))
    assert settings.grace_seconds == seconds


def test_grace_is_longer_than_a_try_of_a_webhook(tmp_path: Path) -> None:
    """Unless somebody says otherwise: an orderly stop makes no duplicate."""
    settings = settings_with(tmp_path)
    assert settings.grace_seconds > settings.timeout_seconds
