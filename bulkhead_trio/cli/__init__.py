"""Command line entry; filled by cli."""
