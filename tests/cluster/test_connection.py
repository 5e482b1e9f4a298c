"""What is asked of Ray before a run: its nodes, and a GPU to come."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray

from pipeline import Config, RunError, UsageError
from pipeline.cluster import connection, placement
from pipeline.cluster.connection import await_gpu, place


def test_dead_nodes_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 16.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    config = Config(input="i", output="o")
    found = place(config)
    assert found == placement.place(config, [{"CPU": 16.0}])
    assert (found.device, found.replicas) == ("cpu", 4)


def test_no_gpu_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked of the autoscaler is taken back."""
    asked: list[object] = []
    taken: list[object] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    def group(bundles: object) -> object:
        asked.append(bundles)
        return bundles

    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 4}}])
    monkeypatch.setattr(connection, "GPU_SECONDS", 0.2)
    monkeypatch.setattr(connection, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(connection, "placement_group", group)
    monkeypatch.setattr(connection, "remove_placement_group", taken.append)
    for options in ({"device": "cuda"}, {"device": "auto", "replicas": 3}):  # wait for none
        await_gpu(Config(input="i", output="o", **options))
    with pytest.raises(RunError, match="no GPU has joined the cluster"):
        await_gpu(Config(input="i", output="o", device="cuda", replicas=3, gpus_per_replica=0.5))
    assert asked == taken == [[{"GPU": 0.5}]] * 3
    with pytest.raises(KeyboardInterrupt):  # a signal meanwhile
        await_gpu(Config(input="i", output="o", device="cuda", replicas=1), interrupt)
    assert len(asked) == len(taken) == 4


@pytest.mark.parametrize("late", [0, 1, 2])
def test_ray_that_starts_too_slowly(late: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started once more; then it is said in a line, and nothing that could be continued."""
    starts = []

    def init(**options: object) -> None:
        starts.append(options)
        if len(starts) <= late:
            raise Exception(
                "The current node timed out during startup. This could happen because some of the "
                "raylet failed to startup or the GCS has become overloaded."
            )

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", init)
    if late < connection.STARTS:
        connection.connect()
    else:
        with pytest.raises(
            UsageError, match="did not start in time on this machine, in 2 attempts"
        ):
            connection.connect()
    assert len(starts) == min(late + 1, connection.STARTS)


def test_a_cluster_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        other = {"ray_version": "2.9.0", "python_version": "3.11.7"}
        ray._private.utils.check_version_info(other, "here")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(UsageError, match=r"Ray: 2\.9\.0 .* or set RAY_ADDRESS=local") as refused:
        connection.connect()
    assert "\n" not in str(refused.value)


def test_sigterm_while_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means what it means at any other time, though Ray has a handler of its own by then."""

    def init(**options: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        signal.raise_signal(signal.SIGTERM)

    def terminated(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGTERM, terminated)
    try:
        with pytest.raises(InterruptedError):
            connection.connect()
        assert signal.getsignal(signal.SIGTERM) == terminated
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_else_ray_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise ValueError("something else")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ValueError, match="something else"):
        connection.connect()


def test_the_words_ray_says_it_in() -> None:
    """By which a start that took too long is known."""
    assert connection.TOO_SLOW in inspect.getsource(ray._private.node)


class Head(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers as the head of a cluster does that knows a token."""

    def service(self, details: Any) -> Any:
        known = ("authorization", "Bearer right") in details.invocation_metadata

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if not known:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def head() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Head()])
    # of loopback, but not what Ray takes for another name of this machine's address
    port = server.add_insecure_port("127.0.0.2:0")
    server.start()
    yield f"127.0.0.2:{port}"
    server.stop(None)


@pytest.mark.parametrize(
    "environment,joins",
    [
        ({}, False),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong"}, False),
        ({"RAY_AUTH_MODE": "token"}, False),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "right"}, True),
    ],
)
def test_a_cluster_that_wants_a_token(
    head: str, environment: dict[str, str], joins: bool, tmp_path: Path
) -> None:
    """In a process of its own: Ray reads the environment once."""
    code = (
        "import ray; from pipeline.cluster import connection\n"
        "ray.init = lambda **_: print('joins')\n"
        "try: connection.connect()\n"
        "except connection.UsageError as error: print(error)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"HOME": str(tmp_path), "RAY_ADDRESS": head} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    if joins:
        assert done.stdout == "joins\n"
    else:
        assert done.stdout.count("\n") == 1
        assert f"{head} requires a token: set RAY_AUTH_MODE=token" in done.stdout
