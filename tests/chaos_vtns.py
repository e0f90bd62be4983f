"""The VTNs of rounds of chaos, one for each wire: how it is broken and damaged, and what it has to hold."""

import random
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import get_args

from tests.openadr3_schema import Version
from tests.reference_vtn import OF_RESOURCE, ReferenceVtn
from tests.sites import Site, expected_points
from tests.standard_site import assert_stored, by_load, registered, reports_of, stored_points
from tests.standard_vtn import StandardVtn
from venclient.loads import Load
from vtn import faults
from vtn.standard.switches import Kind
from vtn.standard.switches import Seen as SeenReport
from vtn.switches import Seen as SeenPoints

Seen = SeenPoints | SeenReport
DONE = (200, 201)
CHUNK_SIZE = 100


class ChaosVtn(ABC):
    """A VTN in a process of its own, and its store."""

    wire = "bulk"
    fault_kinds: Sequence[str]
    # Points that a request in flight at a kill may bring the VTN twice.
    points_again: int
    # How many requests with points are waited for; a run has more.
    most_before_it_goes_wrong: int
    process: ReferenceVtn | StandardVtn

    @property
    def base_path(self) -> str:
        """The path of its address."""
        return self.process.base_url.removeprefix(self.process.origin)

    @abstractmethod
    def register(self, site: Site) -> None:
        """Make the site's loads known to it."""

    @abstractmethod
    def starts_of(self, site: Site, load: Load) -> set[int]:
        """The starts of the points of a load that it has."""

    @abstractmethod
    def assert_stored(self, site: Site) -> None:
        """It holds exactly what the file says."""

    @abstractmethod
    def damage(self, site: Site, load: Load, dice: random.Random) -> None:
        """Alter or delete some of what it has of a load."""

    @abstractmethod
    def forget_points(self, store: sqlite3.Connection) -> None:
        """Let it have its resources without a point."""

    @abstractmethod
    def request(self, seen: Seen) -> Hashable:
        """What makes two requests the same."""

    @abstractmethod
    def is_of(self, seen: Seen, resource_ids: set[str]) -> bool:
        """Whether a request was about one of these resources."""

    def lost(self, site: Site) -> int:
        """How many points of the file it does not have."""
        return sum(
            len(set(expected_points(site.rows(load).tolist())[0]) - self.starts_of(site, load)) for load in site.loads
        )

    def is_acknowledged(self, seen: Seen) -> bool:
        """Whether the VTN stored all points and said so."""
        return seen.status in DONE and seen.method != "GET" if isinstance(seen, SeenReport) else seen.status == 201


class BulkChaosVtn(ChaosVtn):
    """The one with the bulk endpoint."""

    fault_kinds = (*get_args(faults.Refusal), *get_args(faults.Unheard), *get_args(faults.Stored))

    points_again = CHUNK_SIZE
    most_before_it_goes_wrong = 36

    def __init__(self, folder: Path) -> None:
        self.process: ReferenceVtn = ReferenceVtn(folder / "vtn.db")

    def register(self, site: Site) -> None:
        """See `ChaosVtn`."""
        site.register(self.process)

    def starts_of(self, _site: Site, load: Load) -> set[int]:
        """See `ChaosVtn`."""
        return set(self.process.points(load.vtn_resource_id).start_s.tolist())

    def assert_stored(self, site: Site) -> None:
        """See `ChaosVtn`."""
        site.assert_stored(self.process)

    def damage(self, _site: Site, load: Load, dice: random.Random) -> None:
        """See `ChaosVtn`; a point of it."""
        starts = self.process.points(load.vtn_resource_id).start_s.tolist()
        if not starts:
            return
        start_s = dice.choice(starts)
        if dice.random() < 0.5:
            self.process.alter_point(load.vtn_resource_id, start_s, -1.0)
        else:
            self.process.tamper(f"DELETE FROM points WHERE start = ? AND {OF_RESOURCE}", start_s, load.vtn_resource_id)

    def forget_points(self, store: sqlite3.Connection) -> None:
        """See `ChaosVtn`."""
        store.execute("DELETE FROM points")

    def request(self, seen: Seen) -> Hashable:
        """See `ChaosVtn`."""
        assert isinstance(seen, SeenPoints)
        return seen.resource_id, seen.first_start, seen.points

    def is_of(self, seen: Seen, resource_ids: set[str]) -> bool:
        """See `ChaosVtn`."""
        assert isinstance(seen, SeenPoints)
        return seen.resource_id in resource_ids


class StandardChaosVtn(ChaosVtn):
    """One that speaks a version of the published API."""

    fault_kinds = tuple(kind for alias in get_args(Kind) for kind in get_args(alias))

    # A month is sent as it grows, by chunks, and all of it again if a run that lost its lease may have overwritten it.
    points_again = CHUNK_SIZE + 2 * CHUNK_SIZE + 3 * CHUNK_SIZE
    most_before_it_goes_wrong = 9

    def __init__(self, folder: Path, version: Version) -> None:
        self.process: StandardVtn = StandardVtn(folder / "vtn.db", version)
        self.wire = self.process.wire

    def register(self, site: Site) -> None:
        """See `ChaosVtn`."""
        self.process.prepare()
        registered(site, self.process)

    def starts_of(self, site: Site, load: Load) -> set[int]:
        """See `ChaosVtn`."""
        return set(stored_points(by_load(site, self.process).get(load.external_resource_id, [])))

    def assert_stored(self, site: Site) -> None:
        """See `ChaosVtn`; no report is there twice."""
        assert_stored(site, self.process)

    def damage(self, site: Site, load: Load, dice: random.Random) -> None:
        """See `ChaosVtn`; a report of it."""
        reports = [each for each in reports_of(site, self.process) if load.external_resource_id in str(each.content)]
        if not reports:
            return
        report = dice.choice(reports)
        if dice.random() < 0.5:
            interval = dice.choice(report.content["resources"][0]["intervals"])
            interval["payloads"][0]["values"] = [-1.0]
            self.process.alter_report(report.id, report.content)
        else:
            self.process.delete_report(report.id)

    def forget_points(self, store: sqlite3.Connection) -> None:
        """See `ChaosVtn`."""
        store.execute("DELETE FROM objects WHERE type = 'REPORT'")

    def request(self, seen: Seen) -> Hashable:
        """See `ChaosVtn`."""
        assert isinstance(seen, SeenReport)
        return seen.report_name, seen.body_digest

    def is_of(self, seen: Seen, resource_ids: set[str]) -> bool:
        """See `ChaosVtn`."""
        assert isinstance(seen, SeenReport)
        return (seen.report_name or "").rpartition(".")[0] in resource_ids


def chaos_vtn(wire: str, folder: Path) -> ChaosVtn:
    """The VTN of rounds over a wire, which has not started."""
    if wire == "bulk":
        return BulkChaosVtn(folder)
    return StandardChaosVtn(folder, "3.1.0" if wire == "openadr-3.1" else "3.0.1")
