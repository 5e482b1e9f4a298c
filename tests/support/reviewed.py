"""Exports as people give them back."""

from __future__ import annotations

import json
from pathlib import Path


def as_reviewed(kind: str, folder: Path) -> str:
    """What to read of an export that people have looked through and not changed."""
    if kind != "labelstudio":
        return str(folder)
    tasks = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks):
        result = [{k: v for k, v in r.items() if k != "score"} for r in accepted(task)]
        task |= {"id": number, "annotations": [{"result": result, "was_cancelled": False}]}
    back = folder / "project-1-at-2026-11-30.json"
    back.write_text(json.dumps(tasks))
    return str(back)


def accepted(task: dict[str, list[dict[str, list[dict[str, object]]]]]) -> list[dict[str, object]]:
    """The regions that the run has predicted."""
    return task["predictions"][0]["result"]
