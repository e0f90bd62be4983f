"""Throughput of a run: the current rate, without pauses."""

from bisect import bisect_left
from threading import Lock

# Long enough for a steady rate, as a slow VTN acknowledges a request only every few seconds.
RECENT_S = 120.0
# A run pauses if nothing was acknowledged for this long and its requests are waiting.
PAUSE_AFTER_S = 2.0


class Throughput:
    """The points sent during the last two minutes of a run."""

    def __init__(self, pause_after_s: float = PAUSE_AFTER_S) -> None:
        self._pause_after_s = pause_after_s
        self._lock = Lock()
        # Samples: seconds of the run without pauses, and points.
        self._recent = [(0.0, 0)]
        self._last = (0.0, 0)
        self._last_arrival_s = 0.0

    def measured(self, seconds: float, points: int, *, is_waiting: bool) -> tuple[float, bool]:
        """Take a sample `seconds` into the run; returns the recent rate in points per second, and whether it pauses."""
        with self._lock:
            elapsed_s = max(seconds - self._last[0], 0.0)
            if points > self._last[1]:
                self._last_arrival_s = seconds
            pauses = is_waiting and seconds - self._last_arrival_s > self._pause_after_s
            active_s, _ = self._recent[-1]
            self._recent.append((active_s + (0.0 if pauses else elapsed_s), points))
            # The last sample before the time window is kept, so that the rate covers all of it.
            del self._recent[: max(bisect_left(self._recent, (active_s - RECENT_S, 0)) - 1, 0)]
            self._last = (seconds, points)
            (from_s, from_points), (to_s, to_points) = self._recent[0], self._recent[-1]
            return (to_points - from_points) / (to_s - from_s) if to_s > from_s else 0.0, pauses
