"""`create_app` answers before it has started and after its end, and says why it cannot start."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from bulkhead_trio.app import ASGIApplication, create_app
from bulkhead_trio.config import ConfigurationError, Settings, load_settings
from bulkhead_trio.http.lifespan import LifespanError, open_lifespan


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a database that is not there."""
    environ = {
        "DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": "postgresql://127.0.0.1:1/none",
        "LOG_LEVEL": "critical",
    }
    return load_settings(environ=environ, overrides={})


@pytest.fixture(autouse=True)
def logging_is_left_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, before = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


async def ask(app: ASGIApplication, kind: str, **scope: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        raise AssertionError("a refusal needs nothing of the request")

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await app({"type": kind, "path": "/health", **scope}, receive, send)
    return sent


def code_of(sent: list[dict[str, Any]]) -> tuple[int, str]:
    document = msgspec.json.decode(sent[1]["body"])
    return sent[0]["status"], document["code"]


async def test_request_before_startup_is_refused(settings: Settings) -> None:
    """A server that does not speak lifespan, or not yet, gets a clear answer: 503."""
    sent = await ask(create_app(settings), "http")
    assert code_of(sent) == (503, "shed")
    assert (b"retry-after", b"1") in [(k.lower(), v) for k, v in sent[0]["headers"]]


async def test_web_socket_before_startup_is_refused(settings: Settings) -> None:
    """So does a WebSocket: with an answer where the server can send one, otherwise closed."""
    app = create_app(settings)
    assert await ask(app, "websocket") == [{"type": "websocket.close"}]
    sent = await ask(app, "websocket", extensions={"websocket.http.response": {}})
    assert [message["type"] for message in sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert code_of(sent) == (503, "shed")


async def test_failed_start_is_told(settings: Settings) -> None:
    """A database that is not there ends the startup with the reason; then nothing is served."""
    app = create_app(settings)
    with pytest.raises(LifespanError) as raised:
        async with open_lifespan(app):
            pytest.fail("served")
    assert raised.value.stage == "startup"
    assert "127.0.0.1" in str(raised.value)
    assert code_of(await ask(app, "http")) == (503, "draining")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for `serve`; every mistake is told before anything is started."""
    monkeypatch.setenv("API_PORT", "many")
    monkeypatch.setenv("LOG_LEVEL", "loud")
    with pytest.raises(ConfigurationError, match=r"API_PORT(.|\n)*LOG_LEVEL"):
        create_app()
