"""Whole runs over standard reports, compared with a bare loop that posts the same bodies to the reference VTN."""

from collections.abc import Sequence
from contextlib import ExitStack

import requests

from benchmarks.figures import ROUNDS, Figure, Section, medians
from benchmarks.peers import bare_loop
from benchmarks.stand import TOKEN, YEAR, Measured, Stand
from benchmarks.uploads import best_threads
from venclient.loads import Load
from venclient.sources.hdf5 import MeterFile
from venclient.sync.pending import cut, pending
from venclient.wires.openadr3.form import Event, Form
from venclient.wires.openadr3.layout import ReportLayout

VENS, METERS = 6, 6
WIRE = "openadr-3.1"
NAME = "meter-history"
CHOSEN_BY = 500  # reports, in choosing the number of threads
EVENT = {
    "eventName": NAME,
    "reportDescriptors": [
        {"payloadType": "USAGE", "readingType": "DIRECT_READ", "units": "KWH", "historical": True, "frequency": 0}
    ],
}

TEXT = """A run of {loads:,} loads, {points:,} points in {reports:,} reports of a month, into the reference VTN for
`{wire}`, which has each on the disk before it answers with the whole of it; its store is empty each time. Beside it a
bare loop that posts the same bodies, encoded before, with `requests` and the number of threads that is best for it
({threads}), and reads the answers as JSON. Then the same against a VTN that answers one request after the other. What
the VTN takes is measured with a loop that only receives the answers: a client that decodes them needs a core for that.
Medians of {rounds}, in turn; a run goes by its own clock. A run compares each answer with what was sent, and keeps
what is known of each report before it is created and after."""


def measure() -> Section:
    """Against the reference VTN, as fast as it can and one request at a time."""
    with Stand.made(vens=VENS, meters=METERS) as stand:
        loads = stand.loads()
        points = YEAR * len(loads)
        reports = len(_bodies(stand, loads, Event("event", "program")))
        threads = best_threads(lambda number: _bare_s(stand, loads, number, at_most=CHOSEN_BY))
        ours_s, bare_s, ours_in_turn_s, bare_in_turn_s, vtn_s = medians(
            lambda: _run_s(stand, points),
            lambda: _bare_s(stand, loads, threads),
            lambda: _run_s(stand, points, "one_at_a_time"),
            lambda: _bare_s(stand, loads, threads, "one_at_a_time"),
            lambda: _bare_s(stand, loads, threads, decodes=False),
        )
    text = TEXT.format(loads=len(loads), points=points, reports=reports, wire=WIRE, threads=threads, rounds=ROUNDS)
    return Section(
        "Standard reports",
        text,
        [
            Figure("standard.ours", "ours", points / ours_s, "points/s"),
            Figure("standard.bare", "the bare loop", points / bare_s, "points/s"),
            Figure("standard.vtn", "the reference VTN takes", points / vtn_s, "points/s", 100_000),
            Figure("standard.of_bare", "ours ÷ the bare loop", bare_s / ours_s, wanted=0.85, is_ratio=True),
            Figure(
                "standard.in_turn",
                "ours ÷ the bare loop, one request at a time",
                bare_in_turn_s / ours_in_turn_s,
                wanted=0.9,
                is_ratio=True,
            ),
        ],
    )


def _run_s(stand: Stand, points: int, *habits: str) -> float:
    with ExitStack() as stack:
        url, _ = _prepared(stack, stand, habits)
        run: Measured = stand.first_run(url, VTN_WIRE=WIRE, OAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL=f"{url}/auth/token")
        return run.having_sent(points).seconds


def _bare_s(
    stand: Stand,
    loads: Sequence[Load],
    threads: int,
    *habits: str,
    at_most: int | None = None,
    decodes: bool = True,
) -> float:
    with ExitStack() as stack:
        url, event = _prepared(stack, stand, habits)
        posts = [("", body) for body in _bodies(stand, loads, event)][:at_most]
        return bare_loop(url, posts, threads, "/reports", decodes=decodes)


def _prepared(stack: ExitStack, stand: Stand, habits: Sequence[str]) -> tuple[str, Event]:
    """The address of a new VTN, and the event that reports are for."""
    url = stack.enter_context(stand.standard_vtn(WIRE, *(["--switches"] if habits else [])))
    if habits:
        origin = url.partition("/openadr3")[0]
        requests.put(f"{origin}/switches", json={"habits": habits}, timeout=10).raise_for_status()
    program_id = _created(url, "/programs", {"programName": NAME})
    return url, Event(_created(url, "/events", {"programID": program_id, **EVENT}), program_id)


def _created(url: str, path: str, body: dict[str, object]) -> str:
    answer = requests.post(f"{url}{path}", json=body, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
    answer.raise_for_status()
    return str(answer.json()["id"])


def _bodies(stand: Stand, loads: Sequence[Load], event: Event) -> list[bytes]:
    """The body of each report, as a run sends it."""
    layout = ReportLayout(lambda: Form("3.1", event), 1_000_000)
    with MeterFile(stand.h5) as meters:
        return [
            layout.encode(load, chunk)
            for load in loads
            for series in [meters.series(load.h5_meter_id, load.load_component, load.capacity_w)]
            for chunk in cut(series, pending(series, {}), 50_000, layout)
        ]
