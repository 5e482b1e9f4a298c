"""Which training a folder goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.labels.truth import Truth
from pipeline.training import trainer
from pipeline.training.folder import Folder
from pipeline.training.recipe import Recipe
from pipeline.training.start import Start


def test_a_training_that_held_single_frames_out(tmp_path: Path) -> None:
    """It would measure AP on what it was trained on. Without frames nothing has changed."""
    folder, begun = Folder(str(tmp_path)), Start({}, {}, {}, [], "", False, 3)
    config = Config(input="in", output=str(tmp_path))

    def known(name: str, holdout: float) -> Any:
        truth = Truth("t", ids=[0], names=[name])
        wanted = trainer._identity(config, Recipe(holdout=holdout), begun, truth, None)
        before = {field: wanted[field] for field in wanted.keys() - {"holdout_of"}}
        record = {"identity": before, "epochs": [{"metrics": None}], "finished": None}
        folder.write_record(record)
        return trainer._known(folder, wanted)

    assert known("a.jpg", 0.2) and known("a.mp4#t=1.000", 0)
    with pytest.raises(UsageError, match=r"differs in holdout_of \(None, now 'videos'\)"):
        known("a.mp4#t=1.000", 0.2)
