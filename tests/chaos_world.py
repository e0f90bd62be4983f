"""What rounds of chaos play with: an operator's site, a VTN behind a line, Prefect; and what has to hold after each."""

import gc
import os
import random
import sqlite3
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings

from config.settings import given_options
from flows.bulk_upload import bulk_upload
from tests.chaos_vtns import CHUNK_SIZE, Seen, chaos_vtn
from tests.commands import start
from tests.sites import Site
from tests.slow_line import SlowLine
from venclient.ledger.ledger import Ledger
from venclient.sources.hdf5 import MeterFile
from venclient.sync.pending import pending

LOADS, POINTS, VENS = 18, 240, 3
CONCURRENCY = 6
OF_A_RUN = ("upload", "lease", "progress", "deadline", "limit", "stop", "watchdog")
ROUNDS_TO_WARM_UP = 10
GROWTH_BYTES = 60 * 2**20


@dataclass
class Tally:
    """What came of the rounds of one kind."""

    rounds: int = 0
    points: int = 0
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    lost: int = 0
    sent_twice: int = 0
    seconds: float = 0.0


@dataclass
class Round:
    """A round at work: its number, its dice, and what it may send twice.

    `repaired_ids`: resources of which a repair sends months again that the VTN has acknowledged.
    """

    number: int
    kind: str
    dice: random.Random
    kills: int = 0
    seen: list[Seen] = field(default_factory=list)
    repaired_ids: set[str] = field(default_factory=set)


