"""Objects on any store: reads that are tried again, writes that happen whole or not at all."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pyarrow as pa
import tenacity
from fsspec import AbstractFileSystem

from pipeline import words
from pipeline.errors import RunError, UsageError
from pipeline.reading import Reading
from pipeline.store import failures, urls, web

log = logging.getLogger(__name__)
T = TypeVar("T")
ATTEMPTS = 13
# for the first that is asked of a store: one that is not there is not to be waited for long
FIRST_ATTEMPTS = 3
CONTENT = (pa.ArrowException, json.JSONDecodeError)
CONTENT_ATTEMPTS = 3
# of an error after the last attempt, lest whoever called tries all of them again
ENOUGH = "no retries are left"
# 1, 2, 4 ... seconds, each with up to one more
RETRY_WAIT = tenacity.wait_exponential_jitter(initial=1, max=30, jitter=1)


def retrying(action: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """The action's result; what can pass is tried again after a growing, jittered pause.

    By default for about four minutes: a store that is away for a while ends no run. Content that
    makes no sense is read again, too, for a body may have been cut short. Attempts do not multiply
    where the action, too, has parts that are tried again: what such a part has tried more than
    once is not tried again.

    Raises:
        OSError: it failed for good; also for what the file systems do not raise as one.
        pyarrow.ArrowException, json.JSONDecodeError: the content is not what it should be.
        RunError: as the action raises it.
    """

    def ends(state: tenacity.RetryCallState) -> bool:
        senseless = state.outcome and isinstance(state.outcome.exception(), CONTENT)
        return state.attempt_number >= (CONTENT_ATTEMPTS if senseless else attempts)

    retry = tenacity.Retrying(
        stop=ends,
        wait=RETRY_WAIT,
        retry=tenacity.retry_if_exception(_can_pass),
        before_sleep=_say,
        reraise=True,
    )
    try:
        return retry(action)
    except Exception as error:  # each file system has its own
        is_known = isinstance(error, (OSError, RunError, *CONTENT))
        told = error if is_known else OSError(words.explain(error))
        if attempts > 1:
            told.add_note(ENOUGH)
        if is_known:
            raise
        raise told from error


def _can_pass(error: BaseException) -> bool:
    if ENOUGH in getattr(error, "__notes__", ()):
        return False
    return isinstance(error, CONTENT) or failures.classify(error)[1]


def _say(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if error and state.attempt_number > 1:
        log.warning("the store failed (%s); trying again", words.explain(error))


def opened(fs: AbstractFileSystem, path: str) -> Any:
    """An object as a file; what it reads by ranges is tried again, as by `retrying`.

    Raises:
        OSError: it cannot be opened.
    """
    file = retrying(lambda: fs.open(path))
    cache = getattr(file, "cache", None)
    if cache is not None:  # files on a disk have none
        fetch = cache.fetcher
        cache.fetcher = lambda start, end: retrying(lambda: fetch(start, end))
    return file


def gives_ranges(fs: AbstractFileSystem, path: str, size: int) -> bool:
    """Whether the store answers with ranges. A web server that does not sends all each time.

    Args:
        fs, path: of the object.
        size: of all of it, in bytes.

    Raises:
        OSError: it gives nothing, however often it is asked.
    """
    if "http" not in fs.protocol:
        return True

    def answers() -> bool:
        with fs.open(path, size=size, cache_type="none") as file:
            file.seek(max(size - 1, 0))
            try:
                file.read(1)
            except (ValueError, web.Unranged):  # by fsspec, before it has read the answer
                return False
        return True

    return retrying(answers)


def read(what: str, url: str, reading: Reading | None = None) -> bytes:
    """The whole of an object that the user has named.

    Args:
        what: it is to the user, such as "weights", for the error.
        url: of the object.
        reading: see `urls.filesystem`.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        fs, path = urls.filesystem(url, reading=reading)
        return bytes(retrying(lambda: fs.cat_file(path)))
    except UsageError:
        raise
    except Exception as error:  # each file system has its own
        raise failures.unusable("read", f"{what} {url}", error) from error


def get(fs: AbstractFileSystem, path: str, attempts: int = ATTEMPTS) -> bytes | None:
    """The object's bytes, or None where there is none."""
    try:
        return bytes(retrying(lambda: fs.cat_file(path), attempts))
    except FileNotFoundError:
        return None


