"""An upstream that misbehaves on purpose, in the event loop of a test or as a process of its own.

As a process: ``python -m bulkhead_trio.testing.upstream --port 0 --script FILE``.
"""

from bulkhead_trio.testing.upstream._content import generated_blocks, generated_digest
from bulkhead_trio.testing.upstream.process import ScriptedUpstreamProcess, UpstreamProcessFailed
from bulkhead_trio.testing.upstream.script import (
    Answer,
    Cut,
    End,
    Events,
    Informational,
    Raw,
    Rule,
    Script,
    WebSocket,
    always,
    read_script,
    script_json,
)
from bulkhead_trio.testing.upstream.seen import RequestSeen, Seen
from bulkhead_trio.testing.upstream.server import ScriptedUpstream, resolve_to_loopback

__all__ = [
    "Answer",
    "Cut",
    "End",
    "Events",
    "Informational",
    "Raw",
    "RequestSeen",
    "Rule",
    "Script",
    "ScriptedUpstream",
    "ScriptedUpstreamProcess",
    "Seen",
    "UpstreamProcessFailed",
    "WebSocket",
    "always",
    "generated_blocks",
    "generated_digest",
    "read_script",
    "resolve_to_loopback",
    "script_json",
]