class World:
    """An operator's site, its VTN behind a line that can be made slow, and a Prefect server; all over one wire.

    `bytes_at_rest`: the memory of this process after each round, of other worlds as well.
    """

    def __init__(
        self, folder: Path, prefect_url: str, wire: str = "bulk", bytes_at_rest: list[int] | None = None
    ) -> None:
        self._stack = ExitStack()
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.prefect_url = prefect_url
        self.kind = chaos_vtn(wire, folder)
        self.vtn = self.kind.process
        self.site = Site(folder / "site", loads=LOADS, points=POINTS, vens=VENS)
        self.ledger = str(self.site.ledger)
        self.tallies: dict[str, Tally] = defaultdict(Tally)
        self.bytes_at_rest = [] if bytes_at_rest is None else bytes_at_rest
        self._noted = 0

    def __enter__(self) -> Self:
        self._stack.enter_context(self.vtn)
        self.line = self._stack.enter_context(SlowLine(self.vtn.port))
        self.kind.register(self.site)
        self._stack.enter_context(temporary_settings({PREFECT_API_URL: self.prefect_url}))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def vtn_url(self) -> str:
        """The VTN's address on the line."""
        return f"http://127.0.0.1:{self.line.port}{self.kind.base_path}"

    def play(self, number: int, kind: str, seed: int, goes_wrong: Callable[["World", Round], None]) -> None:
        """One round; an `AssertionError` says what is not as it should be."""
        round_ = Round(number, kind, random.Random(f"{seed} {number}"))
        began = time.monotonic()
        self._noted = len(self.vtn.log())
        self._change_the_file(round_.dice)
        goes_wrong(self, round_)
        self.vtn.switch()
        self.line.trickles.clear()
        self._converge()
        self.note(round_)
        self._assert_all_is_well(round_)
        tally = self.tallies[kind]
        tally.rounds += 1
        tally.points += sum(each.stored for each in round_.seen)
        tally.requests += len(round_.seen)
        tally.kills += round_.kills
        tally.faults.update(each.fault for each in round_.seen if each.fault)
        tally.seconds += time.monotonic() - began

    def run(self, **options: Any) -> State[Any]:
        """A run of the flow in this process."""
        only_failed = options.pop("only_failed", False)
        given: dict[str, Any] = {
            "vtn_url": self.vtn_url,
            "wire": self.kind.wire,
            "bearer_token": self.vtn.token,
            "resources_db": str(self.site.db),
            "meter_file": self.site.h5,
            "ledger_url": self.ledger,
            "concurrency": CONCURRENCY,
            "retry_wait_s": 0.01,
            "timeout_s": 2.0,
        }
        with given_options(**given | options):
            state: State[Any] = bulk_upload(only_failed=only_failed, chunk_size=CHUNK_SIZE, return_state=True)
        return state

    def start(
        self, command: str = "run", *options: str, prefix: Sequence[str] = (), **environment: Any
    ) -> subprocess.Popen[str]:
        """The same, or another command on the same site, as a process of its own."""
        site = ["--db", self.site.db, "--h5", self.site.h5, "--ledger", self.ledger, "--vtn-url", self.vtn_url]
        settings: dict[str, Any] = {
            "VTN_WIRE": self.kind.wire,
            "VTN_BEARER_TOKEN": self.vtn.token,
            "BULK_UPLOAD_CHUNK_SIZE": str(CHUNK_SIZE),
            "BULK_UPLOAD_CONCURRENCY": str(CONCURRENCY),
            "BULK_UPLOAD_RETRY_WAIT_S": "0.01",
            "BULK_UPLOAD_TIMEOUT_S": "2",
        }
        return start(
            command,
            *options,
            *site,
            cwd=self.folder,
            prefect_url=self.prefect_url,
            prefix=prefix,
            **(settings | environment),
        )

    def repair(self, round_: Round) -> str:
        """`bulk-upload verify --repair`, which waits for a run that holds a VEN; what it said."""
        repair = self.start("verify", "--repair", BULK_UPLOAD_WHEN_BUSY="wait")
        output, errors = repair.communicate(timeout=120)
        assert repair.returncode in (0, 1), errors
        round_.repaired_ids |= {load.vtn_resource_id for load in self.site.loads}
        return output + errors

    def note(self, round_: Round) -> None:
        """Keep what the VTN has seen: its own note is lost when it is killed."""
        seen = self.vtn.log(after=self._noted)
        round_.seen += seen
        self._noted += len(seen)

    def restart_vtn(self, round_: Round, away_s: float) -> None:
        """Kill -9, and start again a while later."""
        self.note(round_)
        round_.kills += 1
        self.vtn.kill()
        time.sleep(away_s)
        self.vtn.start()
        self._noted = 0

    def back_up_vtn(self, file: Path) -> None:
        """Keep what the VTN's store holds now."""
        with closing(sqlite3.connect(self.vtn.store)) as store, closing(sqlite3.connect(file)) as backup:
            store.backup(backup)

    def restore_vtn(self, round_: Round, backup: Path | None) -> None:
        """Let the VTN have what it had then, or its resources without a point."""
        self.note(round_)
        self.vtn.stop()
        with closing(sqlite3.connect(self.vtn.store)) as store, store:
            if backup is None:
                self.kind.forget_points(store)
            else:
                with closing(sqlite3.connect(backup)) as kept:
                    kept.backup(store)
        self.vtn.start()
        self._noted = 0

    def damage(self, dice: random.Random) -> None:
        """Alter or delete some of what the VTN has of three loads."""
        for load in dice.sample(self.site.loads, 3):
            self.kind.damage(self.site, load, dice)

    def has_begun(self, dice: random.Random) -> None:
        """Wait until some points have come, or none will."""
        wanted = dice.randint(1, self.kind.most_before_it_goes_wrong)
        give_up_at = time.monotonic() + 20
        while sum(each.points > 0 for each in self.vtn.log(self._noted)) < wanted and time.monotonic() < give_up_at:
            time.sleep(0.01)

    def _change_the_file(self, dice: random.Random) -> None:
        for load in self.site.loads:
            self.site.append(load, dice.randint(5, 30))
            if dice.random() < 0.5:
                rows = self.site.rows(load)
                rows[dice.randrange(len(rows)), 1] += dice.randint(1, 100)
                self.site.write_rows(load, rows)

    def _converge(self) -> None:
        """In peace, one run sends all, and another what was refused or failed by a random answer."""
        state = self.run()
        if not state.is_completed():
            state = self.run(only_failed=True)
        assert state.is_completed(), state.message

    def _assert_all_is_well(self, round_: Round) -> None:
        self.tallies[round_.kind].lost += self.kind.lost(self.site)
        self.kind.assert_stored(self.site)
        with MeterFile(self.site.h5) as meters, Ledger(self.ledger, self.vtn_url, wire=self.kind.wire) as ledger:
            entries = ledger.entries(self.site.loads)
            for load in self.site.loads:
                entry = entries[load.vtn_resource_id]
                assert (entry.state, entry.refused) == ("done", ()), load
                assert not pending(meters.series(load.h5_meter_id, load.load_component), entry.marks), load
        twice = self._points_acknowledged_twice(round_)
        self.tallies[round_.kind].sent_twice += twice
        assert twice <= round_.kills * CONCURRENCY * self.kind.points_again, f"{twice} points were acknowledged twice"
        assert self.vtn.in_flight() == 0
        self._assert_at_rest()

    def _points_acknowledged_twice(self, round_: Round) -> int:
        """Points of requests that were answered with success and nothing else more than once.

        By a run that took over from one that was stopped, and by a frozen one that wakes up after its deadline.
        """
        clean = [
            each
            for each in round_.seen
            if self.kind.is_acknowledged(each) and each.fault is None and each.stored == each.points
        ]
        sent = Counter(
            (self.kind.request(each), each.points) for each in clean if not self.kind.is_of(each, round_.repaired_ids)
        )
        return sum(points for (_, points), times in sent.items() if times > 1)

    def _assert_at_rest(self) -> None:
        """No thread of a run is left, and memory does not grow from round to round."""
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith(OF_A_RUN)]
        assert not left, left
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.bytes_at_rest.append(pages * os.sysconf("SC_PAGE_SIZE"))
        warm = self.bytes_at_rest[ROUNDS_TO_WARM_UP:]
        assert not warm or warm[-1] - warm[0] < GROWTH_BYTES, warm
