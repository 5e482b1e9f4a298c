"""What is used of Ray beside its public interface: the one file to read before an upgrade of Ray.

Each part says on which version it was seen, and what to do when it is gone. `tests/cluster/
test_ray_internals.py` fails then.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.grpc_utils import init_grpc_channel
from ray._private.log import PlainRayHandler
from ray._private.services import canonicalize_bootstrap_address
from ray._private.state import actors
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
from ray.exceptions import AuthenticationError

if TYPE_CHECKING:  # importing it is for the chain, which first says what it shall find
    from ray.data import Dataset

# for a head to say who it is
PROBE_SECONDS = 5.0
ADVICE = b"has constructor arguments in the object store"


class Execution:
    """One execution of a dataset, which another thread can end.

    Seen on Ray 2.60, where the public ways were tried: `Dataset.iter_internal_ref_bundles` gives an
    iterator without `close`, and to close that of `iter_batches` while another thread waits for its
    next batch is a ValueError ("generator already executing"). The executor behind them ends only
    when Python has freed it: for a run that stands still, never. When `_create_executor` or
    `_build_bundle_iterator` is gone, look first whether an iterator can be closed from another
    thread by then.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._executor = dataset._create_executor()
        with _without_advice():
            self._bundles = dataset._build_bundle_iterator(self._executor)

    def blocks(self) -> Iterator[Any]:
        """References to the blocks that come out of the last stage, as they come.

        Raises:
            ray.exceptions.RayError: a stage failed.
        """
        for bundle in self._bundles:
            yield from bundle.block_refs

    def drain(self) -> None:
        """Have nothing more begun; what is in hand goes on to the last stage, and comes to its end.

        Seen on Ray 2.60: there is no public way, and blocks that no stage wants any more take a
        task each, half a minute for 2,000 of them. The queues are the executor's thread's own, so
        it is that thread which empties them. When `_callbacks` or `input_queues` is gone: leave
        this out, and a run that is told to stop loses more of what it has done.
        """
        from ray.data._internal.execution.execution_callback import ExecutionCallback

        class Drain(ExecutionCallback):
            def on_execution_step(self, executor: Any) -> None:
                *before, _ = executor._topology.values()
                for stage in before:
                    for queue in stage.input_queues:
                        queue.clear()

        self._executor._callbacks.append(Drain())

    def end(self) -> None:
        """End the execution, whoever waits for its blocks; they come to an end then."""
        self._executor.shutdown(force=True)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Keep off stderr what Ray's core says there, in red, of the actors that are made meanwhile.

    Seen on Ray 2.60: Ray Data hands its actors two arguments by way of the object store, and holds
    them for as long as it runs; the core, which does not know that, warns of it once in a process.
    Nobody but Ray could give them another way. All else that comes meanwhile is let through at the
    end. When `ADVICE` is not said any more, this can go.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if ADVICE not in line:
                    os.write(2, line)


def actor_state(actor: str) -> str | None:
    """`ALIVE`, `RESTARTING`, `DEAD` ... of the actor with this id; None if Ray knows none.

    Seen on Ray 2.60. `ray.util.state.get_actor` is the public way, and asks the dashboard, which a
    cluster may not have. When `actors` is gone: `ray.util.state`, and say that a lost node is only
    seen where there is a dashboard.
    """
    state: str | None = actors(actor).get("State")
    return state


def refuses_token() -> str | None:
    """The address of the cluster that `ray.init` would join, if it wants another token than ours.

    Raises:
        ConnectionError: RAY_ADDRESS is "auto", and there is none.

    Seen on Ray 2.60, where `ray.init` asks such a cluster for twenty seconds, prints a line each
    time, and raises a ConnectionError that says nothing of tokens. When one of these is gone, see
    whether `ray.init` has come to raise an AuthenticationError; then this is not needed.
    """
    named = os.environ.get("RAY_ADDRESS")
    if named and "://" in named:
        return None
    address = canonicalize_bootstrap_address(None)  # type: ignore[arg-type]
    if address is None:
        return None
    logging.getLogger("ray").setLevel(logging.ERROR)  # as `ray.init` will be told
    if named in (None, "", "auto"):  # as it does, too: a token is for clusters of this machine
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    messages: Any = gcs_service_pb2
    try:
        with init_grpc_channel(address) as channel:
            stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
            stub.CheckAlive(messages.CheckAliveRequest(), timeout=PROBE_SECONDS)
    except AuthenticationError:  # by our own environment there is one, and it is not to be found
        return address
    except grpc.RpcError as error:
        return address if error.code() == grpc.StatusCode.UNAUTHENTICATED else None
    return None


def silence_ray_data() -> None:
    """Keep Ray Data's own lines to its log file.

    Seen on Ray 2.60, whose handler of the terminal takes no setting. When `PlainRayHandler` is
    gone, look at what `logging.getLogger("ray.data").handlers` holds after `ray.init`.
    """
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, PlainRayHandler):
            handler.setLevel(logging.CRITICAL)
