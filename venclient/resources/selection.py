"""The loads of a run, split into batches of one VEN each, or its VENs into slices for several runs."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from venclient.errors import ConfigurationError
from venclient.loads import Load, counted, vens_title
from venclient.resources.database import ResourceDatabase, VenOutline
from venclient.untrusted_text import visible

log = logging.getLogger(__name__)

LOADS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive loads of one VEN. `first`: the number of the first of them, among the `of` loads in batches."""

    ven: str
    first: int
    of: int
    load_ids: tuple[str, ...]

    def __str__(self) -> str:
        return f"{visible(self.ven)} {self.first}-{self.first + len(self.load_ids) - 1} of {self.of}"


@dataclass(frozen=True, slots=True)
class VenWork:
    """The work of a run for one VEN: how many loads it has, and how many points are to be sent.

    `finished_ids`: the `load_id`s of loads that need no upload, with their `points_already_there` and the number of
    rows `dropped` of them, by reason.
    """

    ven: str
    loads: int
    points: int
    finished_ids: Sequence[str] = ()
    points_already_there: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of a run's VENs: slice `number` of `of`."""

    number: int
    of: int
    vens: tuple[str, ...]
    loads: int
    points: int

    def __str__(self) -> str:
        return f"Slice {self.number} of {self.of}: {vens_title(self.vens)}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which registered loads a run takes: those of `vens`, or of all, without those of `excluded_vens`.

    `loads`: only these, by `load_id` or `vtn_resource_id`; `limit`: only the first so many.
    """

    vens: Sequence[str] = ()
    excluded_vens: Sequence[str] = ()
    loads: Sequence[str] = ()
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The loads that a run takes, as `load_ids` by VEN, in order: a hundred thousand `Load`s would take 100 MB.

    `unregistered`: how many loads are skipped because they are not registered yet; `left_out`: how many because they
    are disabled or suspended.
    """

    load_ids: Mapping[str, Sequence[str]]
    unregistered: int
    left_out: int

    def __len__(self) -> int:
        return sum(map(len, self.load_ids.values()))

    def loads(self, database: ResourceDatabase) -> Iterator[list[Load]]:
        """Yield the loads in order, up to 500 at a time; what has changed since: see `found_again`."""
        selected = ((ven, load_id) for ven, load_ids in self.load_ids.items() for load_id in load_ids)
        while part := list(islice(selected, LOADS_PER_QUERY)):
            yield found_again(database, part)


def select_loads(
    database: ResourceDatabase, choice: Choice = Choice(), only: Collection[str] | None = None
) -> Selection:
    """Select the registered loads that are chosen.

    `only`: the `vtn_resource_id`s to select from. Raises `ConfigurationError` for an unknown VEN or load, for a named
    load that is not registered or in no chosen VEN, and if no chosen load is registered.
    """
    if choice.limit is not None and choice.limit < 1:
        raise ConfigurationError(f"limit_loads is {choice.limit}: give 1 or more, or leave it out")
    excluded = {each.ven for each in database.vens(choice.excluded_vens)} if choice.excluded_vens else set()
    chosen = [each for each in database.vens(choice.vens) if each.ven not in excluded]
    if excluded and not chosen:
        raise ConfigurationError("The VENs that are left out leave nothing to choose from")
    if not any(ven.registered for ven in chosen):
        raise _nothing_registered(chosen, choice.vens)
    if not (choice.vens or choice.loads) and (without_ven := database.without_ven()):
        log.warning(
            "Left out, as their resources have no VEN: %s. Correct the resources table", counted(without_ven, "load")
        )
    named = [database.load(given) for given in choice.loads]
    _require_chosen(named, {each.ven for each in chosen})
    wanted = {load.load_id for load in named}
    candidates = (
        (ven, load_id)
        for ven, load_id, vtn_resource_id in database.registered_ids(choice.vens)
        if ven not in excluded and (not wanted or load_id in wanted) and (only is None or vtn_resource_id in only)
    )
    load_ids: dict[str, list[str]] = {}
    for ven, load_id in islice(candidates, choice.limit):
        load_ids.setdefault(ven, []).append(load_id)
    skipped = () if wanted else chosen
    return Selection(load_ids, sum(ven.unregistered for ven in skipped), sum(ven.left_out for ven in skipped))


def found_again(database: ResourceDatabase, selected: Sequence[tuple[str, str]]) -> list[Load]:
    """Fetch loads that were selected as (VEN, `load_id`), in order.

    A load that is gone since, or in another VEN, which another run may write for, has a `fault` instead.
    """
    found = database.loads_of_ids([load_id for _, load_id in selected])
    if [(load.ven, load.load_id) for load in found] == list(selected):
        return found
    by_id = {(load.ven, load.load_id): load for load in found}
    fault = "It was selected, and is not among the registered loads of its VEN in the loads table any more"
    gone = partial(
        Load, resource_id="", load_component="", load_name="", h5_meter_id="", vtn_resource_id="", fault=fault
    )
    return [
        by_id.get((ven, load_id)) or gone(load_id=load_id, ven=ven, resource_name=load_id) for ven, load_id in selected
    ]


def batches_of(load_ids: Mapping[str, Sequence[str]], loads_per_batch: int) -> Iterator[Batch]:
    """Split these loads, by VEN, into batches of one VEN each."""
    for ven, ids in load_ids.items():
        for begin in range(0, len(ids), loads_per_batch):
            yield Batch(ven, begin + 1, len(ids), tuple(ids[begin : begin + loads_per_batch]))


def partition(vens: Iterable[VenWork], slices: int) -> list[Slice]:
    """Partition the VENs into at most so many slices with about the same number of points."""
    bins: list[list[VenWork]] = [[] for _ in range(slices)]
    # Longest processing time first: the next largest VEN goes into the bin with the fewest points so far.
    for ven in sorted(vens, key=lambda ven: (-ven.points, -ven.loads, ven.ven)):
        min(bins, key=lambda bin_: (sum(v.points for v in bin_), sum(v.loads for v in bin_))).append(ven)
    filled = [sorted(bin_, key=lambda ven: ven.ven) for bin_ in bins if bin_]
    return [
        Slice(number, len(filled), tuple(v.ven for v in bin_), sum(v.loads for v in bin_), sum(v.points for v in bin_))
        for number, bin_ in enumerate(filled, start=1)
    ]


def _require_chosen(named: Sequence[Load], vens: Collection[str]) -> None:
    """Raise `ConfigurationError` unless each load that was named is registered and in one of these VENs."""
    for load in named:
        if not load.ven:
            raise ConfigurationError(f"Load {load.load_id} belongs to no VEN: correct its row of the resources table")
        if load.ven not in vens:
            raise ConfigurationError(f"Load {load.load_id} is in VEN '{load.ven}', which was not chosen")
    unregistered = [load for load in named if not load.vtn_resource_id]
    if unregistered:
        one = len(unregistered) == 1
        ids = ", ".join(load.load_id for load in unregistered)
        raise ConfigurationError(
            f"{'Load' if one else 'Loads'} {ids} {'is' if one else 'are'} not registered with the VTN"
        ).advised("load not registered", vens=list(dict.fromkeys(load.ven for load in unregistered)))


def _nothing_registered(chosen: list[VenOutline], vens: Sequence[str]) -> ConfigurationError:
    """The message is that of the bulk upload guide."""
    whose = ", ".join(f"VEN '{outline.ven}'" for outline in chosen) if vens else "any VEN"
    error = ConfigurationError(f"No loads with VTN resource IDs found for {whose}")
    return error.advised("nothing registered", vens=[outline.ven for outline in chosen] if vens else [])
