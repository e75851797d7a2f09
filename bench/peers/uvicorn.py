"""The constant answer from uvicorn, with uvloop and httptools."""

from __future__ import annotations

import os
from typing import Any

import uvicorn

from bench.peers.constant import app


def serve(application: Any) -> None:
    """Serve ``application`` until told to stop."""
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    serve(app)
