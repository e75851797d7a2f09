"""Serving ASGI on sockets."""
