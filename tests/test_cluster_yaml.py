"""The cluster file is one that Ray takes."""

from __future__ import annotations

from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config


def test_the_cluster_file_is_one_for_ray() -> None:
    content = yaml.safe_load((Path(__file__).parents[1] / "cluster.yaml").read_text())
    validate_config(prepare_config(content))
