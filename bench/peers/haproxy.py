"""HAProxy with one thread: a plain proxy to ``UPSTREAM``. ``DIRECTORY`` is for its files."""

from __future__ import annotations

import os
from pathlib import Path

_CONFIGURATION = """\
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 10s
  timeout client 60s
  timeout server 60s
frontend here
  bind 127.0.0.1:{port} backlog 1024
  default_backend there
backend there
  server one {address} maxconn {connections}
"""


def configuration(port: str, upstream: str, connections: str) -> str:
    """The whole file."""
    address = upstream.removeprefix("http://")
    return _CONFIGURATION.format(port=port, address=address, connections=connections)


if __name__ == "__main__":
    file = Path(os.environ["DIRECTORY"]) / "haproxy.cfg"
    file.write_text(
        configuration(
            os.environ["PORT"], os.environ["UPSTREAM"], os.environ["UPSTREAM_CONNECTIONS"]
        )
    )
    os.execvp("haproxy", ["haproxy", "-db", "-f", str(file)])  # noqa: S606
