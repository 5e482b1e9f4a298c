"""`ray job submit` for real: a head with its job server, the command line and the client."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from jobs import verify
from tests.support import heads, outputs, tiles
from tests.support.seaweed import free_port

pytestmark = pytest.mark.alone

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
IMAGES = 80
CONFIG = """\
rows_per_file: 4
weights: random:0
model: {min_size: 64, max_size: 64, rpn_post_nms_top_n_test: 20}
"""


@dataclass
class Head:
    """A Ray head with token authentication, on loopback.

    Attributes:
        url: of its job server.
        environment: of processes that know its token.
    """

    url: str
    token: str
    environment: dict[str, str]

    def client(self) -> JobSubmissionClient:
        return JobSubmissionClient(self.url, headers={"Authorization": f"Bearer {self.token}"})

    def submit(self, *command: str, token: bool = True) -> subprocess.CompletedProcess[str]:
        """As a user does, in the project's folder; waits for the end of the job."""
        line = [str(BIN / "ray"), "job", "submit", "--address", self.url, "--working-dir", "."]
        environment = self.environment | ({} if token else {"RAY_AUTH_TOKEN": "wrong" * 8})
        return subprocess.run(
            [*line, "--", *command],
            cwd=ROOT,
            env=environment,
            text=True,
            timeout=240,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    token = secrets.token_hex(32)
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    environment.pop("RAY_ADDRESS", None)
    with started(environment, environment, token) as found:
        yield found


@contextlib.contextmanager
def started(
    environment: dict[str, str], users: dict[str, str], token: str, address: int | None = None
) -> Iterator[Head]:
    """A head, as long as the block.

    Args:
        environment: of the head.
        users: of those who submit.
        token: that they have.
        address: port of its control service, if it is to be known.
    """
    port = free_port()
    flags = (
        "--node-ip-address=127.0.0.1",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={port}",
        "--num-cpus=2",
    )
    with heads.head(environment, address or free_port(), *flags):
        found = Head(f"http://127.0.0.1:{port}", token, users)
        wait_until_ready(found)
        yield found


def wait_until_ready(head: Head) -> None:
    deadline = time.monotonic() + 120
    while True:
        request = urllib.request.Request(
            f"{head.url}/api/version", headers={"Authorization": f"Bearer {head.token}"}
        )
        with contextlib.suppress(OSError), urllib.request.urlopen(request) as answer:
            if answer.status == 200:
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A run on tiles, by the real network, small."""
    images = tiles.write(tmp_path / "images", range(IMAGES))
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG)
    return [
        "python",
        "-m",
        "jobs.detect",
        "--config",
        str(config),
        "--input",
        images,
        "--output",
        str(tmp_path / "out"),
    ]


def ended(client: JobSubmissionClient, job: str) -> JobDetails:
    deadline = time.monotonic() + 240
    while not client.get_job_status(job).is_terminal():
        assert time.monotonic() < deadline, client.get_job_logs(job)
        time.sleep(0.2)
    return client.get_job_info(job)


def test_a_job(head: Head, command: list[str], tmp_path: Path) -> None:
    """To its end, by the command line; what travels to the cluster for it is small."""
    done = head.submit("bash", "-c", f"du -ak . && {shlex.join([*command, '--limit', '8'])}")
    assert done.returncode == 0, done.stdout
    assert "succeeded" in done.stdout and "images      8" in done.stdout
    assert "Traceback" not in done.stdout
    found = outputs.rows(str(tmp_path / "out"))
    assert [row["image_id"] for row in found] == list(range(8))
    lines = [line.split("\t") for line in done.stdout.splitlines() if "\t." in line]
    sizes = {path: int(size) for size, path in lines}
    assert "./pipeline/driver/runner.py" in sizes
    assert "./tests" not in sizes and "./.git" not in sizes
    assert sizes["."] < 2500  # kB


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_job_that_is_stopped_and_submitted_again(
    head: Head, command: list[str], tmp_path: Path
) -> None:
    """By the client, until it is at work; then by the command line, to its end."""
    client, output = head.client(), tmp_path / "out"
    job = client.submit_job(entrypoint=" ".join(command), runtime_env={"working_dir": str(ROOT)})
    deadline = time.monotonic() + 120
    while len(list(output.rglob("part-*.parquet"))) < 3:
        assert not client.get_job_status(job).is_terminal(), client.get_job_logs(job)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert client.stop_job(job)
    assert ended(client, job).status == JobStatus.STOPPED
    kept = len(outputs.rows(str(output)))
    assert 0 < kept < IMAGES and not (output / "_SUCCESS").exists()

    done = head.submit(*command)
    assert done.returncode == 0, done.stdout
    assert "succeeded" in done.stdout and f"images      {IMAGES}" in done.stdout
    assert "Traceback" not in done.stdout
    assert verify.main([str(output)]) == 0
    found = outputs.rows(str(output))
    assert [row["image_id"] for row in found] == list(range(IMAGES))


def test_exit_codes_become_states(head: Head, command: list[str]) -> None:
    wrong = [*command, "--input", "/no/such/folder"]
    done = head.submit(*wrong)
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "prelabel detect: cannot read /no/such/folder: it does not exist" in done.stdout
    client = head.client()
    (job,) = [job for job in client.list_jobs() if job.entrypoint == " ".join(wrong)]
    assert (job.status, job.driver_exit_code) == (JobStatus.FAILED, 2)


def test_a_wrong_token(head: Head, command: list[str]) -> None:
    done = head.submit(*command, token=False)
    assert done.returncode != 0 and "token" in done.stdout.lower()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{head.url}/api/jobs/")


@pytest.mark.soak
@pytest.mark.parametrize("left_behind", [False, True])
def test_a_cluster_of_a_plain_start(left_behind: bool, command: list[str], tmp_path: Path) -> None:
    """The commands of docs/cluster.md, whether or not a run here has left a token behind."""
    home, token, address = tmp_path / "home", secrets.token_hex(32), free_port()
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    plain |= {"HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}"}
    if left_behind:
        (home / ".ray").mkdir(parents=True)
        (home / ".ray/auth_token").write_text(token)
    with started(plain, plain | {"RAY_AUTH_MODE": "token"}, token, address) as head:
        subprocess.run(["ray", "get-auth-token", "--generate"], env=plain, check=True)
        if left_behind:
            assert (home / ".ray/auth_token").read_text() == token
        done = head.submit(*command, "--limit", "4")
        assert done.returncode == 0 and "images      4" in done.stdout, done.stdout
        # without a job, and without the token where there is one
        other = ["--output", str(tmp_path / "other"), "--dry-run"]
        line = [sys.executable, *command[1:], *other]
        alone = plain | {"RAY_ADDRESS": f"127.0.0.1:{address}"}
        done = subprocess.run(
            line, cwd=ROOT, env=alone, text=True, capture_output=True, timeout=120
        )
        if left_behind:
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
            assert "requires a token: set RAY_AUTH_MODE=token" in done.stderr
        else:
            assert done.returncode == 0, done.stderr
