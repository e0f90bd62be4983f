"""Power drawn by the loads of a household, an office or a factory, hour by hour.

A series depends only on the seed, the meter and the component. A longer one begins with the same values: random numbers
are drawn hour by hour, and no hour depends on a later one.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Literal

import numpy as np

from demo.weather import Floats, Hours, random_numbers

COMPONENTS = 6
LOAD_NAMES = ("Base Load", "Water Heater", "HVAC", "Kitchen Appliances", "Lighting", "Other Appliances")


class Site(StrEnum):
    """The kind of site behind a meter; the values are those of `resources.resource_sub_type`."""

    HOUSEHOLD = "HOUSEHOLD"
    OFFICE = "OFFICE"
    INDUSTRY = "INDUSTRY"


SITES = (Site.HOUSEHOLD, Site.HOUSEHOLD, Site.OFFICE, Site.HOUSEHOLD, Site.HOUSEHOLD, Site.INDUSTRY, Site.HOUSEHOLD)
# One meter in 14, a household, has solar panels. Their peak power is a multiple of the base load's rating.
METERS_PER_SOLAR_SITE = 2 * len(SITES)
SOLAR_SITE = 5
SOLAR_TO_BASE_LOAD = 14

# A day as (hour, level from 0 to 1), interpolated linearly: first a workday, then a Saturday or Sunday.
Day = tuple[tuple[float, float], ...]
DAYS: dict[str, tuple[Day, Day]] = {
    "presence": (
        ((0, 0.10), (5, 0.06), (7, 0.45), (9, 0.22), (15, 0.30), (18, 0.95), (21, 0.90), (23, 0.35)),
        ((0, 0.18), (6, 0.06), (10, 0.60), (15, 0.60), (18, 1.00), (21, 0.90), (23, 0.45)),
    ),
    "showers": (
        ((0, 0.03), (5, 0.15), (6, 0.75), (7, 0.70), (9, 0.12), (17, 0.20), (20, 0.55), (22, 0.30)),
        ((0, 0.03), (7, 0.10), (9, 0.65), (11, 0.40), (17, 0.20), (20, 0.50), (22, 0.30)),
    ),
    "warmth": (
        ((0, 0.65), (5, 0.75), (7, 1.00), (10, 0.85), (17, 1.00), (22, 0.90)),
        ((0, 0.65), (6, 0.75), (9, 1.00), (22, 0.90)),
    ),
    "meals": (
        ((0, 0.00), (5, 0.02), (7, 0.35), (9, 0.05), (12, 0.08), (16, 0.15), (18, 0.85), (20, 0.20), (22, 0.03)),
        ((0, 0.00), (7, 0.03), (9, 0.40), (12, 0.35), (15, 0.10), (18, 0.90), (20, 0.20), (22, 0.03)),
    ),
    "chores": (
        ((0, 0.02), (6, 0.05), (8, 0.15), (15, 0.15), (19, 0.45), (22, 0.25)),
        ((0, 0.02), (7, 0.05), (10, 0.45), (16, 0.40), (19, 0.40), (22, 0.20)),
    ),
    "work": (
        ((0, 0.03), (6, 0.08), (8, 0.85), (10, 1.00), (12, 0.90), (15, 0.95), (17, 0.40), (19, 0.10), (21, 0.04)),
        ((0, 0.03), (10, 0.08), (15, 0.08), (18, 0.03)),
    ),
    "lunch": (
        ((0, 0.00), (7, 0.15), (9, 0.40), (11, 1.00), (13, 0.60), (15, 0.15), (17, 0.00)),
        ((0, 0.00),),
    ),
    "shifts": (
        ((0, 0.10), (4, 0.10), (6, 0.90), (9, 1.00), (12, 0.85), (14, 0.95), (20, 0.70), (23, 0.15)),
        ((0, 0.10), (6, 0.10), (8, 0.25), (13, 0.25), (15, 0.10)),
    ),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """How a kind of load behaves. `rated_w`: range of its maximum power. `idle`: the share of it that is always drawn.

    If it cycles, the level of the day is its probability to run; otherwise it is the share of it that runs.
    """

    rated_w: tuple[int, int]
    idle: float
    day: str
    cycles: bool = False
    follows: Literal["heating", "climate", "darkness"] | None = None


# One for each component, in the order of LOAD_NAMES.
SHAPES = {
    Site.HOUSEHOLD: (
        Shape((260, 420), 0.30, "presence"),
        Shape((1_500, 3_000), 0.015, "showers", cycles=True),
        Shape((2_000, 3_500), 0.01, "warmth", follows="heating"),
        Shape((1_200, 2_200), 0.025, "meals", cycles=True),
        Shape((80, 250), 0.04, "presence", follows="darkness"),
        Shape((800, 2_200), 0.015, "chores", cycles=True),
    ),
    Site.OFFICE: (
        Shape((3_000, 9_000), 0.40, "work"),
        Shape((1_500, 4_000), 0.03, "work", cycles=True),
        Shape((6_000, 25_000), 0.05, "work", follows="climate"),
        Shape((2_000, 8_000), 0.04, "lunch"),
        Shape((2_000, 8_000), 0.05, "work"),
        Shape((3_000, 12_000), 0.08, "work"),
    ),
    Site.INDUSTRY: (
        Shape((12_000, 40_000), 0.35, "shifts"),
        Shape((5_000, 20_000), 0.05, "shifts", cycles=True),
        Shape((8_000, 40_000), 0.08, "shifts", follows="climate"),
        Shape((1_500, 5_000), 0.05, "lunch"),
        Shape((3_000, 12_000), 0.10, "shifts"),
        Shape((15_000, 80_000), 0.05, "shifts", cycles=True),
    ),
}


def site_of(meter: int) -> Site:
    """The kind of site behind a meter: of seven, five are households, one is an office and one a factory."""
    return SITES[(meter - 1) % len(SITES)]


def has_solar_panels(meter: int) -> bool:
    """Whether the meter's base load is net of solar panels, and negative while they export."""
    return meter % METERS_PER_SOLAR_SITE == SOLAR_SITE


