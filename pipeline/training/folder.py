"""What stands below DIR: the record, the state to go on from, the checkpoint.

DIR/
    checkpoint.safetensors   of the best epoch so far, with the names of its classes
    train.json               configuration, versions, counts, figures of each epoch
    report.html              the same for a person
    last.pth                 to go on from; gone once the training has ended
    _copies/                 of members that are slow to get at; likewise
"""

from __future__ import annotations

import io
import json
import re
import socket
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pipeline.errors import RunError, UsageError
from pipeline.network.brought import METADATA
from pipeline.options import INFERENCE_OPTIONS
from pipeline.store import failures, objects, urls

CHECKPOINT, RECORD, REPORT, STATE, COPIES = (
    "checkpoint.safetensors",
    "train.json",
    "report.html",
    "last.pth",
    "_copies",
)
# what copies are called: by a SHA-256
COPY = re.compile("[0-9a-f]{64}")


class Folder:
    """DIR, on any store. Each file is written whole or not at all.

    Args:
        url: of the folder.

    Raises:
        UsageError: nothing serves its URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") or "/"
        self.fs, self.path = urls.filesystem(self.url)

    def __getstate__(self) -> str:
        return self.url

    def __setstate__(self, url: str) -> None:
        self.__init__(url)  # type: ignore[misc]

    def url_of(self, name: str) -> str:
        return f"{self.url}/{name}"

    def record(self, attempts: int = objects.FIRST_ATTEMPTS) -> dict[str, Any] | None:
        """The content of `train.json`, if it is there.

        Args:
            attempts: of the read, where what fails can pass.

        Raises:
            UsageError: it cannot be read, or is another program's, or its checkpoint is there.
        """
        try:
            found = objects.get_json(self.fs, f"{self.path}/{RECORD}", attempts)
            names = [] if found else objects.names(self.fs, self.path)
        except (OSError, ValueError) as error:
            raise failures.unusable("read", self.url_of(RECORD), error) from error
        if RECORD in names or (found and not _is_record(found)):
            raise UsageError(
                f"{self.url_of(RECORD)} is not the record of a training: give another folder as "
                "--to"
            )
        if CHECKPOINT in names:
            raise UsageError(
                f"{self.url} holds a {CHECKPOINT} without a {RECORD}: give another folder as --to"
            )
        return dict(found) if found else None

    def own(self, attempt: str | None) -> dict[str, Any]:
        """The record, which must be that of this attempt: the last one that was started has it.

        Raises:
            RunError: it is another's, or not there.
            UsageError: see `record`.
        """
        found = self.record(objects.ATTEMPTS)
        if not found:
            raise RunError(
                f"the machine {socket.gethostname()} does not see {self.url_of(RECORD)}: as --to "
                "give a URL, or a path on a disk that all workers see"
            )
        if found.get("attempt") != attempt:
            raise RunError(f"another training has taken over {self.url}")
        return found

    def write(self, name: str, data: bytes) -> None:
        """
        Raises:
            UsageError: it cannot be written.
        """
        try:
            objects.put(self.fs, f"{self.path}/{name}", data)
        except OSError as error:
            raise failures.unusable("write", self.url_of(name), error) from error

    def write_record(self, record: Mapping[str, Any]) -> None:
        self.write(RECORD, json.dumps(record, indent=2, ensure_ascii=False).encode())

    def write_checkpoint(
        self, state: Mapping[str, Tensor], categories: Mapping[int, str], options: Mapping[str, Any]
    ) -> None:
        """
        Args:
            state: of the network.
            categories: label id to name.
            options: keywords of the network, of which those of inference go along.
        """
        content = {
            "categories": {str(label): name for label, name in categories.items()},
            "model": {k: v for k, v in options.items() if k in INFERENCE_OPTIONS},
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        # one key, for the order of several is not the same each time, and the file's digest with it
        metadata = {METADATA: json.dumps(content, ensure_ascii=False)}
        self.write(CHECKPOINT, safetensors.torch.save(tensors, metadata))

    def state(self, device: torch.device) -> dict[str, Any] | None:
        """What was saved last, with its tensors on a device; None where nothing was.

        Raises:
            UsageError: it cannot be read.
        """
        try:
            data = objects.get(self.fs, f"{self.path}/{STATE}")
            if data is None:
                return None
            loaded = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
        except Exception as error:  # each file system has its own, and so has torch
            raise failures.unusable("read", self.url_of(STATE), error) from error
        return dict(loaded)

    def write_state(self, state: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.write(STATE, buffer.getvalue())

    def forget(self) -> None:
        """Remove what is there to go on from, and nothing else that is in the folder."""
        objects.delete(self.fs, f"{self.path}/{STATE}")
        objects.delete_matching(self.fs, f"{self.path}/{COPIES}", COPY)


def _is_record(found: Any) -> bool:
    if not isinstance(found, dict) or not {"identity", "epochs", "finished"} <= found.keys():
        return False
    epochs = found["epochs"]
    return isinstance(epochs, list) and all(isinstance(x, dict) and "metrics" in x for x in epochs)
