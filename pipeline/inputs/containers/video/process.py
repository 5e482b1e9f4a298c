"""libav in processes of their own: a hostile video may crash it, or have it run for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from typing import Any

from pipeline.errors import RunError
from pipeline.inputs.containers.video.frames import Place
from pipeline.inputs.containers.video.opening import Readable
from pipeline.inputs.containers.video.serving import Wanted

SERVING = "from pipeline.inputs.containers.video.serving import main; main()"
# until a video is held to be the cause, and not what else may end a process, such as want of memory
DEATHS = 2


class Died(Exception):
    """The process died over a video; `hangs`: since it came to no end."""

    def __init__(self, hangs: bool) -> None:
        super().__init__(hangs)
        self.hangs = hangs


class Process:
    """One that is asked by one thread at a time. It reads no file itself: bytes go from here.

    Not by `multiprocessing`, whose new process would execute the user's script once more.
    """

    def __init__(self) -> None:
        """
        Raises:
            RunError: it does not start.
        """
        self.connection, theirs = Pipe()
        # Frames are megabytes: through the connection each would take a third longer. Only Linux
        # has files that are in memory alone.
        in_memory = sys.platform == "linux"
        self.shared = os.memfd_create("frame") if in_memory else _unnamed_file()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with theirs:
            passed = theirs.fileno(), self.shared
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", SERVING, *map(str, passed)],
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for this process alone
            )
        try:
            self._receive()
        except Died as error:
            raise RunError("the process that reads videos did not start") from error

    @property
    def ended(self) -> bool:
        return self.connection.closed

    def ask(self, file: Readable, *request: Any) -> Any:
        """What a method of `Serving` returns or raises.

        Args:
            file: the video.
            request: name of the method, and its arguments.

        Raises:
            Died: the process did.
            OSError: of the file. The process is ended then.
        """
        try:
            self._send(request)
            while isinstance(answer := self._receive(), Wanted):
                file.seek(answer.start)
                self._send(file.read(answer.size))
        except BaseException:
            self.close()
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer

    def image(self, file: Readable, place: Place) -> bytes:
        """The frame of a place as a BMP; see `ask`."""
        size: int = self.ask(file, "image", place)
        return os.pread(self.shared, size, 0)

    def _send(self, message: Any) -> None:
        try:
            self.connection.send(message)
        except OSError as error:
            raise self._died() from error

    def _receive(self) -> Any:
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error

    def _died(self) -> Died:
        self.close()
        return Died(self.process.returncode == -signal.SIGALRM)

    def close(self) -> None:
        """May be called again."""
        if self.ended:
            return
        self.connection.close()
        os.close(self.shared)
        self.process.kill()  # of no effect on one that is dead
        self.process.wait()


def _unnamed_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
