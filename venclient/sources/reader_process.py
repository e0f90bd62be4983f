"""A process of its own in which HDF5 reads a meter file, so that a file that crashes or hangs HDF5 ends only that.

HDF5 takes much of what a file says of itself on trust. The process is given a function and its arguments, and answers
with what it returns or raises. It may take so much CPU time and memory, and is ended by the system when it takes more;
it ends as well when the other end of its connection is closed, also by the death of the process that started it.
(PR_SET_PDEATHSIG would end it with the thread that started it.)
"""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, Literal, TypeVar

import h5py

from venclient.errors import ConfigurationError, StoppedError
from venclient.sources.changing_file import Alive, OpenFile, OpenHere, ReaderDiedError, Version
from venclient.sources.free_memory import keep_little_memory_free

# Without all that the package itself imports, of which reading needs nothing and which takes more than a second.
_PROGRAM = """
import sys, types
package = types.ModuleType("venclient")
package.__path__ = [sys.argv[1]]
sys.modules["venclient"] = package
from venclient.sources.reader_process import serve
serve(*map(int, sys.argv[2:]))
"""
# What reading a file may depend on; no other variable goes there, least of all a secret.
ENVIRONMENT = ("HDF5_", "LANG", "LC_", "LD_", "PATH", "PYTHON", "TMPDIR")
# For an interpreter in a folder that this user may not enter: whoever started this process was another one.
RUNNING_PROGRAM = "/proc/self/exe"
START_S = 120.0
POLL_S = 0.5
# So long a read that is under way when the run is told to stop may still take.
STOPPING_S = 5.0

_Found = TypeVar("_Found")
_Kind = Literal["found", "raised", "alive"]


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What a read may take before its process is ended.

    `cpu_s`: CPU time for each part of it; a chunk of 64 MB takes less than 1 s. `silent_s`: the same by the clock, for
    a process that is frozen, or waits for a disk that does not answer. `memory_bytes`: beyond those it starts with.
    """

    cpu_s: int = 30
    silent_s: int = 600
    memory_bytes: int = 320_000_000


class ReaderProcess:
    """Where HDF5 reads, as `Opener`: in another process, and in a new one when that has died. For one thread at a time.

    `stopping`: once it is set, a read that takes long is ended. Calls raise `ReaderDiedError`, `StoppedError`, and
    `ConfigurationError` where no such process can be started.
    """

    def __init__(self, limits: ReadLimits = ReadLimits(), stopping: Event | None = None) -> None:
        self._limits = limits
        self._stopping = stopping or Event()
        self._process: _Process | None = _Process(limits)  # starts while others are busy with other things

    def open(self, path: Path) -> OpenFile:
        """As `Opener`."""
        return _OpenThere(self, self.call(_Served.open, path))

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.end()
        self._process = None

    def call(self, function: Callable[..., _Found], *arguments: object) -> _Found:
        """What this function returns or raises there. `ReaderDiedError`: the process is no more."""
        process = self._process = self._process or _Process(self._limits)
        try:
            kind, value = process.answer((function, arguments), self._stopping)
        except BaseException:
            process.end()
            self._process = None
            raise
        if kind == "raised":
            raise value
        found: _Found = value
        return found


class _OpenThere:
    """One version of the file, open in the other process."""

    def __init__(self, process: ReaderProcess, version: Version) -> None:
        self._process = process
        self.version = version

    def look(self, look: Callable[[h5py.File, Alive], _Found]) -> _Found:
        """As `OpenFile`."""
        found: _Found = self._process.call(_Served.look, look)
        return found

    def close(self) -> None:
        """As `OpenFile`."""
        with suppress(ReaderDiedError):
            self._process.call(_Served.close)


class _Process:
    """One process, from its start to its end."""

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._is_ready = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self._connection, there = Pipe()
        numbers = (there.fileno(), limits.cpu_s, limits.memory_bytes)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(Path(__file__).parent), *map(str, numbers)],
                executable=None if os.access(sys.executable, os.X_OK) else RUNNING_PROGRAM,
                env={name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[there.fileno()],
                process_group=0,  # Ctrl-C is for whoever started it
            )
        except OSError as error:
            raise _cannot_start(str(error)) from error
        finally:
            there.close()

    def answer(self, call: object, stopping: Event) -> tuple[_Kind, Any]:
        """What comes of a call there."""
        if not self._is_ready:
            try:
                self._received(START_S, stopping)
            except ReaderDiedError as error:
                raise _cannot_start(str(error)) from error
            self._is_ready = True
        try:
            self._connection.send(call)
        except OSError as error:
            raise self._died() from error
        while True:
            kind, value = self._received(self._limits.silent_s, stopping)
            if kind != "alive":
                return kind, value

    def end(self) -> None:
        """Let it go, whatever it is at."""
        self._connection.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # a disk that does not answer: the system ends it when it does
            self._process.wait(timeout=5)
        self._errors.close()

    def _received(self, patience_s: float, stopping: Event) -> tuple[_Kind, Any]:
        begun = monotonic()
        stopping_since: float | None = None
        try:
            while not self._connection.poll(POLL_S):
                if monotonic() - begun > patience_s:
                    raise ReaderDiedError(f"it gave no answer for {patience_s:.0f} s")
                if stopping.is_set():
                    stopping_since = stopping_since or monotonic()
                    if monotonic() - stopping_since > STOPPING_S:
                        raise StoppedError("The run was told to stop while it read the meter file")
            kind, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        return kind, value

    def _died(self) -> ReaderDiedError:
        """How it ended, and the last line that it said."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        if code == -signal.SIGPROF:
            return ReaderDiedError(f"it took more than {self._limits.cpu_s} s of CPU time")
        how = f"exit code {code}" if code is None or code >= 0 else signal.strsignal(-code) or f"signal {-code}"
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        return ReaderDiedError(f"it ended with {how}{''.join(f' ({line})' for line in said)}")


def _cannot_start(how: str) -> ConfigurationError:
    return ConfigurationError(f"The process that reads the meter file does not start: {how}").advised(
        "meter file reader"
    )


def serve(descriptor: int, cpu_s: int, memory_bytes: int) -> None:
    """In the process itself: answer calls until the other end of the connection is closed."""
    connection = Connection(descriptor)
    keep_little_memory_free()
    _limit_memory(memory_bytes)

    def alive() -> None:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # SIGPROF ends the process, also within HDF5
        connection.send(("alive", None))

    served = _Served(alive)
    with suppress(EOFError, OSError):
        alive()
        while True:
            function, arguments = connection.recv()
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            try:
                answer: tuple[_Kind, object] = ("found", function(served, *arguments))
            except Exception as error:  # noqa: BLE001 - raised at the other end
                answer = ("raised", error)
            connection.send(answer)


class _Served:
    """The file that is open in this process; each method is called from the other one."""

    def __init__(self, alive: Alive) -> None:
        self._alive = alive
        self._open: OpenHere | None = None

    def open(self, path: Path) -> Version:
        self._open = OpenHere(path)
        return self._open.version

    def look(self, look: Callable[[h5py.File, Alive], _Found]) -> _Found:
        assert self._open is not None
        return self._open.look(look, self._alive)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None


def _limit_memory(more_bytes: int) -> None:
    """From now on, so much more than it has now; and what a crash leaves behind is no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # no Linux: without a limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