def get_json(fs: AbstractFileSystem, path: str, attempts: int = ATTEMPTS) -> Any:
    """The content of a JSON object, or None where there is none."""
    try:
        return retrying(lambda: json.loads(fs.cat_file(path)), attempts)
    except FileNotFoundError:
        return None


def put(
    fs: AbstractFileSystem,
    path: str,
    data: bytes,
    check: Callable[[], None] | None = None,
    attempts: int = ATTEMPTS,
) -> None:
    """Write an object so that a reader sees all of it or nothing.

    Args:
        fs: of the object.
        path: of it there.
        data: all of its bytes.
        check: called right before each step that could make the object be there; what it raises,
            if it cannot pass, keeps that from being done. It is tried again with the step, so it
            has but one attempt of its own.
        attempts: at most, where the store fails in a way that can pass.
    """

    def write() -> None:
        if not urls.is_local(fs):
            if check:
                check()
            fs.pipe_file(path, data)
            return
        with _temporary(path) as temporary:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if check:  # here, for on a disk that hangs all before it can take any time
                check()
            os.replace(temporary, path)

    retrying(write, attempts)


@contextlib.contextmanager
def _temporary(path: str) -> Iterator[str]:
    """A file beside another, so that a rename stays on one disk; the dot hides it from readers."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    name = f"{os.path.dirname(path)}/.{uuid.uuid4().hex}.tmp"
    try:
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def create(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Write an object only if there is none; False if there was one.

    Stores without conditional writes replace it, or refuse the condition: whoever must be alone
    looks first, and checks afterwards whose object it is.
    """
    if urls.is_local(fs):
        with _temporary(path) as temporary:
            with open(temporary, "wb") as file:
                file.write(data)
            try:
                os.link(temporary, path)
                return True
            except FileExistsError:
                return False
            except OSError:  # FAT, SMB and most of FUSE have no links
                return _create_by_opening(path, data)
    try:
        retrying(lambda: fs.pipe_file(path, data, mode="create"))
        return True
    except OSError as error:
        if isinstance(error, FileExistsError) or failures.http_status(error) in (409, 412):
            return get(fs, path) == data  # an earlier try may have come through, unanswered
        if failures.http_status(error) != 501:
            raise
        put(fs, path, data)
        return True


def _create_by_opening(path: str, data: bytes) -> bool:
    """As `create`, but that for a moment the file is there and empty."""
    try:
        with open(path, "xb") as file:
            file.write(data)
        return True
    except FileExistsError:
        return False


def delete(
    fs: AbstractFileSystem,
    path: str,
    check: Callable[[], None] | None = None,
    attempts: int = ATTEMPTS,
) -> None:
    """Remove an object; one that is not there is no error.

    `check` and `attempts` are those of `put`.
    """

    def remove() -> None:
        if check:
            check()
        fs.rm_file(path)

    with contextlib.suppress(FileNotFoundError):
        retrying(remove, attempts)


def delete_folder(
    fs: AbstractFileSystem, folder: str, check: Callable[[], None] | None = None
) -> None:
    """Remove all objects below a folder; one that is not there is no error."""

    def remove() -> None:
        if check:
            check()
        fs.rm(folder, recursive=True)

    with contextlib.suppress(FileNotFoundError):
        retrying(remove)


def delete_matching(fs: AbstractFileSystem, folder: str, name: re.Pattern[str]) -> None:
    """Remove the objects directly in a folder that are called so, and the folder if it is empty."""
    if paths := [f"{folder}/{found}" for found in names(fs, folder) if name.fullmatch(found)]:
        with contextlib.suppress(FileNotFoundError):
            retrying(lambda: fs.rm(paths))
    if urls.is_local(fs):  # a bucket has no empty folders
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def names(fs: AbstractFileSystem, folder: str, prefix: str = "") -> list[str]:
    """The sorted names of the objects directly in a folder; none if it does not exist.

    Only those that begin with `prefix`, for which stores need not go through the others.
    """

    def listed() -> list[str]:
        if prefix and not urls.is_local(fs):
            return list(fs.find(folder, prefix=prefix))
        return list(fs.ls(folder, detail=False))

    try:
        entries = retrying(listed)
    except FileNotFoundError:
        return []
    # a store can hold an empty object with the folder's own name
    paths = {str(entry).rstrip("/") for entry in entries} - {folder.rstrip("/")}
    found = (path.rsplit("/", 1)[-1] for path in paths)
    return sorted(name for name in found if name.startswith(prefix))
