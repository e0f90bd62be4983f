"""Promises of the benchmarks: what got worse is named, and the sink counts what it is sent."""

import gzip
from pathlib import Path

import pytest
import requests

from benchmarks.__main__ import SECTIONS, main
from benchmarks.figures import Figure, Section, load, page, regressions, save
from benchmarks.stand import SINK, serving
from tests.vtn_calls import hours


def _figure(value: float, *, is_ratio: bool = True, is_better_higher: bool = True) -> Figure:
    return Figure("a.b", "ours ÷ theirs", value, is_ratio=is_ratio, is_better_higher=is_better_higher)


@pytest.mark.parametrize(
    ("before", "now", "is_named"),
    [
        (_figure(1.0), _figure(0.79), True),
        (_figure(1.0), _figure(0.81), False),
        (_figure(1.0), _figure(2.0), False),
        (_figure(1.0, is_better_higher=False), _figure(1.21, is_better_higher=False), True),
        (_figure(1.0, is_better_higher=False), _figure(1.19, is_better_higher=False), False),
        (_figure(1.0, is_ratio=False), _figure(0.1, is_ratio=False), False),
    ],
)
def test_what_got_worse_by_more_than_a_fifth_is_named(before: Figure, now: Figure, is_named: bool) -> None:
    assert bool(regressions([now], [before])) is is_named


def test_a_ratio_that_is_not_compared_or_misses_what_is_wanted_is_named() -> None:
    known, renamed = Figure("a", "ours ÷ theirs", 1, is_ratio=True), Figure("b", "ours ÷ others'", 1, is_ratio=True)
    assert regressions([], [known]) == ["ours ÷ theirs: is recorded, and was not measured"]
    assert regressions([renamed], []) == ["ours ÷ others': is not recorded"]
    missed = Figure("a", "ours ÷ theirs", 0.99, wanted=1, is_ratio=True)
    assert regressions([missed], [known]) == ["ours ÷ theirs: 0.99, wanted ≥ 1"]


def test_a_share_is_held_against_what_is_wanted_and_not_against_next_to_nothing() -> None:
    nothing, little, much = (
        Figure("s", "share", value, "%", 10, is_better_higher=False) for value in (-0.2, 3.3, 11.2)
    )
    assert regressions([little], [nothing]) == []
    assert regressions([much], [nothing]) == ["share: 11.2 %, wanted ≤ 10 %"]


def test_figures_are_recorded_and_a_bound_that_is_missed_is_said_so(tmp_path: Path) -> None:
    figures = [Figure("a", "speed", 1_999_999, "points/s", 2_000_000), Figure("b", "memory", 399, "MB", 400)]
    sections = {"floor": Section("Against the floor", "How.", figures)}
    save(tmp_path / "recorded.json", sections)
    assert load(tmp_path / "recorded.json") == sections
    assert "| speed | 1,999,999 points/s | ≥ 2,000,000 points/s: **missed** |" in page(sections)


def test_the_sink_counts_points_plain_and_compressed() -> None:
    body = requests.Request("POST", "http://x", json=hours(300)).prepare().body
    assert isinstance(body, bytes)
    with serving(*SINK) as url:
        for encoding, sent in (("identity", body), ("gzip", gzip.compress(body))):
            headers = {"Content-Encoding": encoding}
            to = f"{url}/report_data/bulk?resource_id=v-1&batch_size=5000"
            answer = requests.post(to, data=sent, headers=headers, timeout=5)
            assert (answer.status_code, answer.json()) == (201, {"resource_id": "v-1", "entries_created": 300})


def test_a_run_that_misses_what_is_wanted_says_so_and_does_not_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = [Figure("a", "speed", 1_999_999, "points/s", 2_000_000), Figure("b", "share", 3, "%", 10, False, False)]
    monkeypatch.setitem(SECTIONS, "floor", lambda: Section("Against the floor", "How.", figures))
    with pytest.raises(SystemExit) as ended:
        main(["floor"])
    assert ended.value.code == "Missed: speed"


@pytest.mark.parametrize(
    ("now", "code", "told"),
    [(0.79, 1, "ours ÷ theirs: 0.79, was 1 (21 % worse)"), (0.81, 0, "No ratio got worse by more than a fifth")],
)
def test_a_check_ends_with_1_where_a_ratio_got_worse(
    now: float,
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(tmp_path / "recorded.json", {"floor": Section("Against the floor", "How.", [_figure(1.0)])})
    monkeypatch.setattr("benchmarks.__main__.RECORDED", tmp_path / "recorded.json")
    monkeypatch.setitem(SECTIONS, "floor", lambda: Section("Against the floor", "How.", [_figure(now)]))
    with pytest.raises(SystemExit) as ended:
        main(["floor"], check=True)
    assert ended.value.code == code
    assert told in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["steps"], check=True)
    assert ended.value.code == "steps: not recorded yet, run make bench"