def rated_power_w(seed: int, meter: int, component: int) -> int:
    """Maximum power of the load."""
    return _rating_w(SHAPES[site_of(meter)][component], random_numbers(seed, meter, component))


def power_w(hours: Hours, meter: int, component: int) -> Floats:
    """Mean power in each hour, rounded to 0.1 W, float64 (N,); negative where solar panels export."""
    shape = SHAPES[site_of(meter)][component]
    numbers = random_numbers(hours.seed, meter, component)
    rated_w = _rating_w(shape, numbers)  # the first number of the stream, as in `rated_power_w`
    uniform = numbers.random((len(hours), 3))
    drawn_w = rated_w * _utilization(shape, hours, uniform)
    if component == 0 and has_solar_panels(meter):
        drawn_w -= SOLAR_TO_BASE_LOAD * rated_w * hours.sun
    return np.round(drawn_w, 1) + 0.0  # -0.0 becomes 0.0


def _utilization(shape: Shape, hours: Hours, uniform: Floats) -> Floats:
    """The share of the rating that is drawn, from 0 to 1, from three uniform random numbers an hour, (N, 3)."""
    # All hours of a day share one factor, so that days differ.
    level = _week(shape.day)[hours.week_hour] * (0.7 + 0.3 * uniform[hours.midnight, 2])
    if shape.follows:
        level *= _weather_factor(shape.follows, hours)
    running = _cycling(level, uniform) if shape.cycles else level * (0.8 + 0.2 * uniform[:, 0])
    return (shape.idle + (1 - shape.idle) * running) * (0.9 + 0.1 * uniform[:, 2])


def _cycling(level: Floats, uniform: Floats) -> Floats:
    """Runs in an hour with the probability `level`, at a random power."""
    return np.where(uniform[:, 0] < level, 0.2 + 0.8 * uniform[:, 1], 0)


def _weather_factor(weather: str, hours: Hours) -> Floats:
    match weather:
        case "heating":
            return hours.heating
        case "climate":
            return np.maximum(hours.heating, hours.cooling)
        case _:
            return 0.1 + 0.9 * hours.darkness


def _rating_w(shape: Shape, numbers: np.random.Generator) -> int:
    low, high = shape.rated_w
    return low + int((high - low) * numbers.random())


@cache
def _week(day: str) -> Floats:
    """The level in each hour of a week from Monday 00:00, float64 (168,)."""
    workday, weekend = (_levels(breakpoints) for breakpoints in DAYS[day])
    return np.concatenate([workday] * 5 + [weekend] * 2)


def _levels(breakpoints: Day) -> Floats:
    """The level in the middle of each hour of a day, float64 (24,)."""
    hour, level = np.array(breakpoints, dtype=np.float64).T
    levels: Floats = np.interp(np.arange(24) + 0.5, hour, level, period=24)
    return levels
