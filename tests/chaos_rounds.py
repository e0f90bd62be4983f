"""What can go wrong in a round of chaos; the dice say when, how often and for how long."""

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

from tests.chaos_world import CONCURRENCY, Round, World
from tests.system_postgresql import SystemPostgresql

LEASE_S = 30.0  # without a sign of life: venclient.ledger.liveness
DISK_BYTES = 16 * 2**20
PAGE_BYTES = 4096
OTHER_CLOCK = Path(__file__).with_name("other_clock")
# Its processes cannot be looked for from here, nor those of this machine from there.
ANOTHER_MACHINE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def _faults(world: World, round_: Round) -> None:
    """Every kind of fault, on up to 60 % of all requests."""
    kinds = list(world.kind.fault_kinds)
    some = round_.dice.sample(kinds, round_.dice.randint(1, len(kinds)))
    world.vtn.switch(rate=round_.dice.uniform(0.05, 0.6), kinds=some, seed=round_.number, stall_s=0.2, retry_after_s=0)
    world.run()


def _vtn_killed(world: World, round_: Round) -> None:
    """The VTN is killed while a run sends, and is away for up to 8 s."""
    world.vtn.switch(points_per_second=2_000)
    with _meanwhile(world.run):
        world.has_begun(round_.dice)
        world.restart_vtn(round_, round_.dice.uniform(0, 8))


def _run_killed(world: World, round_: Round) -> None:
    """The run is killed at a random moment, up to three times."""
    world.vtn.switch(points_per_second=2_000)
    for _ in range(round_.dice.randint(1, 3)):
        run = world.start()
        world.has_begun(round_.dice)
        run.kill()
        run.communicate()
        round_.kills += 1


def _run_frozen(world: World, round_: Round) -> None:
    """The run is stopped for longer than its lease, another takes over, and it wakes up again."""
    world.vtn.switch(points_per_second=500)
    frozen = world.start()
    world.has_begun(round_.dice)
    frozen.send_signal(signal.SIGSTOP)
    round_.kills += 1
    world.vtn.switch()
    successor = world.start(BULK_UPLOAD_WHEN_BUSY="wait")
    _, told = successor.communicate(timeout=LEASE_S + 60)
    assert successor.returncode == 0, told
    frozen.send_signal(signal.SIGCONT)
    _, told = frozen.communicate(timeout=120)
    assert frozen.returncode == 1, told
    assert "has taken over the VEN" in told


def _database_killed(world: World, round_: Round) -> None:
    """The ledger is on PostgreSQL, whose processes are killed while a run sends."""
    with SystemPostgresql() as database:
        before, world.ledger = world.ledger, database.url.replace("postgresql:", "postgresql+psycopg:")
        try:
            world.vtn.switch(points_per_second=2_000)
            with _meanwhile(world.run):
                world.has_begun(round_.dice)
                database.kill()
                round_.kills += 1
                time.sleep(round_.dice.uniform(0, 2))
                database.start()
                world.vtn.switch()
            world.note(round_)
            round_.seen.clear()  # this ledger knew nothing before: all was sent again
            world._converge()
            world.kind.assert_stored(world.site)
        finally:
            world.ledger = before


def _disk_full(world: World, round_: Round) -> None:
    """The ledger's disk fills up while a run sends."""
    disk = world.folder / "disk"
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
    before = world.ledger
    try:
        world.ledger = str(disk / "ledger.db")
        (disk / "filler").write_bytes(b"x" * (DISK_BYTES - round_.dice.randint(30, 400) * PAGE_BYTES))
        run = world.start()
        _, told = run.communicate(timeout=120)
        assert run.returncode == 0 or "full" in told, told
        (disk / "filler").unlink()
        world.note(round_)
        acknowledged = {world.kind.request(each) for each in round_.seen if world.kind.is_acknowledged(each)}
        round_.seen.clear()
        world._converge()
        world.kind.assert_stored(world.site)
        world.note(round_)
        again = {world.kind.request(each) for each in round_.seen} & acknowledged
        assert len(again) <= CONCURRENCY, "what was acknowledged and recorded is not sent again"
        round_.seen.clear()
    finally:
        world.ledger = before
        subprocess.run(["umount", disk], check=True)


def _slow_loris(world: World, round_: Round) -> None:
    """The VTN's answers come a byte at a time, for a while."""
    world.vtn.switch(points_per_second=5_000)
    with _meanwhile(world.run):
        world.has_begun(round_.dice)
        world.line.trickles.set()
        time.sleep(round_.dice.uniform(1, 6))
        world.line.trickles.clear()
    round_.kills += 1  # answers that were not waited for to their end


