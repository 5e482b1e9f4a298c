"""A Ray cluster whose autoscaler starts and ends nodes on this machine."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
)

from tests.support.chaos import tree
from tests.support.heads import head
from tests.support.seaweed import free_port

# that a configuration must have
COMMANDS = (
    "cluster_synced_files",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


def configuration(address: str, most: int, idle_seconds: float) -> dict[str, Any]:
    """What `ray up` would be given: a head without work, and GPU workers from none to `most`."""
    return {
        "cluster_name": "test",
        "max_workers": most,
        "upscaling_speed": 10,
        "idle_timeout_minutes": idle_seconds / 60,
        "provider": {
            "type": "fake_multinode",
            "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": address,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
        },
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in COMMANDS},
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 2, "GPU": 1, "object_store_memory": 2**28},
                "node_config": {},
                "min_workers": 0,
                "max_workers": most,
            },
        },
    }


@dataclass
class Autoscaled:
    """A running one.

    Attributes:
        address: for RAY_ADDRESS.
        head: the process behind it.
    """

    address: str
    head: int

    def nodes(self) -> int:
        """That the autoscaler has started and not ended."""
        raylets = [title for title in tree([self.head]).values() if "/raylet/raylet" in title]
        return max(0, len(raylets) - 1)


@contextlib.contextmanager
def autoscaled(folder: Path, most: int, idle_seconds: float = 600) -> Iterator[Autoscaled]:
    """For as long as the block; this process's environment has the token of the cluster.

    Ray's own `AutoscalingCluster` begins and ends with `ray stop --force`, which would end every
    Ray on this machine.
    """
    port = free_port()
    address = f"127.0.0.1:{port}"
    file = folder / "autoscaling.yaml"
    file.write_text(json.dumps(configuration(address, most, idle_seconds)))
    environment = os.environ | {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    environment.pop("RAY_ADDRESS", None)
    flags = ("--num-cpus=0", "--include-dashboard=false", f"--autoscaling-config={file}")
    with head(environment, port, *flags) as pid:
        yield Autoscaled(address, pid)
