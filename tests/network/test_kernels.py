"""The Triton kernels, without a GPU: by the interpreter, and as compiled for one."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.network import kernels
from pipeline.network.contract import Weights
from pipeline.network.engine import Engine
from tests.support.kernels_interpreted import COMPARISONS
from tests.support.recorded_cuda import RecordedCuda

needs_triton = pytest.mark.skipif(
    not kernels.available(), reason="Triton is not installed, as with torch's builds for CPUs"
)


@pytest.fixture(scope="module")
def differences() -> dict[str, float | str]:
    """How far each kernel is from its reference, or what it raised."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.kernels_interpreted"],
        capture_output=True,
        text=True,
        env=os.environ | {"TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float | str] = json.loads(done.stdout)
    return found


@needs_triton
@pytest.mark.parametrize("name", COMPARISONS)
def test_a_kernel_is_its_reference(name: str, differences: dict[str, float | str]) -> None:
    difference = differences[name]
    assert isinstance(difference, (int, float)), difference
    assert difference <= COMPARISONS[name][1]


# Kernel, options, and each argument: its type, or its value where the compiler is given it. Of
# numbers, it is told whether they can be divided by 16.
VARIANTS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "nms": (
        kernels._nms,
        kernels.NMS,
        {"boxes": "*fp32", "counts": "*i64", "room": "*fp32", "kept": "*u1"}
        | {"threshold": "fp32", "k": "i32"},
    )
}
for dtype in ("*fp16", "*fp32"):
    VARIANTS[f"roi_align {dtype}"] = (
        kernels._roi_align,
        kernels.ROI_ALIGN,
        {"maps": (dtype,) * 4, "sizes": (("fp32",) * 2,) * 4, "boxes": "*fp32", "image": "*i64"}
        | {"level": "*i64", "out": dtype, "c": "i32:16", "COLUMNS": 7, "RATIO": 2},
    )
    VARIANTS[f"max_pool {dtype}"] = (
        kernels._max_pool,
        kernels.MAX_POOL,
        {"x": dtype, "y": dtype, "height": "i32", "width": "i32", "rows": "i32", "columns": "i32"}
        | {"count": "i32", "C": 64, "ROWS": 64, "COLUMNS": 64},
    )
    VARIANTS[f"transform {dtype}"] = (
        kernels._transform,
        kernels.TRANSFORM,
        {"image": "*u8", "out": dtype, "mean": "*fp32", "std": "*fp32", "height": "i32"}
        | {"width": "i32", "rows": "i32", "columns": "i32", "last": "i32", "CHANNELS": 4},
    )
    for residual, up in [(None, False), *itertools.product(("*fp16", "*fp32"), (False, True))]:
        VARIANTS[f"epilogue {dtype} {residual} {up}"] = (
            kernels._epilogue,
            kernels.EPILOGUE,
            {"y": dtype, "bias": "*fp32", "residual": residual, "count": "i32", "width": "i32"}
            | {"C": 256, "RELU": True, "UP": up, "ROWS": 16, "COLUMNS": 256},
        )


def compiled(kernel: Any, options: dict[str, Any], given: dict[str, Any], capability: int) -> Any:
    """What `triton.compile` makes of a kernel for a GPU that need not be there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    known: dict[tuple[int, ...], Any] = {}
    aligned: dict[tuple[int, ...], Any] = {}

    def typed(path: tuple[int, ...], value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(typed((*path, place), x) for place, x in enumerate(value))
        if not isinstance(value, str):
            known[path] = value
            return "constexpr"
        if value.startswith("*") or value.endswith(":16"):
            aligned[path] = [["tt.divisibility", 16]]
        return value.partition(":")[0]

    names: list[str] = kernel.arg_names
    given = given | {name: value for name, value in options.items() if name in names}
    signature = {name: typed((place,), given[name]) for place, name in enumerate(names)}
    return triton.compile(
        ASTSource(kernel, signature, known, aligned),
        target=GPUTarget("cuda", capability, 32),
        options={name: value for name, value in options.items() if name not in names},
    )


@needs_triton
@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="nothing is compiled then")
@pytest.mark.parametrize("name", VARIANTS)
def test_a_compiled_kernel_fits_into_registers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    for capability in (75, 80, 90):
        binary = tmp_path / f"{capability}.cubin"
        binary.write_bytes(compiled(*VARIANTS[name], capability).asm["cubin"])
        report = subprocess.check_output(
            [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", binary], text=True
        )
        used = dict(word.split(":") for word in report.splitlines()[-1].split())
        # What does not fit goes to the stack. Eight words of it Triton 3.6 takes by itself in the
        # maximum pooling of compute capability 8.0, where it keeps to 64 registers.
        assert int(used["STACK"]) <= 32 and used["LOCAL"] == "0", report


@needs_triton
def test_a_node_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each of its images would end as an error of its own."""

    def missing(*given: Any) -> None:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(kernels, "max_pool", missing)
    told = r"\(RuntimeError: Failed to find C compiler\).*gcc"
    with RecordedCuda()(), pytest.raises(RuntimeError, match=told):
        Engine(Weights("", "", True, {}, {}, {}), "cuda", 1, "auto")


def test_it_can_be_imported_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    spec = importlib.util.spec_from_file_location("without_triton", kernels.__file__)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.available()
