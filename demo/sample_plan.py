"""Which meters and resources a sample has, and which meter measures which load. No files are read or written.

A resource is a run of consecutive loads on one meter. The loads of all VENs are assigned to the components of all
meters in order, and to the same components again once these are used up, so that several resources share a meter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, groupby, islice

from demo.load_shapes import COMPONENTS, Site, site_of
from demo.towns import Town, towns
from demo.weather import random_numbers

METER_PREFIX = "7070575000"
METER_POINT_PREFIX = "5799999"
MAX_METERS = 9_999_999
MIN_COMPONENTS = 3
EXCLUDED_EVERY = 20
FIRST_EXCLUDED = 5


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter and the components it measures (0 to 5, ascending, not always contiguous). Numbers count from 1."""

    number: int
    meter_id: str
    components: tuple[int, ...]

    @property
    def h5_meter_id(self) -> str:
        """The name of its group in the meter file."""
        return f"meter_{self.meter_id}"

    @property
    def site(self) -> Site:
        """The kind of site behind it."""
        return site_of(self.number)


@dataclass(frozen=True, slots=True)
class Resource:
    """A site of a VEN, with the components of its meter that are its loads. Numbers count from 1."""

    number: int
    number_in_ven: int
    town: Town
    meter: Meter
    components: tuple[int, ...]

    @property
    def meter_point_id(self) -> str:
        """Its metering point id, 18 digits."""
        return _with_check_digit(f"{METER_POINT_PREFIX}{self.number:010}")

    @property
    def is_enabled(self) -> bool:
        """False for one resource in 40."""
        return self.number % (2 * EXCLUDED_EVERY) != FIRST_EXCLUDED

    @property
    def is_suspended(self) -> bool:
        """Whether its registration is suspended: true for another one in 40."""
        return self.number % (2 * EXCLUDED_EVERY) == FIRST_EXCLUDED + EXCLUDED_EVERY


def plan_meters(seed: int, meters: int, loads: int) -> list[Meter]:
    """Meters with three to six components each.

    If the components are too few for every load to have its own series, but six per meter would do, meters get all six,
    beginning with the last, until there are enough. More loads than that share series.
    """
    planned = [Meter(number, _meter_id(seed, number), _components(seed, number)) for number in range(1, meters + 1)]
    missing = loads - sum(len(meter.components) for meter in planned)
    if loads > meters * COMPONENTS:
        return planned
    for index in reversed(range(meters)):
        if missing <= 0:
            break
        missing -= COMPONENTS - len(planned[index].components)
        planned[index] = replace(planned[index], components=tuple(range(COMPONENTS)))
    return planned


def plan_resources(meters: Sequence[Meter], vens: int, loads_per_ven: int) -> Iterator[Resource]:
    """The resources, VEN by VEN; each VEN has as many as it takes for its loads."""
    slots = _slots(meters)
    number = 0
    for town in islice(towns(), vens):
        # By visit, as the same meter may come up again within a VEN; that is another resource.
        runs = groupby(islice(slots, loads_per_ven), key=lambda slot: slot[0])
        for number_in_ven, (_, run) in enumerate(runs, 1):
            number += 1
            run_slots = list(run)
            components = tuple(component for _, _, component in run_slots)
            yield Resource(number, number_in_ven, town, run_slots[0][1], components)


def _slots(meters: Sequence[Meter]) -> Iterator[tuple[int, Meter, int]]:
    """Endless slots for loads: number of the visit to a meter, meter, component."""
    for visit, meter in enumerate(cycle(meters)):
        for component in meter.components:
            yield visit, meter, component


def _components(seed: int, meter: int) -> tuple[int, ...]:
    """Base Load and two to five of the others, at random."""
    uniform = random_numbers(seed, meter, COMPONENTS).random(COMPONENTS).tolist()
    others = MIN_COMPONENTS - 1 + int(uniform[0] * (COMPONENTS - MIN_COMPONENTS + 1))
    shuffled = sorted(range(1, COMPONENTS), key=uniform.__getitem__)
    return (0, *sorted(shuffled[:others]))


def _meter_id(seed: int, meter: int) -> str:
    """18 digits, as in a GSRN. The meter's factor is coprime to 10, so no two meters of a sample have the same id."""
    return _with_check_digit(f"{METER_PREFIX}{(seed * 2_718_281 + meter * 6_180_339) % (MAX_METERS + 1):07}")


def _with_check_digit(digits: str) -> str:
    """Append GS1's check digit: weights 3 and 1 alternate from the right."""
    weighted_sum = sum(int(digit) * weight for digit, weight in zip(reversed(digits), cycle((3, 1)), strict=False))
    return f"{digits}{-weighted_sum % 10}"
