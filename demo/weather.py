"""The hours of a sample and their weather: plausible for Denmark, and the same on every machine.

Only sums and products of tables and of PCG64's uniform numbers are used. Sines, normal deviates and time zones are not,
as their last digits or their rules differ between machines or releases. All hours of the day are in Danish standard
time, in summer as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

START_S = 1_736_928_000  # 2025-01-15T08:00Z, a Wednesday
INTERVAL_S = 3_600
FIRST_HOUR = 2 * 24 + 9  # of the week, in Danish standard time
FIRST_DAY = 14  # of the year, from 0
DAYS_PER_YEAR = 365.25

# In the middle of each month: mean °C outside, hours from sunrise to noon, and the sun's power at noon (June: 1).
TEMPERATURE_C = (1.5, 1.5, 3.5, 7.5, 12.0, 15.5, 17.5, 17.5, 14.0, 9.5, 5.5, 3.0)
HALF_DAY_H = (3.8, 4.8, 5.9, 7.0, 8.0, 8.7, 8.4, 7.4, 6.3, 5.2, 4.2, 3.5)
NOON_SUN = (0.18, 0.34, 0.55, 0.78, 0.93, 1.0, 0.97, 0.84, 0.64, 0.41, 0.22, 0.14)
NOON_H = 12.3
WARMEST_H = 15
HEATING_C = (16.0, -8.0)  # °C at which heating starts, and at which it runs at full power
COOLING_C = (19.0, 29.0)


@dataclass(frozen=True, slots=True, eq=False)
class Hours:
    """The N hours of a sample, which all its meters share.

    `week_hour`: hours since Monday 00:00. `midnight`: index of the first hour of the same day. Both int (N,).
    `heating`, `cooling`, `darkness`, `sun`: intensity from 0 to 1, float64 (N,).
    """

    seed: int
    week_hour: NDArray[np.int64]
    midnight: NDArray[np.int64]
    heating: Floats
    cooling: Floats
    darkness: Floats
    sun: Floats

    def __len__(self) -> int:
        return len(self.week_hour)

    @property
    def start_s(self) -> NDArray[np.int64]:
        """Unix seconds at which each hour starts, (N,)."""
        return START_S + INTERVAL_S * np.arange(len(self))


def random_numbers(seed: int, meter: int, component: int) -> np.random.Generator:
    """The random stream of a meter's component. Meters count from 1; meter 0 is for the weather, which all share."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(meter, component))))


def hours_of(seed: int, points: int) -> Hours:
    """The first `points` hours of a sample; a longer sample begins with the same hours."""
    index = np.arange(points)
    since_monday = FIRST_HOUR + index
    hour = since_monday % 24
    day = since_monday // 24 - FIRST_HOUR // 24
    day_of_year = FIRST_DAY + day + hour / 24
    # One day more than the sample has, to interpolate the temperature of the last day.
    clearness, anomaly_c = _daily_weather(seed, int(day[-1]) + 2)
    sun = _sun(day_of_year, hour) * clearness[day] * (0.7 + 0.3 * random_numbers(seed, 0, 1).random(points))
    outside_c = _seasonal(TEMPERATURE_C, day_of_year) + np.interp(day + hour / 24, range(len(anomaly_c)), anomaly_c)
    outside_c += (1 + 3 * _seasonal(NOON_SUN, day_of_year)) * (1 - np.abs((hour - WARMEST_H + 12) % 24 - 12) / 6)
    return Hours(
        seed,
        week_hour=since_monday % (7 * 24),
        midnight=np.maximum(index - hour, 0),
        heating=_ramp(outside_c, *HEATING_C),
        cooling=_ramp(outside_c, *COOLING_C),
        darkness=1 - _ramp(sun, 0, 0.4),
        sun=sun,
    )


def _daily_weather(seed: int, days: int) -> tuple[Floats, Floats]:
    """Clearness of each day's sky, 0.25 to 1, and how much warmer than usual it begins, °C; both (days,)."""
    uniform = random_numbers(seed, 0, 0).random((days, 2))
    return 0.25 + 0.75 * uniform[:, 0], np.array(list(islice(_decaying_sums(5 * uniform[:, 1] - 2.5), days)))


def _decaying_sums(changes: Floats) -> Iterator[float]:
    """Running sum of the changes, of which a fifth decays each day, so that warm and cold spells last some days."""
    total = 0.0
    for change in changes.tolist():
        total = 0.8 * total + change
        yield total


def _seasonal(months: tuple[float, ...], day_of_year: Floats) -> Floats:
    """Monthly values, interpolated linearly between the middles of the months."""
    middles = (np.arange(12) + 0.5) * DAYS_PER_YEAR / 12
    return np.interp(day_of_year, middles, months, period=DAYS_PER_YEAR)


def _sun(day_of_year: Floats, hour: NDArray[np.int64]) -> Floats:
    """Solar power under a clear sky, 0 to 1: a parabola from sunrise to sunset."""
    from_noon = (hour + 0.5 - NOON_H) / _seasonal(HALF_DAY_H, day_of_year)
    return _seasonal(NOON_SUN, day_of_year) * np.maximum(1 - from_noon * from_noon, 0)


def _ramp(value: Floats, zero_at: float, one_at: float) -> Floats:
    """Linear from 0 at `zero_at` to 1 at `one_at`, which may be the lower one; constant outside."""
    return np.clip((value - zero_at) / (one_at - zero_at), 0, 1)
