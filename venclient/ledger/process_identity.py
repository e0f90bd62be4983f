"""Which process this is, in a way that another process of the machine can tell whether it still runs."""

import os
import re
import socket
from pathlib import Path

ENDED = "ZX"  # states of a process that only waits for its parent to take note


def this_process() -> str:
    """This process, among all of all machines (Linux; elsewhere nothing that is known)."""
    return f"{_machine()} {os.getpid()} {_started(os.getpid())}"


def on_this_machine(what: str) -> str:
    """It, with where it runs, for people: `A run on host7 (process 4711)`."""
    return f"{what} on {socket.gethostname()} (process {os.getpid()})"


def has_ended(process: str) -> bool:
    """Whether this process is known to be gone: that takes the same machine, and the same container on it."""
    found = re.fullmatch(r"(.+) (\d{1,9}) (\S+)", process)
    if found is None or found[1] != _machine():
        return False
    pid, started = int(found[2]), found[3]
    now = _started(pid)
    return now != started if now is not None else not _is_there(pid)


def _machine() -> str:
    """Since its last start; with the namespace in which process numbers count."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - a link to nowhere
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When the process with this number started, in ticks: numbers are used again. None when it is not to be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    state, ticks = fields[0], fields[19]
    return "ended" if state in ENDED else ticks


def _is_there(pid: int) -> bool:
    """Whether there is a process with this number; another user's may be hidden in /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
