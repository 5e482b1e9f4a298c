"""Fuzzing of the decoder: mutations of the corpus, in a child process that is watched.

`python -m tests.support.fuzz_decode --seconds 1800 --first 0 --keep DIR` prints what it tried and
found, leaves each finding's bytes in DIR, and exits 1 if there is any.
"""

from __future__ import annotations

import argparse
import random
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.images.decode import DecodeError, decode, read_header
from tests.support.hostile import corpus, peak

MAX_PIXELS = 4_000_000
MAX_SECONDS = 10  # of one core's time for one input
HANG_SECONDS = 300
# over what the corpus itself takes; 40 bytes a pixel, and some for the encoded file's copies
MAX_GROWTH = 40 * MAX_PIXELS + 150 * 2**20
MAX_SEED_BYTES = 100_000
INTERESTING = (
    0,
    1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)


def flip_bits(data: bytearray, other: bytes, choose: random.Random) -> None:
    for _ in range(choose.choice((1, 1, 2, 8, 64))):
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)


def set_bytes(data: bytearray, other: bytes, choose: random.Random) -> None:
    for _ in range(choose.choice((1, 1, 3, 20))):
        data[_early(data, choose)] = choose.randrange(256)


def set_number(data: bytearray, other: bytes, choose: random.Random) -> None:
    code = choose.choice(("B", "<H", ">H", "<I", ">I"))
    size = struct.calcsize(code)
    at = _early(data, choose)
    if at + size <= len(data):
        data[at : at + size] = struct.pack(code, choose.choice(INTERESTING) % 256**size)


def truncate(data: bytearray, other: bytes, choose: random.Random) -> None:
    del data[choose.randrange(len(data)) :]


def remove(data: bytearray, other: bytes, choose: random.Random) -> None:
    at = choose.randrange(len(data))
    del data[at : at + choose.choice((1, 2, 4, 12, 100))]


def repeat(data: bytearray, other: bytes, choose: random.Random) -> None:
    at = choose.randrange(len(data))
    part = data[at : at + choose.choice((1, 4, 12, 100, 1000))]
    data[at:at] = part * choose.choice((1, 1, 2, 50))


def splice(data: bytearray, other: bytes, choose: random.Random) -> None:
    at, start = choose.randrange(len(data)), choose.randrange(len(other))
    data[at : at + choose.choice((0, 4, 12, 100))] = other[start : start + choose.randrange(2000)]


def _early(data: bytearray, choose: random.Random) -> int:
    """A place, more often near the beginning, where the headers are."""
    return int(len(data) * choose.random() ** choose.choice((1, 3)))


MUTATIONS: tuple[Callable[[bytearray, bytes, random.Random], None], ...] = (
    flip_bits,
    set_bytes,
    set_number,
    set_number,
    truncate,
    remove,
    repeat,
    splice,
)


def mutated(known: list[bytes], number: int) -> bytes:
    """The input of that number."""
    choose = random.Random(number)
    data = bytearray(choose.choice(known))
    for _ in range(choose.choice((1, 1, 1, 2, 4))):
        if data:
            choose.choice(MUTATIONS)(data, choose.choice(known), choose)
    return bytes(data)


def check(data: bytes) -> str:
    """`ok` or the code of the error; raises whatever else the decoder does."""
    try:
        header = read_header(data, MAX_PIXELS)
        late = header.image.format == "PNG"  # its EXIF may come after the pixels
        pixels = decode(header)
    except DecodeError as error:
        assert "\n" not in str(error), "an error of several lines"
        return error.code
    assert pixels.dtype == np.uint8, f"pixels of {pixels.dtype}"
    sizes = [(header.height, header.width, 3)]
    sizes += [(header.width, header.height, 3)] if late else []
    assert pixels.shape in sizes, f"{pixels.shape} where the header says {sizes[0]}"
    return "ok"


def seeds() -> list[bytes]:
    """What is mutated: the smaller files of the corpus that are images, whole or not."""
    return [
        case.data
        for case in corpus()
        if len(case.data) <= MAX_SEED_BYTES
        and not (isinstance(case.answer, str) and case.answer in ("empty", "not_an_image"))
    ]


def work(number: int, keep: Path) -> None:
    """Try inputs from a number on; prints each number, and what came of the one before."""
    known = seeds()
    for data in known:
        check(data)
    bound = peak() + MAX_GROWTH
    came = "START"
    while came != "MEMORY":
        print(number, came, flush=True)
        # what ends the process, in C code too
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
        signal.alarm(HANG_SECONDS)
        data = mutated(known, number)
        try:
            came = check(data)
        except Exception:
            came = "EXCEPTION"
            (keep / f"{number}.exception").write_bytes(data)
            (keep / f"{number}.traceback").write_text(traceback.format_exc())
        if peak() > bound:
            came = "MEMORY"
            (keep / f"{number}.memory").write_bytes(data)
        number += 1
    print(number, came, flush=True)


def watch(seconds: float, number: int, keep: Path) -> Counter[str]:
    """Run children for so long; what came of how many inputs."""
    came: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        command = [sys.executable, "-m", "tests.support.fuzz_decode", "--work", str(number)]
        command += ["--keep", str(keep)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            for line in child.stdout:
                word, what = line.split()
                number = int(word)
                came[what] += 1
                if time.monotonic() > end:  # what comes then may be half a line
                    child.terminate()
                    break
        if child.returncode not in (0, -signal.SIGTERM):
            what = {-signal.SIGPROF: "SLOW", -signal.SIGALRM: "HANG"}.get(child.returncode, "DIED")
            came[what] += 1
            (keep / f"{number}.{what.lower()}").write_bytes(mutated(seeds(), number))
            number += 1
    del came["START"]
    return came


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.keep.mkdir(parents=True, exist_ok=True)
    if args.work is not None:
        work(args.work, args.keep)
        return 0
    came = watch(args.seconds, args.first, args.keep)
    print(f"{sum(came.values())} inputs:", dict(came.most_common()))
    return int(any(what.isupper() for what in came))


if __name__ == "__main__":
    sys.exit(main())
