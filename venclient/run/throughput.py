"""Throughput of a run: the current rate without pauses, and a chart over time."""

from bisect import bisect_left
from datetime import timedelta
from itertools import pairwise
from threading import Lock

from venclient.run.samples import Samples

# Long enough for a steady rate, as a slow VTN acknowledges a request only every few seconds.
RECENT_S = 120.0
# A run pauses if nothing was acknowledged for this long and its requests are waiting.
PAUSE_AFTER_S = 2.0

WIDTH, LEFT, TOP, BOTTOM = 720, 90, 10, 190
PICTURE = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 230" font-family="sans-serif" font-size="13" '
    'fill="#808080">'
    f'<path d="M{LEFT},{TOP}V{BOTTOM}H{WIDTH}" fill="none" stroke="#808080"/><path d="{{path}}" fill="#4c8ed9"/>'
    f'<text x="{LEFT - 6}" y="{TOP + 12}" text-anchor="end">{{highest}}</text>'
    f'<text x="{LEFT - 6}" y="{BOTTOM}" text-anchor="end">0</text>'
    f'<text x="{LEFT - 6}" y="{TOP + 30}" text-anchor="end">points/s</text>'
    f'<text x="{LEFT}" y="{BOTTOM + 20}">0</text>'
    f'<text x="{WIDTH}" y="{BOTTOM + 20}" text-anchor="end">{{time}}</text></svg>'
)


class Throughput:
    """Samples of the points sent during a run, in limited number whatever its length."""

    def __init__(self, pause_after_s: float = PAUSE_AFTER_S) -> None:
        self._pause_after_s = pause_after_s
        self._lock = Lock()
        self._samples = Samples(0)
        # Samples of the last two minutes: seconds of the run without pauses, and points.
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
            self._samples.add(seconds, points)
            (from_s, from_points), (to_s, to_points) = self._recent[0], self._recent[-1]
            return (to_points - from_points) / (to_s - from_s) if to_s > from_s else 0.0, pauses

    def svg(self) -> str:
        """Return a chart of points per second over the run, for light and dark pages."""
        with self._lock:
            samples = self._samples.all()  # other threads go on sampling meanwhile
            if self._last[0] > samples[-1][0]:
                samples.append(self._last)
        rates = [(points - before) / (at - since) for (since, before), (at, points) in pairwise(samples)]
        end_s, highest = max(samples[-1][0], 1.0), max(rates, default=0.0) or 1.0
        x = [LEFT + (WIDTH - LEFT) * at / end_s for at, _ in samples]
        y = [TOP + (BOTTOM - TOP) * (1 - rate / highest) for rate in rates]
        steps = "".join(
            f"H{begin:.1f}V{height:.1f}H{end:.1f}" for (begin, end), height in zip(pairwise(x), y, strict=True)
        )
        time = timedelta(seconds=round(end_s))
        return PICTURE.format(path=f"M{LEFT},{BOTTOM}{steps}V{BOTTOM}Z", highest=f"{highest:,.0f}", time=time)
