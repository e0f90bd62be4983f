"""Runs with nothing to send, and runs with one day to send for each load."""

import statistics

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.stand import SINK, YEAR, Stand, serving

VENS = 287
METERS = 153
DAY = 24

TEXT = """{loads:,} loads, {series} series that they share, all done: the run once more, which has to find out that
there is nothing to send. Then a day is appended to each, and the run sends it. Into a VTN that answers at once.
Seconds from the start of the command to its end, with a Prefect server that runs already; {start_s:.1f} s of them are
the start of Python and Prefect, the summary and the end, and the rest is its work. Last, three loads that are done, by
a run that starts a Prefect server of its own. Medians of {rounds}."""


def measure() -> Section:
    """Seconds of a run with nothing to send, and of one with a day to send for each load."""
    with Stand.made(vens=VENS, meters=METERS) as stand, serving(*SINK) as sink:
        loads = stand.run(sink).loads
        series = len(stand.series())
        overheads_s: list[float] = []
        work_s: list[float] = []
        per_load: list[float] = []

        def nothing() -> float:
            run = stand.run(sink).having_sent(0)
            overheads_s.append(run.wall_s - run.seconds)
            work_s.append(run.seconds)
            return run.wall_s

        (nothing_s,) = medians(nothing)
        days = iter(range(1, ROUNDS + 1))

        def one_day() -> float:
            stand.write(vens=VENS, meters=METERS, points=YEAR + DAY * next(days))
            run = stand.run(sink).having_sent(DAY * loads)
            per_load.append(run.points / run.loads)
            return run.wall_s

        (day_s,) = medians(one_day)
        few = ("-m", "cli", "run", "--json", "--limit", "3")
        (few_s,) = medians(lambda: stand.run(sink, *few, PREFECT_API_URL="").having_sent(0).wall_s)
    text = TEXT.format(loads=loads, series=series, start_s=sorted(overheads_s)[ROUNDS // 2], rounds=ROUNDS)
    return Section(
        "Nothing to do is nothing",
        text,
        [
            Figure("nothing.done", f"{loads:,} loads, nothing to send", nothing_s, "s", 10, is_better_higher=False),
            Figure("nothing.work", "the work of it", statistics.median(work_s), "s", 3, is_better_higher=False),
            Figure("nothing.day", f"{loads:,} loads, a day each", day_s, "s", 22.1, is_better_higher=False),
            Figure(
                "nothing.few", "3 loads, nothing to send, with Prefect's start", few_s, "s", 6, is_better_higher=False
            ),
            Figure("nothing.points", "points sent for each load that night, no more and no fewer", max(per_load)),
        ],
    )
