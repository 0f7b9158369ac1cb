"""Mutates real model files, loads them and asks what was loaded; a crash or a hang is a finding.

``make fuzz`` (for ``SECONDS``, from file number ``FIRST`` on) prints what became of the files, and
ends with status 1 if one killed or stalled its process, or raised something that is not a refusal.
A finding is kept in ``--save`` and repeated by its number: the number alone makes the file.
"""

import argparse
import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import joblib
import numpy as np

from benchmarks import machine
from tests.estimators import dump
from tests.unit.ml import zoo
from webapp.errors import ModelRejectedError
from webapp.ml.loading.loader import load_estimator
from webapp.ml.loading.policy import load_policy

BATCH = 400
FILE_SECONDS = 20
MEMORY_BYTES = 3 * 2**30
LARGEST_BYTES = 60_000
_PROGRESS = struct.Struct("<qd")


Mutation = Callable[[random.Random, bytearray], None]


@cache
def seeds() -> list[tuple[str, bytes, object]]:
    """Return the files that are mutated: name, bytes and what to ask their model."""
    chosen = [(name, *zoo.fitted(name)) for name in zoo.names()]
    chosen += [(name, *both) for name, both in zoo.compositions().items()]
    files = []
    for number, (name, estimator, X) in enumerate(chosen):
        data = dump(estimator, protocol=(2, 4, 5)[number % 3])
        if len(data) <= LARGEST_BYTES:
            files.append((name, data, X[:10] if hasattr(X, "__getitem__") else X))
    return files


def flip(chance: random.Random, data: bytearray) -> None:
    """Change one bit."""
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def overwrite(chance: random.Random, data: bytearray) -> None:
    """Write a number that is likely to matter over eight, four or one byte."""
    width = chance.choice((1, 2, 4, 8))
    value = chance.choice((0, 1, -1, -2, 127, 255, 2**15, 2**31 - 1, -(2**31), 10**6, 2**62))
    place = chance.randrange(max(1, len(data) - width))
    if chance.random() < 0.7:
        place -= place % 8 or 0
    data[place : place + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")


def operate(chance: random.Random, data: bytearray) -> None:
    """Put a pickle operation somewhere."""
    data[chance.randrange(len(data))] = chance.choice(b"()}]abehqstuNKJMXR\x81\x85\x86\x93\x94c0.")


def delete(chance: random.Random, data: bytearray) -> None:
    """Take some bytes out."""
    place = chance.randrange(len(data))
    del data[place : place + chance.choice((1, 1, 2, 8, 64))]


def repeat(chance: random.Random, data: bytearray) -> None:
    """Put a piece in again."""
    place, length = chance.randrange(len(data)), chance.choice((1, 2, 8, 64, 512))
    data[place:place] = data[place : place + length]


def splice(chance: random.Random, data: bytearray) -> None:
    """Go on with another file."""
    other = chance.choice(seeds())[1]
    data[chance.randrange(len(data)) :] = other[chance.randrange(len(other)) :]


def cut(chance: random.Random, data: bytearray) -> None:
    """End early."""
    del data[chance.randrange(len(data)) :]


def rename(chance: random.Random, data: bytearray) -> None:
    """Put the text of one name where another of the same length stands."""
    names = [module + b"" for module in (b"sklearn", b"numpy", b"joblib", b"dtype", b"shape")]
    old, new = chance.sample(names, 2)
    place = data.find(old, chance.randrange(len(data)))
    if place >= 0:
        data[place : place + len(old)] = new.ljust(len(old), b"_")[: len(old)]


MUTATIONS: tuple[tuple[Mutation, int], ...] = (
    (flip, 5),
    (overwrite, 6),
    (operate, 3),
    (delete, 2),
    (repeat, 2),
    (splice, 1),
    (cut, 1),
    (rename, 1),
)


def make(number: int) -> tuple[str, bytes, object]:
    """Make the file of a number: always the same."""
    chance = random.Random(number)
    which = chance.randrange(len(seeds()))
    name, honest, X = seeds()[which]
    data = bytearray(honest)
    kinds, weights = zip(*MUTATIONS, strict=True)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if not data:
            break
        chance.choices(kinds, weights)[0](chance, data)
    packed = bytes(data)
    if chance.random() < 0.05:
        packed = zlib.compress(packed)
    return name, packed, X


def load_and_ask(number: int) -> tuple[str, str]:
    """Load the file of a number and ask its model; tell what became of it."""
    _, data, X = make(number)
    try:
        estimator = load_estimator(data)
    except ModelRejectedError as error:
        return "refused", error.details["reason"]
    except BaseException as error:
        return "not a refusal", type(error).__name__
    # Python's exceptions are fine here: a prediction that fails is answered as such.
    with np.errstate(all="ignore"):
        for _ in zoo.ask(estimator, X):
            pass
    return "accepted", "and asked for predictions"


@dataclass
class Findings:
    """What became of the files."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad: list[tuple[int, str]] = field(default_factory=list)


def run_batch(first: int, findings: Findings) -> int:
    """Try a batch in a process of its own; return the number to go on with."""
    progress = mmap.mmap(-1, _PROGRESS.size)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _be_child(first, progress, write)
    os.close(write)
    status = _watch(child, progress)
    with os.fdopen(read) as lines:
        for line in lines:
            number, outcome, what = line.rstrip("\n").split("\t")
            findings.outcomes[outcome, what] += 1
            if outcome == "not a refusal":
                findings.bad.append((int(number), what))
    number, _ = _PROGRESS.unpack(progress[:])
    progress.close()
    if status == 0:
        return first + BATCH
    what = "hang" if status == -signal.SIGKILL else f"signal {-status}"
    findings.bad.append((number, what))
    findings.outcomes["crashed or hung", what] += 1
    return int(number) + 1


def _be_child(first: int, progress: mmap.mmap, write: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    for number in range(first, first + BATCH):
        progress[:] = _PROGRESS.pack(number, time.monotonic())
        outcome, what = load_and_ask(number)
        os.write(write, f"{number}\t{outcome}\t{what}\n".encode())
    os._exit(0)


def _watch(child: int, progress: mmap.mmap) -> int:
    progress[:] = _PROGRESS.pack(0, time.monotonic())
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        _, since = _PROGRESS.unpack(progress[:])
        if time.monotonic() - since > FILE_SECONDS:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)


def report(findings: Findings, first: int, seconds: float) -> str:
    """Write the figures as a Markdown table."""
    total = sum(findings.outcomes.values())
    rows = [
        f"{machine.describe()}: {total:,} files from number {first} on in {seconds:,.0f} s.",
        "",
        "| outcome | files |",
    ]
    rows += ["|---|---:|"]
    for (outcome, what), count in sorted(findings.outcomes.items(), key=lambda item: -item[1]):
        rows.append(f"| {outcome}: {what} | {count:,} |")
    return "\n".join(rows)


def main() -> int:
    """Fuzz for a while; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--save", type=Path, help="folder for files that are findings")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    joblib.parallel_config(backend="threading", n_jobs=1)
    load_policy()
    seeds()
    findings, number, began = Findings(), options.first, time.monotonic()
    while time.monotonic() - began < options.seconds:
        number = run_batch(number, findings)
    print(report(findings, options.first, time.monotonic() - began))
    for bad, what in findings.bad:
        name, data, _ = make(bad)
        print(f"FOUND {what}: file {bad}, made of {name}", file=sys.stderr)
        if options.save:
            options.save.mkdir(parents=True, exist_ok=True)
            (options.save / f"{bad}.joblib").write_bytes(data)
    return 1 if findings.bad else 0


if __name__ == "__main__":
    sys.exit(main())
