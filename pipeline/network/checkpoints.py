"""A checkpoint's bytes to the state dict in it, whatever it is wrapped in; no code of it runs."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch

from pipeline.errors import UsageError
from pipeline.network import pickles
from pipeline.network.contract import ARCHITECTURE
from pipeline.words import count, explain, printable

CLASSIFIER = "roi_heads.box_predictor.cls_score.weight"
# what DistributedDataParallel, AveragedModel and torch.compile put before names of what they wrap
WRAPPERS = ("module", "_orig_mod")
PARTS = ("backbone", "rpn", "roi_heads")
# Of several networks in one file the one whose name stands first here is taken.
NAMES = (
    "model_state_dict state_dict model net network weights params module _orig_mod "
    "model_ema ema_state_dict ema"
).split()
DEEPEST = 64
TORCH_SAVE = "save model.state_dict() with torch.save or as .safetensors"
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # of torch.save before version 1.6
# how a file begins that is no checkpoint, what it is, and what to do
BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git-LFS pointer, not the file", "run `git lfs pull`"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it"),
    (b"BZh", "compressed by bzip2", "unpack it"),
    (b"\xfd7zXZ\x00", "compressed by xz", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"PK\x05\x06", "an empty zip", "give the checkpoint itself"),
    (b"\x89HDF", "HDF5, as Keras writes it", TORCH_SAVE),
    (b"\x93NUMPY", "a NumPy array", TORCH_SAVE),
    (b"\xff\xd8\xff", "a JPEG image", "give the checkpoint itself"),
    (b"\x89PNG", "a PNG image", "give the checkpoint itself"),
)
MARKUP = {
    **dict.fromkeys([b"<!doctype", b"<html", b"<head", b"<!--"], "an HTML page"),
    **dict.fromkeys([b"<?xml", b"<error"], "XML, perhaps an error of a store"),
    **dict.fromkeys([b"{", b"["], "JSON"),
}
LONGEST_HEADER = 100_000_000  # of safetensors


def state_dict(url: str, data: bytes) -> dict[str, torch.Tensor]:
    """The tensors of the network in a file, under the names that torchvision gives them.

    What kind of file it is its content says, not its name.

    Args:
        url: of the file, for messages.
        data: its bytes.

    Raises:
        UsageError: it is no checkpoint, would execute code, or has no such network in it, or
            several.
    """
    return _network(url, _loaded(url, data))


# ------------------------------------------------------------------------------- the file


def _loaded(url: str, data: bytes) -> Any:
    refused = _no_checkpoint(data)
    if refused:
        raise UsageError(f"weights {url} are not a checkpoint: the file is {refused}")
    try:
        if length_of_header(data):
            import safetensors.torch

            return safetensors.torch.load(data)
        return pickles.load(data)
    except pickles.WouldExecute as error:
        raise UsageError(
            f"weights {url} are refused: besides tensors, the file needs {error}, and loading "
            f"that could execute code; {TORCH_SAVE}"
        ) from error
    except Exception as error:  # whatever the readers make of a damaged file
        # torch's own advice is to load it unsafely
        cause = explain(error).partition("WeightsUnpickler error: ")
        reason = (cause[2] or cause[0]).partition(" Check the documentation")[0]
        raise UsageError(
            f"weights {url} cannot be loaded, the file is damaged or cut off: {reason}"
        ) from error


def _no_checkpoint(data: bytes) -> str:
    """What a file is that is no checkpoint, and what to do; empty for one that may be one."""
    if not data:
        return "empty; copy it again"
    if length := length_of_header(data):
        return _no_safetensors(data, length)
    for beginning, what, todo in BEGINNINGS:
        if data.startswith(beginning):
            return f"{what}; {todo}"
    text = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, what in MARKUP.items():
        if text.startswith(beginning):
            return f"{what}; give the URL of the file itself, not of a page about it"
    if data.startswith(b"PK\x03\x04"):
        return _no_torch_zip(data)
    if data.startswith(LEGACY):
        return ""
    if data[257:262] == b"ustar":
        return _tar(data)
    if data[:1] == b"\x80" and data[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return f"a bare pickle, and loading that could execute code; {TORCH_SAVE}"
    if not data.strip(b"\0"):
        return "all zeros; copy it again"
    return f"of no known kind: it begins with {data[:12]!r}; {TORCH_SAVE}"


def _no_torch_zip(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            pickled = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
            protocol = archive.read(pickled[0])[1] if pickled else 0
    except Exception:  # whatever the reader makes of it
        return "a zip, such as torch.save writes, that is cut off or damaged; copy it again"
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        return f"a TorchScript archive; {TORCH_SAVE}"
    if not pickled:
        found = printable(", ".join(names[:3]), 120)
        return f"a zip without a checkpoint ({found}); unpack it, or {TORCH_SAVE}"
    if protocol > 3:
        return (
            f"written with pickle protocol {protocol}; save it with that of torch.save, which is 2"
        )
    return ""


def length_of_header(data: bytes) -> int:
    """Bytes of the header of safetensors; 0 where there is none."""
    length = int.from_bytes(data[:8], "little")
    return length if data[8:9] == b"{" and length <= LONGEST_HEADER else 0


def _no_safetensors(data: bytes, length: int) -> str:
    if 8 + length > len(data):
        return "safetensors that are cut off; copy it again"
    try:
        header = json.loads(data[8 : 8 + length])
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
        missing = 8 + length + max(ends, default=0) > len(data)
    except Exception as error:  # whatever a header may be
        return f"safetensors with a damaged header ({explain(error)}); copy it again"
    return "safetensors that are cut off; copy it again" if missing else ""


def _tar(data: bytes) -> str:
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            names = tar.getnames()
    except Exception:  # whatever the reader makes of it
        return "a tar archive that is cut off or damaged; copy it again"
    if "pickle" in names:
        old = "an archive of torch before 0.1.10, and loading that could execute code"
        return f"{old}; {TORCH_SAVE}"
    return "a tar archive; unpack it"


# ---------------------------------------------------------------------- the network in it


class Found(NamedTuple):
    """A tensor in a checkpoint.

    Attributes:
        holder: names of the mappings that it stands in, each with a dot behind it.
        name: all names, `holder` first.
        tensor: the values.
    """

    holder: str
    name: str
    tensor: torch.Tensor


def _tensors(value: Any, holder: str, seen: set[int]) -> Iterator[Found]:
    """All tensors in mappings and lists, one in another."""
    if id(value) in seen or holder.count(".") > DEEPEST:
        return
    seen.add(id(value))
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, inner in items:
        name = f"{holder}{key}"
        if isinstance(inner, pickles.Array):
            inner = inner.tensor()
        if torch.is_tensor(inner):
            yield Found(holder, name, inner)
        elif isinstance(inner, Mapping | list | tuple):
            yield from _tensors(inner, f"{name}.", seen)


def _network(url: str, loaded: Any) -> dict[str, torch.Tensor]:
    if not isinstance(loaded, Mapping | list | tuple):
        kind = type(loaded).__name__
        raise UsageError(f"weights {url} hold a {kind}, not a state dict; {TORCH_SAVE}")
    found = list(_tensors(loaded, "", set()))
    prefix, others = _prefixes(url, found, loaded)
    state: dict[str, torch.Tensor] = {}
    for holder, whole, tensor in found:
        if not whole.startswith(prefix) or whole.startswith(others):
            continue
        name = ".".join(x for x in whole.removeprefix(prefix).split(".") if x not in WRAPPERS)
        deeper = len(holder) > len(prefix) and name.split(".")[0] not in PARTS
        if deeper or name == "n_averaged":  # an optimizer's, and AveragedModel's
            continue
        if name in state:
            twice = f"{printable(name, 100)} twice, once as {printable(whole, 200)}"
            raise UsageError(f"weights {url} hold {twice}; {TORCH_SAVE}")
        state[name] = _plain(url, name, tensor)
    return state


def _prefixes(url: str, found: list[Found], loaded: Any) -> tuple[str, tuple[str, ...]]:
    """What stands before the names of the network's tensors, and before those of others in it."""
    before = [_before_classifier(entry.name) for entry in found]
    prefixes = sorted(dict.fromkeys(p for p in before if p is not None), key=_rank)
    if not prefixes:
        keys = [entry.name for entry in found] or [str(key) for key in loaded]
        listed = printable(", ".join(keys[:3]) + (", ..." if len(keys) > 3 else ""), 200)
        tensors = count(len(found), "tensor") if found else "no tensor"
        raise UsageError(
            f"weights {url} are not of a {ARCHITECTURE}: they have {tensors} ({listed}) and no "
            f"{CLASSIFIER}; give a state dict of torchvision's {ARCHITECTURE}, which may be under "
            "a name such as model_state_dict"
        )
    if len(prefixes) > 1 and _rank(prefixes[0]) == _rank(prefixes[1]):
        listed = printable(" and ".join(p[:-1] for p in prefixes[:2]), 200)
        raise UsageError(
            f"weights {url} hold several networks, such as {listed}; save the one that is meant"
        )
    chosen = prefixes[0]
    return chosen, tuple(p for p in prefixes[1:] if p.startswith(chosen))


def _before_classifier(name: str) -> str | None:
    """What stands before `CLASSIFIER` in a name, in which wrappers may stand; None without it."""
    names = name.split(".")
    for wanted in reversed(CLASSIFIER.split(".")):
        while names and names[-1] in WRAPPERS:
            names.pop()
        if not names or names.pop() != wanted:
            return None
    return "".join(f"{x}." for x in names)


def _rank(prefix: str) -> list[int]:
    names = prefix.split(".")[:-1]
    return [NAMES.index(name) if name in NAMES else len(NAMES) for name in names]


def _plain(url: str, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Values alone: of a parameter, and float32 of all other floats."""
    tensor = tensor.detach()
    odd = ""
    if tensor.layout != torch.strided or tensor.is_quantized:
        odd = f"{tensor.layout}, {tensor.dtype}"
    elif tensor.device.type != "cpu":
        odd = f"on device {tensor.device}"
    elif tensor.is_complex():
        odd = "of complex numbers"
    if odd:
        name = printable(name, 200)
        raise UsageError(
            f"weights {url} hold a tensor that is not plain, {name}: it is {odd}; {TORCH_SAVE}"
        )
    return tensor.float() if tensor.is_floating_point() else tensor
