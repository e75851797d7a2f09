"""The scripted upstream as a process: told and asked over its standard streams."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bulkhead_trio.testing.upstream import (
    Answer,
    Script,
    ScriptedUpstreamProcess,
    UpstreamProcessFailed,
    always,
    generated_digest,
)

from ._client import ask

COMMAND = [sys.executable, "-m", "bulkhead_trio.testing.upstream"]


async def test_process_plays_and_tells() -> None:
    """A script and the next one, what was seen, and nothing after forgetting."""
    with ScriptedUpstreamProcess(always(Answer(status=201, body="a"))) as upstream:
        address = ("127.0.0.1", upstream.port)
        assert (await ask(address, "/x")).status == 201
        upstream.play(always(Answer(size=1000)))
        assert len((await ask(address, "/y?z")).body) == 1000
        seen = upstream.seen()
        assert [request.target for request in seen.requests] == ["/x", "/y?z"]
        upstream.forget()
        assert upstream.seen().count == 0
        upstream.play(Script(is_listening=False))
        with pytest.raises(OSError, match=r"refused|failed"):
            await ask(address, "/x")
    with pytest.raises(RuntimeError):
        upstream.seen()


async def test_process_from_the_shell(tmp_path: Path) -> None:
    """A file with a script, one line that says where it is, commands, and an end."""
    script = tmp_path / "script.json"
    script.write_text('{"rules": [{"steps": [{"do": "answer", "content": "mirror"}]}]}')
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--script", str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        answer = await ask(("127.0.0.1", port), "/", method="POST", body=b"hello")
        assert answer.body == b"hello"
        for line in (b'{"do":"look"}\n', b"nonsense\n"):
            process.stdin.write(line)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["seen"]["requests"][0]["length"] == 5
        assert "error" in json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_process_with_a_bad_script_says_why(tmp_path: Path) -> None:
    """Where the mistake is, and no traceback."""
    script = tmp_path / "script.json"
    script.write_text('{"rules": [{"steps": []}]}')
    done = subprocess.run(
        [*COMMAND, "--script", str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "$.rules[0]" in done.stderr
    assert "Traceback" not in done.stderr


def test_process_that_ended_is_told_from_one_that_answers() -> None:
    """Its port cannot be had twice: one of two ends."""
    with ScriptedUpstreamProcess() as first:
        done = subprocess.run(
            [*COMMAND, "--host", "192.0.2.1"], capture_output=True, stdin=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
        assert done.returncode != 0
        first.play(Script())
        assert len(generated_digest(first.pid)) == 64
    with pytest.raises(UpstreamProcessFailed), ScriptedUpstreamProcess(host="192.0.2.1"):
        pass
