"""Which meters and resources a sample has, and which load is measured where. No file is touched here.

A resource is a run of loads on one meter: the loads of all VENs are dealt onto the components of all meters in turn,
and from the start again when these are used up, so that several resources share a meter.
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
FEWEST_COMPONENTS = 3
LEFT_OUT_EVERY = 20
FIRST_LEFT_OUT = 5


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter and the components it measures (0 to 5, ascending, not always contiguous). Numbers count from 1."""

    number: int
    meter_id: str
    components: tuple[int, ...]

    @property
    def h5_meter_id(self) -> str:
        """The key of its group."""
        return f"meter_{self.meter_id}"

    @property
    def site(self) -> Site:
        """What stands behind it."""
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
        """Its metering point, 18 digits."""
        return _with_check_digit(f"{METER_POINT_PREFIX}{self.number:010}")

    @property
    def is_enabled(self) -> bool:
        """Whether it takes part at all: one in 40 does not."""
        return self.number % (2 * LEFT_OUT_EVERY) != FIRST_LEFT_OUT

    @property
    def is_suspended(self) -> bool:
        """Whether its registration is suspended: another one in 40."""
        return self.number % (2 * LEFT_OUT_EVERY) == FIRST_LEFT_OUT + LEFT_OUT_EVERY


def plan_meters(seed: int, meters: int, loads: int) -> list[Meter]:
    """Meters with three to six components each.

    Where six a meter would give each load a series of its own, and fewer do not, the last meters get all six.
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
    """The resources of one VEN after another: of each as many as its loads take."""
    places = _places(meters)
    number = 0
    for town in islice(towns(), vens):
        runs = groupby(islice(places, loads_per_ven), key=lambda place: place[0])
        for number_in_ven, (_, run) in enumerate(runs, 1):
            number += 1
            visits = list(run)
            yield Resource(number, number_in_ven, town, visits[0][1], tuple(component for _, _, component in visits))


def _places(meters: Sequence[Meter]) -> Iterator[tuple[int, Meter, int]]:
    """Where a load can be measured, without end: the number of the visit, the meter, the component."""
    for visit, meter in enumerate(cycle(meters)):
        for component in meter.components:
            yield visit, meter, component


def _components(seed: int, meter: int) -> tuple[int, ...]:
    """Base Load, and two to five of the others."""
    dice = random_numbers(seed, meter, COMPONENTS).random(COMPONENTS).tolist()
    others = FEWEST_COMPONENTS - 1 + int(dice[0] * (COMPONENTS - FEWEST_COMPONENTS + 1))
    drawn = sorted(range(1, COMPONENTS), key=dice.__getitem__)
    return (0, *sorted(drawn[:others]))


def _meter_id(seed: int, meter: int) -> str:
    """18 digits, as a GSRN has them. The factors have no divisor in common with 10, so that no two meters meet."""
    return _with_check_digit(f"{METER_PREFIX}{(seed * 2_718_281 + meter * 6_180_339) % (MAX_METERS + 1):07}")


def _with_check_digit(digits: str) -> str:
    """GS1's check digit: digits weigh 3 and 1 in turn, from the right."""
    weighed = sum(int(digit) * weight for digit, weight in zip(reversed(digits), cycle((3, 1)), strict=False))
    return f"{digits}{-weighed % 10}"
