"""``python -m bulkhead_trio``: the command line."""

from bulkhead_trio.cli import main

if __name__ == "__main__":
    main(prog_name="python -m bulkhead_trio")
