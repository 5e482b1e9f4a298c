"""What all jobs share: flags that end in one line, log lines, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import os
import re
import select
import shlex
import signal
import sys
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any, NoReturn

from jobs import lacking
from pipeline import words
from pipeline.errors import RunError, UsageError, nearest
from pipeline.locations import checked_url
from pipeline.store import failures, objects, urls


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are `UsageError`s, and that names the nearest valid flag."""

    def __init__(self, job: str, description: str | None, epilog: str) -> None:
        super().__init__(
            prog=words.command(job),
            description=description,
            epilog=f"{epilog} After Ctrl-C the exit code is 130, after SIGTERM 143.",
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        # of all flags without a type of their own: a script's variable may hold nothing
        self.register("type", None, _filled)

    def error(self, message: str) -> NoReturn:
        for kind, noun in (("float", "number"), ("int", "whole number")):
            message = re.sub(
                f"argument (.+): invalid {kind} value: (.*)",
                rf"\1 must be a {noun}, not \2",
                message,
            )
        message = re.sub("argument (.+): is empty", r"\1 is empty", message)
        raise UsageError(f"{message}; see --help")

    def given(self, arguments: list[str], *needed: str) -> dict[str, Any]:
        """The values that the user gave, by name.

        Args:
            arguments: of the command line.
            needed: names of flags without which there is nothing to do.

        Raises:
            UsageError: an unknown or malformed argument, or one that is missing.
        """
        known, unknown = self.parse_known_args(arguments)
        if unknown:
            valid = [option for action in self._actions for option in action.option_strings]
            flag = unknown[0].split("=")[0]
            if not flag.startswith("-"):
                raise UsageError(f"{self._stray(unknown[0], arguments, known)}; see --help")
            raise UsageError(f"unknown argument {nearest(flag, valid)}; see --help")
        for name in needed:
            if name not in known:
                raise UsageError(f"--{name} is missing; see --help")
        return vars(known)

    def _stray(self, word: str, arguments: list[str], known: argparse.Namespace) -> str:
        """What to say of a word that no flag takes."""
        before = arguments[: arguments.index(word)]
        flag = next((one for one in reversed(before) if one.startswith("-")), None)
        action = self._option_string_actions.get(flag or "")
        if action and action.nargs is None:
            return (
                f"{flag} takes one value, so {word!r} is left over: put a glob in quotes, or give "
                "the folder"
            )
        flags = [one for one in ("--input", "--output") if one in self._option_string_actions]
        missing = [one for one in flags if one[2:] not in known]
        if missing and not flag:
            bare = itertools.takewhile(lambda one: not one.startswith("-"), arguments)
            pairs = zip(missing, map(shlex.quote, bare), strict=False)
            return f"paths need their flags: write {' '.join(map(' '.join, pairs))}"
        return f"{word!r} belongs to no flag"


def _filled(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty")
    return text


def add_agnostic_nms(parser: Parser) -> None:
    """The flag of all jobs that can leave doubles out."""
    parser.add_argument(
        "--agnostic-nms",
        type=float,
        metavar="IOU",
        help="one object, one box: leave out boxes of any class that overlap a better one by more "
        "than this IoU, such as 0.7 (default: off)",
    )


def as_typed(error: UsageError, given: Collection[str]) -> UsageError:
    """The error with flags in the place of the fields that a command line gave.

    Args:
        error: begins with the names of the fields that it is about, `a`, `a and b` or `a, b and c`.
        given: names of fields.
    """
    message = str(error)
    names = re.match(r"\w+(?:, \w+)*(?: and \w+)?", message)
    about = names[0] if names else ""
    flags = re.sub(r"\w+", lambda m: flag(m[0]) if m[0] in given else m[0], about)
    return UsageError(flags + message.removeprefix(about))


def flag(field: str) -> str:
    """The one that gives a field; of those that hold several pairs, a flag gives one."""
    several = ("http_headers", "s3_options")
    return f"--{(field[:-1] if field in several else field).replace('_', '-')}"


def _is_special(path: str) -> bool:
    # /dev/stdout is a link, which may lead to a file; it is the link that would be replaced
    links = os.path.dirname(path) in ("/dev", "/dev/fd")
    return links or (os.path.exists(path) and not os.path.isfile(path))


class Target:
    """A file that a job writes at its end.

    Raises:
        UsageError: it is a folder, a device or a pipe, or nothing serves its URL.
    """

    def __init__(self, flag: str, named: str, example: str) -> None:
        """
        Args:
            flag: with which the user named it.
            named: path or URL.
            example: of a name.
        """
        self.url = checked_url(flag, named)
        self.fs, self.path = urls.filesystem(self.url)
        kind = ""
        if named.endswith("/") or (urls.is_local(self.fs) and os.path.isdir(self.path)):
            kind = "a folder"
        elif urls.is_local(self.fs) and _is_special(self.path):
            kind = "a device or a pipe, which would be replaced"
        if kind:
            raise UsageError(
                f"{flag} {self.url} is {kind}; give the name of a file, such as {example}"
            )

    def write(self, data: bytes) -> None:
        """
        Raises:
            UsageError: it cannot be written.
        """
        try:
            objects.put(self.fs, self.path, data)
        except OSError as error:
            raise failures.unusable("write", self.url, error) from error


def leave(code: int) -> NoReturn:
    """End this process, which has used Ray or torch, with an exit code.

    What Python would tidy up takes two seconds, and Ray can wait for itself for ever meanwhile
    (see `pipeline.cluster.client`).
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if ray := sys.modules.get("ray"):
        ray.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):  # whoever read it has seen enough
            stream.flush()
    os._exit(code)


class LineHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Log lines on stderr, on a terminal in place of a live line that may stand there."""

    def emit(self, record: logging.LogRecord) -> None:
        if self.stream.isatty():
            self.stream.write("\r\033[K")
        super().emit(record)


class Terminated(BaseException):
    """SIGTERM; like KeyboardInterrupt not to be caught by mistake."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _nobody_reads() -> bool:
    """Whether it is the output that is closed, as by `head`, and not a connection."""
    try:
        looked = select.poll()
        looked.register(sys.stdout, 0)
    except (AttributeError, OSError, TypeError, ValueError):  # no poll, or no file
        return False
    return any(event & select.POLLERR for _, event in looked.poll(0))


def _after(error: BaseException, kept: str) -> str:
    """What the user should know after it: what whoever raised it noted, and what always holds."""
    return "; ".join([*getattr(error, "__notes__", ()), kept])


def main(name: str, job: Callable[[list[str]], int], arguments: list[str] | None, kept: str) -> int:
    """Run a job; every end that is not its own becomes one line on stderr and an exit code.

    Args:
        name: of the job; before each line stands what it is called by.
        job: takes the arguments, returns the exit code.
        arguments: in place of the command line's.
        kept: what the user should know after an interruption.
    """
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=[LineHandler()]
    )
    # of others only warnings: they say where credentials are from, or log them
    for package in ("pipeline", "jobs"):
        logging.getLogger(package).setLevel("DEBUG" if os.environ.get("PRELABEL_DEBUG") else "INFO")
    signal.signal(signal.SIGTERM, _terminate)
    name = f"prelabel {name}"
    try:
        return job(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        print(f"{name}: {words.printable(error, 2000)}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"{name}: {lacking(error) or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"{name}: interrupted; {_after(error, kept)}", file=sys.stderr)
        return 130
    except Terminated as error:
        print(f"{name}: terminated; {_after(error, kept)}", file=sys.stderr)
        return 143
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 128 + signal.SIGPIPE  # as a shell has it
        logging.getLogger("jobs").debug("traceback", exc_info=True)
        text = words.printable(" ".join(str(error).split()), 1000)
        kind = "" if isinstance(error, RunError) else f"{type(error).__name__}: "
        print(f"{name}: {kind}{text}; {_after(error, kept)}", file=sys.stderr)
        return 1
