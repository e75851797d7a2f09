"""Fuzzes the core for as long as it is told: ``python -m tests.http.engine.fuzz SECONDS``.

Guided by coverage where atheris is installed; otherwise by what comes of each input. A failure
shows the input.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
from types import ModuleType
from typing import Any

FUZZED = ("bulkhead_trio.http.engine", "bulkhead_trio.http.hypercorn._guard_rules")


def main(seconds: float) -> None:
    """Fuzz for so long."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("Without atheris: pip install atheris makes it better.")
        without_coverage(seconds, seed=random.SystemRandom().randrange(2**32))
    else:
        with_coverage(atheris, seconds)


def without_coverage(seconds: float, seed: int) -> int:
    """Mutate the corpus and what came of it; how many inputs were tried."""
    from ._fuzzing import Mutator, check

    print(f"seed {seed}", flush=True)
    mutator = Mutator(seed)
    count, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        data, places = mutator.next_input()
        try:
            seen = check(data, places)
        except BaseException as error:
            error.add_note(f"seed {seed}, input {count}: cut at {places}: {data[:1000]!r}")
            raise
        mutator.learn(data, seen)
        count += 1
    print(f"{count} inputs")
    return count


def with_coverage(atheris: Any, seconds: float) -> None:
    """Let libFuzzer choose the inputs; their first bytes say where they are cut."""
    import tempfile
    from pathlib import Path

    with atheris.instrument_imports(include=list(FUZZED)):
        fuzzing: ModuleType = importlib.import_module("tests.http.engine._fuzzing")

    def try_one(raw: bytes) -> None:
        places = [place * 3 for place in raw[:3]]
        try:
            fuzzing.check(raw[3:], places)
        except BaseException:
            print(f"cut at {places}: {raw[3:]!r}", file=sys.stderr, flush=True)
            raise

    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        corpus = Path(directory, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(fuzzing.SEEDS):
            (corpus / str(number)).write_bytes(b"\x05\x14\x28" + seed)
        words = Path(directory, "words")
        words.write_text("".join(map(as_word, fuzzing.WORDS)))
        options = [f"-max_total_time={int(seconds)}", f"-dict={words}", "-max_len=40000"]
        options += ["-print_final_stats=1", f"-artifact_prefix={directory}/"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], try_one)
        atheris.Fuzz()


def as_word(word: bytes) -> str:
    """A line of libFuzzer's dictionary."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 600)
