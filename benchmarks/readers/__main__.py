"""One reader on one folder: `python -m benchmarks.readers READER FOLDER`.

Prints as JSON `{"version": of the reader, "boxes": Found}`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import sys
import warnings

from benchmarks.readers.table import READERS


def main(reader: str, folder: str) -> None:
    warnings.filterwarnings("ignore")
    _, package, read = READERS[reader]
    with contextlib.redirect_stdout(sys.stderr):  # some readers talk
        result = {"version": importlib.metadata.version(package), "boxes": read(folder)}
    print(json.dumps(result, default=float))


if __name__ == "__main__":
    main(*sys.argv[1:])
