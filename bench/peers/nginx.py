"""nginx in one process: a plain proxy to ``UPSTREAM``, or without it the constant answer.

``DIRECTORY`` is for its files.
"""

from __future__ import annotations

import os
from pathlib import Path

_CONFIGURATION = """\
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 3600;
{upstream}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
{location}
    }}
  }}
}}
"""
_UPSTREAM = """\
  upstream there {{
    server {address};
    keepalive {connections};
    keepalive_requests 1000000000;
  }}
"""
_PROXYING = """\
      proxy_pass http://there;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
"""
_ANSWERING = """\
      default_type text/plain;
      return 200 "hello";
"""


def configuration(port: str, directory: str, upstream: str | None, connections: str) -> str:
    """The whole file."""
    address = (upstream or "").removeprefix("http://")
    return _CONFIGURATION.format(
        port=port,
        directory=directory,
        upstream=_UPSTREAM.format(address=address, connections=connections) if upstream else "",
        location=_PROXYING if upstream else _ANSWERING,
    )


if __name__ == "__main__":
    place = os.environ["DIRECTORY"]
    file = Path(place) / "nginx.conf"
    file.write_text(
        configuration(
            os.environ["PORT"],
            place,
            os.environ.get("UPSTREAM"),
            os.environ.get("UPSTREAM_CONNECTIONS", "64"),
        )
    )
    os.execvp("nginx", ["nginx", "-e", "stderr", "-p", place, "-c", str(file)])  # noqa: S606
