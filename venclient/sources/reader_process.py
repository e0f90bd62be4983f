"""Read a meter file in a child process, so that a file that crashes or hangs HDF5 ends only that process.

HDF5 trusts much of a file's metadata. The process receives functions with their arguments and sends back what they
return or raise. The system ends it when it exceeds its limits of CPU time and memory. It also ends when the other end
of its connection is closed, if only by the death of its parent. (PR_SET_PDEATHSIG would end it with the thread that
started it.)
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
from venclient.sources.changing_file import Alive, InThisProcess, ReaderDiedError, Version
from venclient.sources.free_memory import keep_little_memory_free

# Bypasses `venclient/__init__.py`, whose imports take more than a second and are not needed to read.
_PROGRAM = """
import sys, types
package = types.ModuleType("venclient")
package.__path__ = [sys.argv[1]]
sys.modules["venclient"] = package
from venclient.sources.reader_process import serve
serve(*map(int, sys.argv[2:]))
"""
# Prefixes of the environment variables that reading may depend on; no other is passed on, least of all a secret.
ENVIRONMENT_PREFIXES = ("HDF5_", "LANG", "LC_", "LD_", "OPENBLAS_", "PATH", "PYTHON", "TMPDIR")
# The running interpreter, also if it is in a folder that this user may not enter, because another user started it.
RUNNING_INTERPRETER = "/proc/self/exe"
START_S = 120.0
POLL_S = 0.5
# How long a read in progress may still take once the run is stopped.
STOPPING_S = 5.0

_T = TypeVar("_T")
_Kind = Literal["found", "raised", "alive"]


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """What a read may use before its process is ended.

    `cpu_s`: CPU time for each part of a read; a chunk of 64 MB takes less than 1 s. `silent_s`: wall-clock time for
    each part, for a process that is frozen or waits for a disk. `memory_bytes`: in addition to what it starts with.
    """

    cpu_s: int = 30
    silent_s: int = 600
    memory_bytes: int = 320_000_000


class ReaderProcess:
    """A `Reader` in a child process, and in a new one once that has died. Not thread-safe.

    `stopping`: once it is set, a read that takes long is ended, and no other process is started. Calls raise
    `ReaderDiedError`, `StoppedError`, and `ConfigurationError` if the process cannot be started.
    """

    def __init__(self, limits: ReadLimits = ReadLimits(), stopping: Event | None = None) -> None:
        self._limits = limits
        self._stopping = stopping or Event()
        self._process: _Process | None = _Process(limits)  # starts in the background, before the first call

    def open(self, path: Path) -> Version:
        """As `Reader.open`."""
        return self._call(InThisProcess.open, path)

    def look(self, look: Callable[[h5py.File, Alive], _T]) -> _T:
        """As `Reader.look`."""
        if self._process is None:
            raise ReaderDiedError("it was ended, and a new one has not opened the file")
        found: _T = self._call(InThisProcess.look, look)
        return found

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.end()
        self._process = None

    def _call(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a method of the other process's `InThisProcess`; returns or raises what it does."""
        if self._process is None and self._stopping.is_set():
            raise StoppedError("The run was stopped before it read the meter file")
        process = self._process = self._process or _Process(self._limits)
        try:
            kind, value = process.call((function, arguments), self._stopping)
        except BaseException:  # a late answer must not be taken for that of the next call
            self.close()
            raise
        if kind == "raised":
            raise value
        result: _T = value
        return result


class _Process:
    """The child process and its connection."""

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._is_ready = False
        try:
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        except OSError as error:
            raise ConfigurationError(
                f"The process that reads the meter file needs a temporary file: {error}. Make room, or set TMPDIR"
            ) from error
        self._connection, child_end = Pipe()
        arguments = (child_end.fileno(), limits.cpu_s, limits.memory_bytes)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(Path(__file__).parents[1]), *map(str, arguments)],
                executable=None if os.access(sys.executable, os.X_OK) else RUNNING_INTERPRETER,
                env={name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT_PREFIXES)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=[child_end.fileno()],
                process_group=0,  # Ctrl-C at a terminal goes to the parent only
            )
        except OSError as error:
            raise _cannot_start(str(error)) from error
        finally:
            child_end.close()

    def call(self, request: object, stopping: Event) -> tuple[_Kind, Any]:
        """Send a request and wait for its outcome; each heartbeat restarts the timeout."""
        if not self._is_ready:
            try:
                self._receive(START_S, stopping)
            except ReaderDiedError as error:
                raise _cannot_start(str(error)) from error
            self._is_ready = True
        try:
            self._connection.send(request)
        except OSError as error:
            raise self._died() from error
        while True:
            kind, value = self._receive(self._limits.silent_s, stopping)
            if kind != "alive":
                return kind, value

    def end(self) -> None:
        """Kill the process, whatever it is doing."""
        self._connection.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # in uninterruptible sleep, as for a disk: it ends later
            self._process.wait(timeout=5)
        self._stderr.close()

    def _receive(self, timeout_s: float, stopping: Event) -> tuple[_Kind, Any]:
        started = monotonic()
        stopping_since: float | None = None
        try:
            while not self._connection.poll(POLL_S):
                if monotonic() - started > timeout_s:
                    raise ReaderDiedError(f"it gave no answer for {timeout_s:.0f} s")
                if stopping.is_set():
                    stopping_since = stopping_since or monotonic()
                    if monotonic() - stopping_since > STOPPING_S:
                        raise StoppedError("The run was told to stop while it read the meter file")
            kind, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        return kind, value

    def _died(self) -> ReaderDiedError:
        """Describe how the process ended, with the last line of its stderr."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        if code == -signal.SIGPROF:  # the timer that `serve` sets
            return ReaderDiedError(f"it took more than {self._limits.cpu_s} s of CPU time")
        how = f"exit code {code}" if code is None or code >= 0 else signal.strsignal(-code) or f"signal {-code}"
        self._stderr.seek(0)
        last_line = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        return ReaderDiedError(f"it ended with {how}{''.join(f' ({line})' for line in last_line)}")


def _cannot_start(how: str) -> ConfigurationError:
    return ConfigurationError(f"The process that reads the meter file does not start: {how}").advised(
        "meter file reader"
    )


def serve(descriptor: int, cpu_s: int, memory_bytes: int) -> None:
    """Run in the child process: answer calls until the other end of the connection is closed."""
    connection = Connection(descriptor)
    keep_little_memory_free()
    _limit_memory(memory_bytes)

    def alive() -> None:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # SIGPROF ends the process even inside HDF5
        connection.send(("alive", None))

    reader = InThisProcess(alive)
    with suppress(EOFError, OSError):
        alive()
        while True:
            function, arguments = connection.recv()
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            try:
                answer: tuple[_Kind, object] = ("found", function(reader, *arguments))
            except Exception as error:  # noqa: BLE001 - raised at the other end
                answer = ("raised", error)
            connection.send(answer)


def _limit_memory(more_bytes: int) -> None:
    """Limit the address space to its current size and `more_bytes`, and disable core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # not Linux: no limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        max_bytes = pages * resource.getpagesize() + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
