"""The receiver as a process, from inside: for ``python -m``, and for who verifies signatures."""

from __future__ import annotations

import functools
import os
import time

import click
import msgspec
import trio

from bulkhead_trio.testing._piped import answer_lines, end_on_signal, write_line
from bulkhead_trio.testing.receiver.commands import (
    Behave,
    Done,
    Forget,
    Listening,
    Look,
    Show,
    Sum,
    Trust,
    read_command,
)
from bulkhead_trio.testing.receiver.server import Receiver, Verify


def obey(receiver: Receiver, line: bytes) -> Done:
    """Do what one line says."""
    try:
        command = read_command(line)
    except msgspec.DecodeError as error:
        return Done(error=str(error))
    match command:
        case Behave(endpoints):
            receiver.behave(endpoints)
        case Trust(secrets):
            receiver.trust(secrets)
        case Forget():
            receiver.forget()
        case Look(since):
            return Done(arrivals=receiver.arrivals(since))
        case Show(endpoint):
            return Done(received=receiver.received(endpoint))
        case Sum():
            return Done(sums=receiver.sums())
    return Done()


async def run(verify: Verify | None, *, host: str, port: int, stays: bool) -> None:
    """Serve until standard input ends, or a signal comes."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_on_signal, nursery.cancel_scope)
        async with Receiver(verify, host=host, port=port, clock=time.monotonic) as receiver:
            await write_line(Listening(host, receiver.port, os.getpid()))
            await answer_lines(
                functools.partial(obey, receiver), stays=stays, scope=nursery.cancel_scope
            )
            await trio.sleep_forever()


def command(verify: Verify | None = None) -> click.Command:
    """The command line of a receiver that judges signatures with ``verify``."""

    @click.command()
    @click.option("--host", default="127.0.0.1", show_default=True)
    @click.option("--port", default=0, show_default=True, help="0 takes any free one.")
    @click.option("--stay", is_flag=True, help="Go on when standard input ends.")
    def main(host: str, port: int, stay: bool) -> None:
        """A receiver of webhooks at /e/NUMBER, each endpoint as it is told.

        It says where it listens in one line of JSON, and then takes commands on standard input, one
        document a line: {"do": "behave", "endpoints": {"1": {"do": "answer", "status": 503}}},
        {"do": "look"}, {"do": "show", "endpoint": 1}, {"do": "sum"}, {"do": "forget"},
        {"do": "trust", "endpoints": {"1": ["whsec_..."]}}. Each is answered with a line.
        """
        trio.run(functools.partial(run, verify, host=host, port=port, stays=stay))

    return main
