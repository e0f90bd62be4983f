"""Which loads a run takes, in batches of one VEN each; and slices of VENs, for several runs."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from venclient.errors import ConfigurationError
from venclient.models import Load, vens_title
from venclient.resources.database import ResourceDatabase, VenOutline
from venclient.untrusted_text import visible

LOADS_AT_A_TIME = 500


@dataclass(frozen=True, slots=True)
class Batch:
    """Some loads of one VEN, by their `load_id`: from the `first` on of the `of` that are dealt with in batches."""

    ven: str
    first: int
    of: int
    load_ids: tuple[str, ...]

    def __str__(self) -> str:
        return f"{visible(self.ven)} {self.first}-{self.first + len(self.load_ids) - 1} of {self.of}"


@dataclass(frozen=True, slots=True)
class VenWork:
    """A VEN that a run has something to do for: all loads that it takes of it, and the points that are to be sent."""

    ven: str
    loads: int
    points: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of a run's VENs: number `number` of `of`."""

    number: int
    of: int
    vens: tuple[str, ...]
    loads: int
    points: int

    def __str__(self) -> str:
        return f"Slice {self.number} of {self.of}: {vens_title(self.vens)}"


@dataclass(frozen=True, slots=True)
class Selection:
    """What a run takes on: `load_ids` by VEN, in order, because a hundred thousand `Load`s would take 100 MB.

    `unregistered`: how many loads it leaves out because the VTN does not know them yet; `left_out`: how many because
    they are disabled or suspended.
    """

    load_ids: Mapping[str, Sequence[str]]
    unregistered: int
    left_out: int

    def __len__(self) -> int:
        return sum(map(len, self.load_ids.values()))

    def loads(self, database: ResourceDatabase) -> Iterator[list[Load]]:
        """The loads, in order, up to 500 at a time; those that are not there any more as in `found_again`."""
        ids = ((ven, load_id) for ven, of_ven in self.load_ids.items() for load_id in of_ven)
        while part := list(islice(ids, LOADS_AT_A_TIME)):
            yield found_again(database, part)


def select_loads(
    database: ResourceDatabase,
    vens: Sequence[str] | None = None,
    limit_loads: int | None = None,
    only: Collection[str] | None = None,
) -> Selection:
    """The registered loads of these VENs (of all), the first `limit_loads` of them.

    `only`: those of them with one of these `vtn_resource_id`s. Raises `ConfigurationError` for a VEN that the database
    does not know, and when no load is registered at all.
    """
    chosen = database.vens(vens)
    if not any(ven.registered for ven in chosen):
        raise _nothing_registered(chosen, vens)
    if limit_loads is not None and limit_loads < 1:
        raise ConfigurationError(f"limit_loads is {limit_loads}: give 1 or more, or leave it out")
    taken = (each for each in database.registered_ids(vens) if only is None or each[2] in only)
    load_ids: dict[str, list[str]] = {}
    for ven, load_id, _ in islice(taken, limit_loads):
        load_ids.setdefault(ven, []).append(load_id)
    return Selection(load_ids, sum(ven.unregistered for ven in chosen), sum(ven.left_out for ven in chosen))


def found_again(database: ResourceDatabase, selected: Sequence[tuple[str, str]]) -> list[Load]:
    """Loads that were selected by VEN and `load_id`; one that is not in the table any more has that as its `fault`."""
    found = database.loads_of_ids([load_id for _, load_id in selected])
    if len(found) == len(selected):
        return found
    by_id = {load.load_id: load for load in found}
    return [by_id.get(load_id) or _gone(ven, load_id) for ven, load_id in selected]


def _gone(ven: str, load_id: str) -> Load:
    fault = "It was selected, and is not among the registered loads of the loads table any more"
    return Load(load_id, ven, "", load_id, "", "", "", "", fault=fault)


def batches_of(load_ids: Mapping[str, Sequence[str]], loads_per_batch: int) -> Iterator[Batch]:
    """These loads, by VEN, in batches of one VEN each."""
    for ven, of_ven in load_ids.items():
        for begin in range(0, len(of_ven), loads_per_batch):
            yield Batch(ven, begin + 1, len(of_ven), tuple(of_ven[begin : begin + loads_per_batch]))


def partition(vens: Iterable[VenWork], slices: int) -> list[Slice]:
    """So many slices at most, with about as many points each."""
    bins: list[list[VenWork]] = [[] for _ in range(slices)]
    for ven in sorted(vens, key=lambda ven: (-ven.points, -ven.loads, ven.ven)):
        min(bins, key=lambda each: (sum(v.points for v in each), sum(v.loads for v in each))).append(ven)
    filled = [sorted(each, key=lambda ven: ven.ven) for each in bins if each]
    return [
        Slice(number, len(filled), tuple(v.ven for v in each), sum(v.loads for v in each), sum(v.points for v in each))
        for number, each in enumerate(filled, start=1)
    ]


def _nothing_registered(chosen: list[VenOutline], vens: Sequence[str] | None) -> ConfigurationError:
    """In the guide's words."""
    whose = ", ".join(f"VEN '{outline.ven}'" for outline in chosen) if vens else "any VEN"
    error = ConfigurationError(f"No loads with VTN resource IDs found for {whose}")
    return error.advised("nothing registered", vens=[outline.ven for outline in chosen] if vens else [])
