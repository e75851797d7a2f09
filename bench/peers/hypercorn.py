"""The constant answer from Hypercorn's Trio worker."""

from __future__ import annotations

import os

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from bench.peers.constant import app


def main() -> None:
    """Serve until told to stop."""
    config = Config()
    config.bind = [f"127.0.0.1:{os.environ['PORT']}"]
    config.errorlog = None
    trio.run(serve, app, config)


if __name__ == "__main__":
    main()
