"""Boxes for every image in a bucket, and what to do with them."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

from pipeline import words
from pipeline.errors import nearest

# in the order in which a person comes to need them
JOBS = tuple(
    "demo detect plan status verify report evaluate calibrate select review train diff export "
    "bench".split()
)
HEAD = "usage: prelabel JOB ...       (or python -m jobs.JOB ...)"
TAIL = """\
prelabel JOB --help shows a job's flags, prelabel --version the version. The first thing to try:

  prelabel detect --input FOLDER --output LABELS"""


def overview() -> str:
    """Every job with what it does; read, not imported, since some bring torch or Ray."""
    lines = [HEAD, "", str(__doc__), ""]
    for job in JOBS:
        source = Path(__file__).with_name(f"{job}.py").read_text(encoding="utf-8")
        lines.append(f"  {job:10} {(ast.get_docstring(ast.parse(source)) or '').splitlines()[0]}")
    return "\n".join([*lines, "", TAIL])


def main() -> int:
    """Do what the command line says; a job ends this process itself, with its exit code."""
    job = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if job in ("-h", "--help", "help"):
        print(overview())
        return 0
    if job in ("-V", "--version"):
        print(f"prelabel {words.version() or 'of a working directory'}")
        return 0
    if job not in JOBS:
        print(f"prelabel: unknown job {nearest(job, JOBS)}; see prelabel --help", file=sys.stderr)
        return 2
    del sys.argv[1]
    runpy.run_module(f"jobs.{job}", run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
