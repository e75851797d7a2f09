"""``python -m bulkhead_trio.testing.receiver``: the receiver as a process."""

from bulkhead_trio.testing.receiver.running import command

if __name__ == "__main__":
    command()(prog_name="python -m bulkhead_trio.testing.receiver")
