"""An identity of this process by which others on the same machine can check whether it still runs."""

import os
import re
import socket
from pathlib import Path

ENDED_STATES = "ZX"  # zombie, dead (proc(5)): such a process only waits to be reaped by its parent


def this_process() -> str:
    """Return boot id, PID namespace, PID and start time: unique across machines on Linux, of no use elsewhere."""
    return f"{_machine()} {os.getpid()} {_start_time(os.getpid())}"


def on_this_machine(what: str) -> str:
    """Add this host and process to a title: `A run on host7 (process 4711)`."""
    return f"{what} on {socket.gethostname()} (process {os.getpid()})"


def has_ended(process: str) -> bool:
    """Check whether a process is known to have ended: never one of another machine, or of another container on it."""
    found = re.fullmatch(r"(.+) (\d{1,9}) (\S+)", process)
    if found is None or found[1] != _machine():
        return False
    pid, start_time = int(found[2]), found[3]
    current = _start_time(pid)
    return current != start_time if current is not None else not _exists(pid)


def _machine() -> str:
    """Return the boot id and the PID namespace, within which PIDs are comparable; empty without Linux's /proc."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - not a link to a path
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return the start time of a process in ticks, as PIDs are reused, or "ended"; None if it cannot be read."""
    try:
        # The command, the second field, is in brackets and may hold spaces and brackets itself.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2].split()
    except OSError:
        return None
    state, ticks = fields[0], fields[19]  # fields 3 and 22 (proc(5))
    return "ended" if state in ENDED_STATES else ticks


def _exists(pid: int) -> bool:
    """Check whether there is a process with this PID; /proc may hide those of other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
