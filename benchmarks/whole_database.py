"""The whole database, sent once to a VTN that answers at once, and how costs grow with the number of loads."""

import statistics
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure as Drawing

from benchmarks.figures import ROUNDS, Figure, Section
from benchmarks.stand import SINK, YEAR, Stand, serving

VENS = (25, 253, 2_531)
PICTURE = "performance-growth.svg"

TEXT = """{loads:,} loads of {year:,} points, of {series} series that they share, once for real into a VTN that answers
at once from another process; and 1 % and 10 % of it, one size after the other. Medians of {rounds} for 1 %, which is
over in seconds, and for the runs that have nothing to do. Seconds of the work of a run; nothing to send: from the start
of the command to its end.

![Seconds, memory and ledger by loads]({picture})

On a straight line from the least to the whole, a load takes {ms_a_load:.2f} ms, and a run another {fixed_s:.1f} s; what
10 % took is {off_by:.0f} % off that line. The ledger grows by {ledger_bytes:,.0f} bytes a load, peak memory by
{memory_bytes:,.0f}."""


@dataclass(frozen=True, slots=True)
class _Size:
    """Results for a share of the database: the run that sent it, runs with nothing to send, and the ledger."""

    loads: int
    series: int
    points: int
    seconds: float
    peak_mb: float
    nothing_s: float
    nothing_mb: float
    ledger_mb: float

    @property
    def points_per_second(self) -> float:
        """Points sent per second."""
        return self.points / self.seconds


def measure() -> Section:
    """Seconds, memory and ledger for 1 %, 10 % and all of the database."""
    sizes = [_measured(vens) for vens in VENS]
    least, _, whole = sizes
    figures = [figure for size in sizes for figure in _figures(size)]
    rate_kept = whole.points_per_second / least.points_per_second
    return Section(
        "The whole database",
        TEXT.format(
            loads=whole.loads, year=YEAR, series=whole.series, rounds=ROUNDS, picture=PICTURE, **_growth(sizes)
        ),
        [
            *figures,
            Figure(
                "whole.nothing",
                f"{whole.loads:,} loads, nothing to send",
                whole.nothing_s,
                "s",
                60,
                is_better_higher=False,
            ),
            Figure("whole.rate_kept", "points a second, all of it ÷ 1 % of it", rate_kept, is_ratio=True),
            Figure(
                "whole.memory_growth",
                f"peak memory, {whole.loads:,} loads ÷ {least.loads:,}",
                whole.peak_mb / least.peak_mb,
                wanted=1.1,
                is_ratio=True,
                is_better_higher=False,
            ),
        ],
    )


def _measured(vens: int) -> _Size:
    with Stand.made(vens=vens) as stand, serving(*SINK) as sink:
        points = YEAR * len(stand.loads())
        sent = [stand.first_run(sink).having_sent(points) for _ in range(ROUNDS if vens == min(VENS) else 1)]
        again = [stand.run(sink).having_sent(0) for _ in range(ROUNDS)]
        return _Size(
            sent[0].loads,
            len(stand.series()),
            points,
            statistics.median(run.seconds for run in sent),
            statistics.median(run.peak_mb for run in sent),
            statistics.median(run.wall_s for run in again),
            statistics.median(run.peak_mb for run in again),
            stand.ledger_mb(),
        )


def _growth(sizes: list[_Size]) -> dict[str, float]:
    """Cost of each additional load, and deviation of the middle size from the line through the other two."""
    least, middle, whole = sizes
    loads = whole.loads - least.loads
    a_load_s = (whole.seconds - least.seconds) / loads
    fixed_s = least.seconds - a_load_s * least.loads
    return {
        "ms_a_load": 1e3 * a_load_s,
        "fixed_s": fixed_s,
        "off_by": 100 * abs(middle.seconds / (fixed_s + a_load_s * middle.loads) - 1),
        "ledger_bytes": 1e6 * (whole.ledger_mb - least.ledger_mb) / loads,
        "memory_bytes": 1e6 * (whole.peak_mb - least.peak_mb) / loads,
    }


def _figures(size: _Size) -> list[Figure]:
    loads, key = f"{size.loads:,} loads", f"whole.{size.loads}"
    return [
        Figure(f"{key}.seconds", f"{loads}: {size.points:,} points sent", size.seconds, "s"),
        Figure(f"{key}.rate", f"{loads}: points a second", size.points_per_second, "points/s"),
        Figure(f"{key}.peak", f"{loads}: peak memory", size.peak_mb, "MB", 400, is_better_higher=False),
        Figure(f"{key}.again", f"{loads}: peak memory of a run that has nothing to do", size.nothing_mb, "MB", 400,
               is_better_higher=False),
        Figure(f"{key}.ledger", f"{loads}: ledger", size.ledger_mb, "MB"),
    ]  # fmt: skip


def draw(section: Section, path: Path) -> None:
    """Plot seconds, memory and ledger of a section against its numbers of loads."""
    found = {figure.key: figure.value for figure in section.figures}
    loads = [int(key.split(".")[1]) for key in found if key.endswith(".seconds")]
    titles = {"seconds": "seconds", "peak": "peak memory, MB", "ledger": "ledger, MB"}
    drawn = {title: [found[f"whole.{size}.{key}"] for size in loads] for key, title in titles.items()}
    drawing = Drawing(figsize=(9, 2.8), layout="constrained")
    for axes, (name, values) in zip(drawing.subplots(1, len(drawn)), drawn.items(), strict=True):
        axes.plot(loads, values, marker="o", color="#2f6db3")
        axes.set(xlabel="loads", title=name, xlim=(0, None), ylim=(0, 1.1 * max(values)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}k")
        axes.spines[["top", "right"]].set_visible(False)
    # Without a date, equal figures make equal files.
    drawing.savefig(path, format="svg", metadata={"Date": None})
