"""Fakes that ship with the package, for deterministic tests."""
