"""What is no checkpoint, or half of one: said in one line, with what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.torch
import torch

from pipeline.errors import UsageError
from pipeline.network.checkpoints import state_dict
from tests.support import checkpoints
from tests.support.checkpoints import URL, State, beside, refusal, saved, tarred, zipped


@pytest.fixture(scope="module")
def tiny() -> State:
    return checkpoints.tiny()


def _cut_state(tiny: State, save: Callable[[State], bytes]) -> bytes:
    data = save(tiny)
    return data[: len(data) * 2 // 3]


NO_CHECKPOINTS: dict[str, tuple[Callable[[State], bytes], str]] = {
    "empty": (lambda s: b"", "empty; copy it again"),
    "lfs": (
        lambda s: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 173\n",
        "a Git-LFS pointer, not the file; run `git lfs pull`",
    ),
    "html": (lambda s: b"\n<!DOCTYPE html><html><body>Sign in", "an HTML page; give the URL of"),
    "html with a mark": (lambda s: b"\xef\xbb\xbf<HTML>", "an HTML page; give the URL of the file"),
    "xml": (lambda s: b"<?xml version='1.0'?><Error><Code>AccessDenied", "XML, perhaps an error"),
    "json": (lambda s: b'{"error": "Repository not found"}', "JSON; give the URL of the file"),
    "gzip": (lambda s: gzip.compress(saved(s)), "compressed by gzip; unpack it"),
    "bzip2": (lambda s: bz2.compress(saved(s)), "compressed by bzip2; unpack it"),
    "xz": (lambda s: lzma.compress(saved(s)), "compressed by xz; unpack it"),
    "zip": (
        lambda s: zipped(**{"w.pth": saved(s)}),
        "a zip without a checkpoint (w.pth); unpack it",
    ),
    "docx": (
        lambda s: zipped(a=b"1", b=b"2", c=b"3", d=b"4"),
        "a zip without a checkpoint (a, b, c); unpack it",
    ),
    "npz": (lambda s: zipped(**{"a.npy": b""}), "a zip without a checkpoint (a.npy); unpack it"),
    "empty zip": (lambda s: zipped(), "an empty zip; give the checkpoint itself"),
    "tar": (lambda s: tarred(**{"w.pth": saved(s)}), "a tar archive; unpack it"),
    "old torch": (lambda s: tarred(pickle=b"", tensors=b""), "an archive of torch before 0.1.10"),
    "cut tar": (lambda s: tarred(**{"w.pth": saved(s)})[:600], "a tar archive"),
    "cut zip": (
        lambda s: _cut_state(s, saved),
        "a zip, such as torch.save writes, that is cut off or damaged; copy it again",
    ),
    "cut safetensors": (
        lambda s: _cut_state(s, safetensors.torch.save),
        "safetensors that are cut off; copy it again",
    ),
    "cut header": (lambda s: safetensors.torch.save(s)[:40], "safetensors that are cut off"),
    "broken header": (
        lambda s: (20).to_bytes(8, "little") + b"{" + b"x" * 40,
        "safetensors with a damaged header",
    ),
    "hdf5": (lambda s: b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "HDF5, as Keras writes it; save model"),
    "numpy": (lambda s: b"\x93NUMPY\x01\0v\0{'descr'", "a NumPy array; save model.state_dict()"),
    "jpeg": (lambda s: b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image; give the checkpoint itself"),
    "zeros": (lambda s: b"\0" * 4096, "all zeros; copy it again"),
    "pickle": (pickle.dumps, "a bare pickle, and loading that could execute code; save model"),
    "text": (lambda s: b"Not Found\n", "of no known kind: it begins with b'Not Found\\n'; save"),
    "short": (lambda s: b"\x80", "of no known kind: it begins with b'\\x80'"),
    "protocol": (
        lambda s: saved(s, pickle_protocol=4),
        "written with pickle protocol 4; save it with that of torch.save, which is 2",
    ),
}


@pytest.mark.parametrize("case", NO_CHECKPOINTS)
def test_no_checkpoint(case: str, tiny: State) -> None:
    made, expected = NO_CHECKPOINTS[case]
    line = refusal(made(tiny))
    assert f"are not a checkpoint: the file is {expected}" in line


@pytest.mark.filterwarnings("ignore:.torch.jit:Warning")
def test_torchscript() -> None:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), file)
    assert "the file is a TorchScript archive; save model.state_dict()" in refusal(file.getvalue())


@pytest.mark.parametrize("save", [saved, safetensors.torch.save, None])
def test_cut_off_anywhere(save: Callable[[State], bytes] | None, tiny: State) -> None:
    """One line wherever it ends, and never a network of the half of it."""
    data = save(tiny) if save else saved(tiny, _use_new_zipfile_serialization=False)
    for length in range(0, len(data) - 1, 7):
        line = refusal(data[:length])
        assert "are not a checkpoint: the file is" in line or "damaged or cut off" in line
        assert "weights_only" not in line


def test_bytes_turned_over(tiny: State) -> None:
    """A checkpoint or a line, whichever byte is another one."""
    random = np.random.default_rng(3)
    legacy = saved({"model": tiny, **beside()}, _use_new_zipfile_serialization=False)
    for whole in (saved({"model": tiny}), legacy, safetensors.torch.save(tiny)):
        for place in random.integers(0, len(whole), 150):
            data = bytearray(whole)
            data[place] ^= 1 << int(random.integers(8))
            try:
                state_dict(URL, bytes(data))
            except UsageError as error:
                assert "\n" not in str(error)