def _clock_jumps(world: World, round_: Round) -> None:
    """The clock of the run's machine jumps by up to ten days, to and fro, and the run is killed."""
    clock = world.folder / "clock"
    world.vtn.switch(points_per_second=2_000)
    run = world.start(**clock_set_to(0, clock))
    for _ in range(5):
        world.has_begun(round_.dice)
        clock.write_text(str(round_.dice.randint(-864_000, 864_000)))
    run.kill()
    run.communicate()
    round_.kills += 1


def _clocks_apart(world: World, round_: Round) -> None:
    """Two machines whose clocks are days apart upload the same VENs; half of the time the first one is killed."""
    world.vtn.switch(points_per_second=2_000)
    late = clock_set_to(round_.dice.randint(-864_000, -86_400), world.folder / "clock")
    first = world.start(prefix=ANOTHER_MACHINE, **late)
    world.has_begun(round_.dice)
    early = clock_set_to(round_.dice.randint(0, 864_000), world.folder / "another-clock")
    second = world.start(BULK_UPLOAD_WHEN_BUSY="wait", **early)
    if round_.dice.random() < 0.5:
        first.kill()
        round_.kills += 1
    first.communicate(timeout=120)
    _, errors = second.communicate(timeout=LEASE_S + 120)
    assert second.returncode == 0, errors


def _repaired_meanwhile(world: World, round_: Round) -> None:
    """Points are altered and lost at the VTN, and `verify --repair` finds them while a run sends the same months."""
    world.vtn.switch(points_per_second=2_000)
    with _meanwhile(world.run):
        world.has_begun(round_.dice)
        world.damage(round_.dice)
        world.repair(round_)


def _vtn_restored(world: World, round_: Round) -> None:
    """The VTN loses what it acknowledged in the last run, or all that it ever had: the next run says so."""
    backup = world.folder / "backup.db"
    world.back_up_vtn(backup)
    world.run()
    is_emptied = round_.dice.random() < 0.5
    world.restore_vtn(round_, None if is_emptied else backup)
    if is_emptied:
        run = world.start()
        _, errors = run.communicate(timeout=120)
        assert "verify --repair" in errors, errors
    world.repair(round_)


def clock_set_to(offset_s: int, clock: Path) -> dict[str, str]:
    """The environment of a process whose clock is so much off, and later by what is written to the file."""
    clock.write_text(str(offset_s))
    return {"PYTHONPATH": str(OTHER_CLOCK), "CLOCK_OFFSET_FILE": str(clock)}


@contextmanager
def _meanwhile(call: Callable[[], object]) -> Iterator[None]:
    """The call in a thread, which is waited for at the end; what leaves it leaves this."""
    with ThreadPoolExecutor(1, thread_name_prefix="chaos") as pool:
        called = pool.submit(copy_context().run, call)
        yield
        called.result()


KINDS: dict[str, Callable[[World, Round], None]] = {
    "faults": _faults,
    "vtn killed": _vtn_killed,
    "run killed": _run_killed,
    "slow loris": _slow_loris,
    "disk full": _disk_full,
    "clock jumps": _clock_jumps,
    "database killed": _database_killed,
    "run frozen": _run_frozen,
    "repaired meanwhile": _repaired_meanwhile,
    "vtn restored": _vtn_restored,
    "clocks apart": _clocks_apart,
}
# Of a hundred rounds.
SHARES = {
    "faults": 40, "vtn killed": 12, "run killed": 10, "slow loris": 6, "disk full": 6, "repaired meanwhile": 6,
    "vtn restored": 6, "clock jumps": 4, "clocks apart": 4, "database killed": 4, "run frozen": 2,
}  # fmt: skip


# Of each eight rounds, one goes over each of the standard wires.
WIRES = ("bulk", "openadr-3.1", "bulk", "bulk", "bulk", "openadr-3.0.1", "bulk", "bulk")


def wire_of(number: int) -> str:
    """Over which wire a round goes."""
    return WIRES[number % len(WIRES)]


def kinds_of(rounds: int, seed: int) -> list[str]:
    """What each of so many rounds is about: all kinds, by their shares."""
    kinds = [kind for kind, share in SHARES.items() for _ in range(max(1, round(share * rounds / 100)))]
    random.Random(seed).shuffle(kinds)
    return kinds[:rounds]
