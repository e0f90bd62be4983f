"""The days to which a run may be limited."""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from venclient.errors import ConfigurationError

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Days:
    """Days in UTC, from `first` to `last`, both included; None: there is no limit on that side.

    A point belongs to the day on which its interval starts. Raises `ConfigurationError` if there is none of these days.
    """

    first: date | None = None
    last: date | None = None

    def __post_init__(self) -> None:
        if self.first and self.last and self.last < self.first:
            raise ConfigurationError(f"There is no day from {self.first} to {self.last}: the last is before the first")

    @property
    def begin_s(self) -> float:
        """The unix time at which the first day starts."""
        return -math.inf if self.first is None else midnight_s(self.first)

    @property
    def stop_s(self) -> float:
        """The unix time at which the last day ends."""
        return math.inf if self.last is None else midnight_s(self.last) + DAY_S

    def __str__(self) -> str:
        first, last = self.first or "the beginning", self.last or "the end"
        return f"{first}" if first == last else f"{first} to {last}"


ALL_DAYS = Days()


def day_of(text: str) -> date:
    """Parse a day such as `2025-03-10`; raises `ValueError`."""
    return datetime.strptime(text.strip(), "%Y-%m-%d").date()  # noqa: DTZ007 - a day, in UTC as all of them


def midnight_s(day: date) -> int:
    """Return the unix time at which a day (UTC) begins."""
    return int(datetime.combine(day, time(), UTC).timestamp())
