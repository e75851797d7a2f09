"""The plain proxy with uvicorn and httpx, on uvloop."""

from __future__ import annotations

from bench.peers.httpx import Proxy
from bench.peers.uvicorn import serve

if __name__ == "__main__":
    serve(Proxy())
