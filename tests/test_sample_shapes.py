"""The sample's loads are plausible to look at."""

import numpy as np
import pytest
from numpy.typing import NDArray

from demo.load_shapes import has_solar_panels, power_w, site_of
from demo.weather import hours_of

HOUSEHOLD, OFFICE, INDUSTRY, SOLAR = 1, 3, 6, 5  # meters
BASE, WATER_HEATER, HVAC, OTHER = 0, 1, 2, 5
YEAR = 8_739


def test_values_stay_what_they_were() -> None:
    """Written down once: a change here is a change of everyone's sample."""
    hours = hours_of(1, 3)
    assert power_w(hours, HOUSEHOLD, BASE).tolist() == [107.5, 111.8, 116.7]
    assert power_w(hours, INDUSTRY, OTHER).tolist() == [7471.1, 6573.7, 8389.1]


class TestShapes:
    """A year of some meters' loads."""

    hours = hours_of(1, YEAR)
    hour = hours.week_hour % 24
    is_weekend = hours.week_hour >= 5 * 24
    month = hours.start_s.astype("datetime64[s]").astype("datetime64[M]").astype(int) % 12 + 1

    def _mean_w(self, meter: int, component: int, when: NDArray[np.bool_]) -> float:
        return float(power_w(self.hours, meter, component)[when].mean())

    def _between(self, first: int, last: int) -> NDArray[np.bool_]:
        return (self.hour >= first) & (self.hour <= last)

    def test_households_draw_most_in_the_evening_and_least_at_night(self) -> None:
        evening, noon, night = (
            self._mean_w(HOUSEHOLD, BASE, self._between(*span)) for span in ((18, 21), (11, 13), (2, 4))
        )
        assert 80 < night < noon < evening < 400

    @pytest.mark.parametrize("meter", [OFFICE, INDUSTRY], ids=site_of)
    def test_offices_and_factories_rest_at_the_weekend(self, meter: int) -> None:
        working_hours = self._between(9, 15)
        weekend = self._mean_w(meter, BASE, working_hours & self.is_weekend)
        assert weekend < 0.7 * self._mean_w(meter, BASE, working_hours & ~self.is_weekend)

    def test_heating_is_for_the_winter(self) -> None:
        summer, winter = (np.isin(self.month, months) for months in ((6, 7, 8), (12, 1, 2)))
        assert self._mean_w(HOUSEHOLD, HVAC, winter) > 5 * self._mean_w(HOUSEHOLD, HVAC, summer)
        assert power_w(self.hours, HOUSEHOLD, HVAC).max() < 3500

    def test_water_heaters_are_off_most_of_the_time_and_on_now_and_then(self) -> None:
        drawn_w = power_w(self.hours, HOUSEHOLD, WATER_HEATER)
        assert 0.02 < (drawn_w > 500).mean() < 0.3
        assert np.median(drawn_w) < 100

    def test_industry_draws_tens_of_kilowatts(self) -> None:
        assert 10_000 < self._mean_w(INDUSTRY, BASE, self.hour >= 0) < 40_000

    def test_no_two_meters_are_alike(self) -> None:
        assert not np.array_equal(power_w(self.hours, 1, BASE), power_w(self.hours, 2, BASE))

    def test_solar_panels_export_by_day_and_mostly_in_summer(self) -> None:
        exports = power_w(self.hours, SOLAR, BASE) < 0
        assert not exports[~self._between(3, 21)].any()
        assert exports[np.isin(self.month, (6, 7))].mean() > 2 * exports[self.month == 12].mean()

    def test_only_a_few_meters_export(self) -> None:
        exporting = {
            meter
            for meter in range(1, 57)
            for component in range(6)
            if (power_w(self.hours, meter, component) < 0).any()
        }
        assert exporting == {meter for meter in range(1, 57) if has_solar_panels(meter)}
        assert len(exporting) == 4
