"""A chart of a run's rate over time (SVG), for light and dark pages."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

from venclient.run_record import Sample

# So narrow that its text can be read on a phone, too.
WIDTH, LEFT, TOP, BOTTOM = 440, 80, 10, 150
PICTURE = (
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{BOTTOM + 30}" '
    f'viewBox="0 0 {WIDTH} {BOTTOM + 30}" font-family="sans-serif" font-size="13" fill="#808080">'
    f'<path d="M{LEFT},{TOP}V{BOTTOM}H{WIDTH}" fill="none" stroke="#808080"/><path d="{{path}}" fill="#4c8ed9"/>'
    f'<text x="{LEFT - 6}" y="{TOP + 12}" text-anchor="end">{{highest}}</text>'
    f'<text x="{LEFT - 6}" y="{BOTTOM}" text-anchor="end">0</text>'
    f'<text x="{LEFT - 6}" y="{TOP + 30}" text-anchor="end">points/s</text>'
    f'<text x="{LEFT}" y="{BOTTOM + 20}">0</text>'
    f'<text x="{WIDTH}" y="{BOTTOM + 20}" text-anchor="end">{{time}}</text></svg>'
)


def rate_chart(samples: Sequence[Sample]) -> str:
    """Draw the points per second over the run."""
    rates = [(after.points - before.points) / (after.seconds - before.seconds) for before, after in pairwise(samples)]
    end_s, highest = max(samples[-1].seconds, 1.0), max(rates, default=0.0) or 1.0
    x = [LEFT + (WIDTH - LEFT) * sample.seconds / end_s for sample in samples]
    y = [TOP + (BOTTOM - TOP) * (1 - rate / highest) for rate in rates]
    steps = "".join(f"H{begin:.1f}V{height:.1f}H{end:.1f}" for (begin, end), height in zip(pairwise(x), y, strict=True))
    time = timedelta(seconds=round(end_s))
    return PICTURE.format(path=f"M{LEFT},{BOTTOM}{steps}V{BOTTOM}Z", highest=f"{highest:,.0f}", time=time)
