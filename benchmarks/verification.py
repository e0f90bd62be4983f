"""`bulk-upload verify`, compared with a bare loop that gets the same points."""

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.peers import get_loop
from benchmarks.stand import YEAR, Stand
from benchmarks.uploads import best_threads

VENS = 40
METERS = 203
CHOSEN_BY = 300  # loads, in choosing the number of threads

TEXT = """`bulk-upload verify` of {loads:,} loads, {points:,} points, from the start of the command to its end: it
reads every point back from the reference VTN, compares it with the meter file, and writes its report. Beside it a bare
loop that gets the same points with `requests` and the number of threads that is best for it ({threads}), and decodes
nothing. Medians of {rounds}, in turn."""


def measure() -> Section:
    """Points read back a second, and as many only received."""
    with Stand.made(vens=VENS, meters=METERS) as stand, stand.reference_vtn() as url:
        ids = [load.vtn_resource_id for load in stand.loads()]
        points = YEAR * len(ids)
        stand.run(url).having_sent(points)
        threads = best_threads(lambda number: get_loop(url, ids[:CHOSEN_BY], number))
        ours_s, bare_s = medians(lambda: stand.wall_s(url, "verify"), lambda: get_loop(url, ids, threads))
    return Section(
        "Verifying",
        TEXT.format(loads=len(ids), points=points, threads=threads, rounds=ROUNDS),
        [
            Figure("verify.ours", "verify", points / ours_s, "points/s"),
            Figure("verify.bare", "the bare loop", points / bare_s, "points/s"),
            Figure("verify.of_bare", "verify ÷ the bare loop", bare_s / ours_s, wanted=0.7, is_ratio=True),
        ],
    )
