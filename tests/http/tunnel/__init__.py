"""Bytes of another protocol, passed through."""
