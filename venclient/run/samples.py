"""Values over time, in limited number whatever the time."""

from typing import Generic, TypeVar

T = TypeVar("T")

SAMPLES_KEPT = 600


class Samples(Generic[T]):
    """Samples from `first`, at 0 s, on, half a second apart; with each doubling of the time, twice as far apart."""

    def __init__(self, first: T) -> None:
        self._kept = [(0.0, first)]
        self._spacing_s = 0.5

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, seconds: float, value: T) -> None:
        """Add a sample, unless it is too close to the one before."""
        if seconds - self._kept[-1][0] < self._spacing_s:
            return
        self._kept.append((seconds, value))
        if len(self._kept) > SAMPLES_KEPT:  # halve the resolution
            self._kept = self._kept[::2]
            self._spacing_s *= 2

    def all(self) -> list[tuple[float, T]]:
        """The samples so far: seconds, and values."""
        return self._kept.copy()
