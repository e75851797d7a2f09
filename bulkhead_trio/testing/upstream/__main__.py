"""``python -m bulkhead_trio.testing.upstream``: the scripted upstream as a process."""

from __future__ import annotations

import functools
import os
import ssl
from pathlib import Path

import click
import msgspec
import trio

from bulkhead_trio.testing._piped import answer_lines, end_on_signal, write_line
from bulkhead_trio.testing.upstream.commands import (
    Done,
    Drop,
    Forget,
    Listening,
    Look,
    OpenGate,
    Play,
    read_command,
)
from bulkhead_trio.testing.upstream.script import Script, read_script
from bulkhead_trio.testing.upstream.server import ScriptedUpstream


def obey(upstream: ScriptedUpstream, line: bytes) -> Done:
    """Do what one line says."""
    try:
        command = read_command(line)
    except msgspec.DecodeError as error:
        return Done(error=str(error))
    match command:
        case Play(script):
            upstream.play(script)
        case Forget():
            upstream.forget()
        case OpenGate(name):
            upstream.open_gate(name)
        case Drop(is_reset):
            upstream.drop_connections(is_reset=is_reset)
        case Look():
            return Done(seen=upstream.seen())
    return Done()


async def run(
    script: Script, *, host: str, port: int, tls: ssl.SSLContext | None, stays: bool
) -> None:
    """Serve until standard input ends, or a signal comes."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_on_signal, nursery.cancel_scope)
        async with ScriptedUpstream(script, host=host, port=port, tls=tls) as upstream:
            await write_line(Listening(upstream.url, host, upstream.port, os.getpid()))
            await answer_lines(
                functools.partial(obey, upstream), stays=stays, scope=nursery.cancel_scope
            )
            await trio.sleep_forever()


def _tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, show_default=True, help="0 takes any free one.")
@click.option(
    "--script",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON. Without it, requests are answered with themselves.",
)
@click.option(
    "--certificate", type=click.Path(exists=True, path_type=Path), help="Speak HTTPS with this."
)
@click.option("--key", type=click.Path(exists=True, path_type=Path), help="Its private key.")
@click.option("--stay", is_flag=True, help="Go on when standard input ends.")
def main(
    host: str, port: int, path: Path | None, certificate: Path | None, key: Path | None, stay: bool
) -> None:
    """An HTTP/1.1 server that misbehaves as a script tells it.

    It says where it listens in one line of JSON, and then takes commands on standard input, one
    document a line: {"do": "look"}, {"do": "play", "script": {...}}, {"do": "forget"},
    {"do": "openGate", "name": "a"}, {"do": "drop", "isReset": true}. Each is answered with a line.
    """
    try:
        script = Script() if path is None else read_script(path.read_bytes())
    except msgspec.DecodeError as error:
        raise click.ClickException(f"{path}: {error}") from error
    tls = _tls_context(certificate, key)
    trio.run(functools.partial(run, script, host=host, port=port, tls=tls, stays=stay))


if __name__ == "__main__":
    main(prog_name="python -m bulkhead_trio.testing.upstream")
