"""What a run waits for, in words for a person."""

from __future__ import annotations

import ray

from pipeline.cluster.coordinator import State
from pipeline.cluster.placement import Placement


def starting(state: State) -> str:
    """How far the start of the replicas is, as long as no image is done."""
    if state.ready["detect"]:
        return "starting"
    return "loading the network" if state.starts["detect"] else "no replica has started yet"


def for_room(state: State, placement: Placement) -> str | None:
    """Why no replica starts, as far as can be told; None if one does."""
    if state.starts["detect"]:
        return None
    free, there = ray.available_resources(), ray.cluster_resources()
    kinds = [kind for kind in ("CPU", "GPU") if there.get(kind)]
    has = ", ".join(f"{free.get(kind, 0):g} of {there[kind]:g} {kind}s" for kind in kinds)
    return (
        "no replica has started yet: its process is slow to start, or other work holds the "
        f"{_needs(placement)} that each needs ({has} are free); `ray status` and `ray job list` "
        "show which"
    )


def standing(state: State, placement: Placement, output: str) -> str:
    """Which stage stands still, the last one that has work, and what it waits for."""
    held = state.held
    if not state.ready["detect"]:
        waits = "its network to be loaded" if state.starts["detect"] else "room on the cluster"
        return (
            f"detect waits for {waits}: none of its {placement.replicas} replicas has started, "
            f"and each needs {_needs(placement)}"
        )
    if held.get("write"):
        return f"write waits for the store of {output}"
    if held.get("detect"):
        return f"detect waits for the decoding or the forward of {held['detect']:,} images"
    if held.get("fetch"):
        return f"fetch waits for the store to deliver some of {held['fetch']:,} images"
    return "fetch has no work, and waits for a place to run"


def _needs(placement: Placement) -> str:
    return f"{placement.cpus:g} CPUs" + (f" and {placement.gpus:g} GPUs" if placement.gpus else "")
