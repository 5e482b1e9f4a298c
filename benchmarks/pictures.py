"""The pictures of the README: commands in a terminal, and the report that they write.

Usage: `python -m benchmarks.pictures --images DIR --weights FILE --categories FILE [--config FILE]
[--width PIXELS] [--to FOLDER]`. Runs `prelabel detect`, `verify`, `report` and `export` in a
terminal of its own, and writes what stands on its screen to terminal.svg, and the report, from its
photographs on, to report.png. Needs Chromium, and `prelabel` beside this Python.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from xml.sax import saxutils

from playwright.sync_api import sync_playwright

COLUMNS = 110
# of the terminal's picture, in pixels
CELL, LINE, MARGIN = 7.8, 17, 14
# where the report's picture begins, and its height for a width
SECTION, HEIGHT = "densest", 0.75
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DETECT = "prelabel detect --input photographs --output labels --weights network.pth"
AFTER = (
    "prelabel verify labels",
    "prelabel report labels --to report.html",
    "prelabel export labels --format coco --score-threshold 0.5 --to coco",
)
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def call(line: str, folder: Path) -> str:
    """What a command writes to a terminal of `COLUMNS` columns.

    Raises:
        SystemExit: the command failed.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    started = subprocess.Popen(
        line.split(), cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = bytearray()
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # Linux's word for a terminal that nobody has open any more
            break
        if not block:
            break
        said += block
    os.close(ours)
    text = said.decode(errors="replace")
    if started.wait():
        raise SystemExit(f"{line}\n{text}\nended with exit code {started.returncode}")
    return text


def screen(text: str) -> list[str]:
    """The lines that stand on a terminal in the end, where some were written over."""
    lines = []
    for written in text.replace("\r\n", "\n").split("\n"):
        shown = ""
        for piece in written.split("\r"):
            piece, erased = CONTROL.sub("", piece), "\x1b[K" in piece
            shown = piece if erased else piece + shown[len(piece) :]
        lines += [shown[at : at + COLUMNS] for at in range(0, max(1, len(shown)), COLUMNS)]
    return [line.rstrip() for line in (lines[:-1] if lines[-1] == "" else lines)]


def drawn(lines: list[str]) -> str:
    """An SVG of the lines; those that begin with `$ ` are bright."""
    width, height = COLUMNS * CELL + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    rows = []
    for number, line in enumerate(lines):
        place = f'x="{MARGIN}" y="{MARGIN + 13 + number * LINE}"'
        colour = "#ffffff" if line.startswith("$ ") else "#b9c0c8"
        size = f'textLength="{len(line) * CELL:.1f}"'
        text = saxutils.escape(line)
        rows.append(f'<text {place} {size} fill="{colour}" xml:space="preserve">{text}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
            f'viewBox="0 0 {width:.0f} {height}" font-family="monospace" font-size="13">',
            '<rect width="100%" height="100%" rx="8" fill="#16191d"/>',
            *(row for row, line in zip(rows, lines, strict=True) if line),
            "</svg>\n",
        ]
    )


def photograph(page: Path, width: int, to: Path) -> None:
    """A screen of the report, as Chromium shows it.

    Args:
        page: the report.
        width: in pixels.
        to: the PNG to be written.

    Raises:
        SystemExit: there is no Chromium.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        raise SystemExit("no chromium or google-chrome on the PATH")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, chromium_sandbox=False)
        tab = chromium.new_page(viewport={"width": width, "height": int(width * HEIGHT)})
        tab.goto(page.as_uri())
        tab.locator(f"#{SECTION}").evaluate("part => part.scrollIntoView({behavior: 'instant'})")
        tab.screenshot(path=to)
        chromium.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="a file, or random:SEED to try this out")
    parser.add_argument("--categories", type=Path)
    parser.add_argument("--config", type=Path, help="YAML of a run, for the network's keywords")
    parser.add_argument("--width", type=int, default=1280, help="of the report's picture, pixels")
    parser.add_argument("--to", type=Path, default=Path("docs"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prelabel-") as name:
        folder = Path(name)
        (folder / "photographs").symlink_to(given.images.resolve())
        detect = DETECT
        if given.weights.startswith("random:"):
            detect = detect.replace("network.pth", given.weights)
        else:
            (folder / "network.pth").symlink_to(Path(given.weights).resolve())
        for flag, file in (("categories", given.categories), ("config", given.config)):
            if file:
                shutil.copy(file, folder / file.name)
                detect += f" --{flag} {file.name}"
        lines = []
        for command in (detect, *AFTER):
            lines += screen(f"$ {command}\n") + screen(call(command, folder)) + [""]
        given.to.mkdir(parents=True, exist_ok=True)
        (given.to / "terminal.svg").write_text(drawn(lines[:-1]))
        photograph(folder / "report.html", given.width, given.to / "report.png")


if __name__ == "__main__":
    main()
