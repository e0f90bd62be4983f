"""How the upload stands, from the ledger and the resources database alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from venclient.ledger import Standing
from venclient.models import Load, LoadState
from venclient.resource_db import ResourceDatabase


@dataclass(frozen=True, slots=True)
class LoadStanding:
    """One registered load: its state, and how many points the VTN has acknowledged."""

    load_id: str
    ven: str
    load_component: str
    state: LoadState
    points: int
    error: str | None


@dataclass(frozen=True, slots=True)
class VenStanding:
    """One VEN: its registered loads by state, and their points."""

    ven: str
    loads: int
    done: int
    failed: int
    pending: int
    points: int
    unregistered: int


@dataclass(frozen=True, slots=True)
class UploadStanding:
    """Every VEN asked for, and every registered load of theirs."""

    vens: list[VenStanding]
    loads: list[LoadStanding]


def upload_standing(
    database: ResourceDatabase, known: Mapping[str, Standing], vens: Sequence[str] | None = None
) -> UploadStanding:
    """Put the loads table beside what the ledger knows, by `vtn_resource_id`; what it does not know is pending."""
    outlines = database.vens(vens)
    loads = [_load_standing(load, known.get(load.vtn_resource_id)) for load in database.loads(vens)]
    of_ven: dict[str, list[LoadStanding]] = {outline.ven: [] for outline in outlines}
    for load in loads:
        of_ven[load.ven].append(load)
    return UploadStanding(
        [_ven_standing(outline.ven, of_ven[outline.ven], outline.unregistered) for outline in outlines], loads
    )


def _load_standing(load: Load, known: Standing | None) -> LoadStanding:
    standing = known or Standing("pending", None, 0)
    return LoadStanding(load.load_id, load.ven, load.load_component, standing.state, standing.points, standing.error)


def _ven_standing(ven: str, loads: list[LoadStanding], unregistered: int) -> VenStanding:
    states = [load.state for load in loads]
    return VenStanding(
        ven=ven,
        loads=len(loads),
        done=states.count("done"),
        failed=states.count("failed"),
        pending=states.count("pending"),
        points=sum(load.points for load in loads),
        unregistered=unregistered,
    )
