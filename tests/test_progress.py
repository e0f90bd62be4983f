"""Promises of what `bulk-upload run` shows: nothing that matters vanishes at 80 columns, and logs have all of it."""

import os
import pty
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.commands import command, last_json, run_options, start
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site

COLUMNS = 80
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Site:
    """A VEN of six loads, of which the VTN has two already and one has no data."""
    site = new_site(loads=6, points=500)
    site.register(vtn)
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", site.loads[-1].load_id)
    return site


@pytest.fixture
def slow_vtn(vtn: ReferenceVtn) -> Iterator[ReferenceVtn]:
    """A VTN that takes 2 s for a load, one at a time."""
    vtn.switch(points_per_second=250, max_in_flight=1)
    yield vtn
    vtn.switch()


def test_at_80_columns_percentage_time_points_and_failures_are_all_there(
    vtn: ReferenceVtn, slow_vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    vtn.switch()
    assert command("run", *run_options(site, vtn), "--limit", 2, cwd=tmp_path, prefect_url=prefect_url).returncode == 0
    slow_vtn.switch(points_per_second=250, max_in_flight=1)
    ended, output, shown = _in_a_terminal(*run_options(site, vtn), cwd=tmp_path, prefect_url=prefect_url)
    assert ended == 1
    lines = [line.rstrip() for line in CONTROLS.sub("", shown).replace("\r", "\n").split("\n")]
    bars = [
        line for line in lines if re.fullmatch(r"Uploading [━╸╺]{20,} +\d+ %  (\d:\d\d:\d\d left|-:--:-- left)", line)
    ]
    assert bars, lines
    assert max(map(len, bars)) <= COLUMNS - 3, "no room for ^C"
    # What the VTN had before counts in the bar as it does in the numbers.
    assert int(re.findall(r"(\d+) %", bars[0])[0]) >= 40, bars[0]
    assert any(
        re.fullmatch(r"1 failed · 1\.0 k of 2\.5 k points · .* points/s · \d of 6 loads", line) for line in lines
    )
    assert any(line.startswith("Starting Prefect ━") for line in lines)
    assert any(re.match(r"Uploading ━+ 100 %  in 0:00:\d\d$", line) for line in lines), lines
    assert "Uploading chunk" not in shown
    assert re.search(r" in [\d.]+ s \(\d+ points/s\); [\d.]+ s with its start and end$", output.strip())


def test_on_a_terminal_failures_of_the_same_cause_do_not_scroll_everything_away(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    site.execute("UPDATE loads SET h5_meter_id = 'meter_' || rowid WHERE load_id != ?", site.loads[0].load_id)
    options = [*run_options(site, vtn), "--log-file", "all.log"]
    ended, _, shown = _in_a_terminal(*options, cwd=tmp_path, prefect_url=prefect_url)
    assert ended == 1
    text = CONTROLS.sub("", shown)
    assert text.count("ERROR  ") == 3
    assert "5 failed · " in text
    assert "5 of 6 loads failed: " in text
    assert "(and 4 more like it)" in text
    assert (tmp_path / "all.log").read_text().count(" ERROR ") == 5 + 1, "and the outcome"


def test_on_a_terminal_retries_do_not_scroll_everything_away(
    vtn: ReferenceVtn, slow_vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    slow_vtn.switch(script=["503-bare"] * 20)
    options = [*run_options(site, vtn), "--log-file", "all.log"]
    often = {"BULK_UPLOAD_ATTEMPTS": "50", "BULK_UPLOAD_RETRY_WAIT_S": "0.01"}
    _, output, shown = _in_a_terminal(*options, cwd=tmp_path, prefect_url=prefect_url, **often)
    assert output.startswith("5 of 6 loads done, 1 failed")
    retried = re.compile(r"WARNING +Attempt \d+ failed, the next in")
    assert len(retried.findall((tmp_path / "all.log").read_text())) > 3
    assert len(retried.findall(CONTROLS.sub("", shown))) == 3


def test_on_a_terminal_lines_are_broken_between_words_and_paths_stay_whole(
    vtn: ReferenceVtn, site: Site, tmp_path: Path
) -> None:
    meter_file = tmp_path / "a-folder-with-a-long-name" / "and-another-one-below-it" / "meters-of-the-year-2025.h5"
    options = ["--db", site.db, "--vtn-url", vtn.base_url, "--h5", meter_file]
    ended, _, shown = _in_a_terminal(*options, cwd=tmp_path, VTN_BEARER_TOKEN=vtn.token)
    assert ended == 2
    # A machine that is slow to find the mistake shows its progress before it.
    message = shown[shown.index("bulk-upload: ") :]
    lines = CONTROLS.sub("", message).replace("\r", "").splitlines()
    assert str(meter_file) in lines[1]
    words = [line for line in lines if str(meter_file) not in line]
    assert max(map(len, words)) <= COLUMNS
    assert " ".join(lines).startswith(f"bulk-upload: Meter file {meter_file} not found: name it with --h5 or")


def test_a_verbose_run_shows_each_request_on_a_terminal_too(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    _, _, shown = _in_a_terminal(*run_options(site, vtn), "-v", cwd=tmp_path, prefect_url=prefect_url)
    assert "Uploading chunk" in shown


def test_without_a_terminal_a_line_tells_the_progress_now_and_then_and_each_line_its_ven(
    slow_vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    options = [*run_options(site, slow_vtn), "--stats", "1s", "--log-file", "all.log"]
    errors = command("run", *options, cwd=tmp_path, prefect_url=prefect_url).stderr
    progress = re.findall(r"^Uploading: (\d+) %, 1 failed, .* of 2\.5 k points, .* of 6 loads, .* left", errors, re.M)
    assert len(progress) >= 3, errors
    assert progress == sorted(progress, key=int)
    ven = site.loads[0].ven
    requests = [line for line in errors.splitlines() if "Uploading chunk" in line]
    assert requests
    assert all(line.startswith(f"{ven} [") for line in requests)
    kept = (tmp_path / "all.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING|ERROR) ", line) for line in kept)
    assert {line.split(" ", 2)[2] for line in kept} >= set(requests)

    quiet = command("run", *options, "-q", cwd=tmp_path, prefect_url=prefect_url)
    assert "Uploading" not in quiet.stderr
    assert "meter_404" in quiet.stderr
    assert quiet.stdout.startswith("5 of 6 loads done, 1 failed")


def test_a_log_file_has_the_outcome_of_a_run_also_if_nothing_was_to_send(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path, prefect_url: str
) -> None:
    site = new_site(loads=2, points=50)
    site.register(vtn)
    ends = []
    for more in ((), ("--json", "-q"), ("--failed",)):
        options = [*run_options(site, vtn), "--log-file", "all.log", *more]
        finished = command("run", *options, cwd=tmp_path, prefect_url=prefect_url)
        assert finished.returncode == 0, finished.stderr
        kept = (tmp_path / "all.log").read_text().splitlines()
        ends.append([line.split(" INFO ")[1] for line in kept[-2:]])
    assert all(re.fullmatch(r"Report: \S+\.html", report) for report, _ in ends)
    assert [totals.partition(" already there")[0] for _, totals in ends] == [
        "2 of 2 loads done, 0 failed: 100 points uploaded, 0",
        "2 of 2 loads done, 0 failed: 0 points uploaded, 100",
        "No failed loads: nothing to do",
    ]


def test_a_log_file_has_what_failed_as_an_error(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str
) -> None:
    options = [*run_options(site, vtn), "--log-file", "all.log"]
    assert command("run", *options, cwd=tmp_path, prefect_url=prefect_url).returncode == 1
    elsewhere = ["--db", site.db, "--vtn-url", "http://127.0.0.1:9/openadr3", "--token", "t", "--log-file", "all.log"]
    assert command("register", *elsewhere, cwd=tmp_path).returncode == 2
    kept = (tmp_path / "all.log").read_text().splitlines()
    errors = [line.split(" ERROR ")[1] for line in kept if " ERROR " in line]
    assert any(line.startswith("1 of 6 loads failed: ") for line in errors), errors
    assert errors[-1].startswith("bulk-upload: The VTN is not there. ")
    assert any(" INFO Report: " in line for line in kept)


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--stats", "often"], "--stats"), (["--log-file", "nowhere/all.log"], "nowhere/all.log cannot be written")],
    ids=["stats", "log file"],
)
def test_what_cannot_be_shown_is_told_before_anything_is_sent(
    vtn: ReferenceVtn, site: Site, tmp_path: Path, prefect_url: str, options: list[str], words: str
) -> None:
    seen = len(vtn.log())
    finished = command("run", *run_options(site, vtn), *options, cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 2
    assert words in finished.stderr
    assert len(vtn.log()) == seen


def test_a_log_file_that_cannot_be_written_any_more_is_told_once_and_changes_nothing(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=4, points=50)
    site.register(vtn)
    finished = command("verify", *run_options(site, vtn), "--log-file", "/dev/full", "--json", cwd=tmp_path)
    assert finished.returncode == 1
    assert last_json(finished)["not_sent"] == 4
    assert finished.stderr.count("The log file /dev/full cannot be written any more: No space left on device") == 1
    assert "Traceback" not in finished.stderr


def test_registration_and_verification_show_their_progress_as_a_run_does(
    vtn: ReferenceVtn, new_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = new_site(loads=4, points=50)
    (ven,) = {ven for (ven,) in site.execute("SELECT ven FROM resources")}
    options = ["--db", site.db, "--vtn-url", vtn.base_url, "--log-file", "all.log"]
    (tmp_path / ".env").write_text(f"VTN_BEARER_TOKEN={vtn.token}\n")
    ended, output, shown = _in_a_terminal(*options, "-v", of="register", cwd=tmp_path)
    assert (ended, output) == (
        0,
        "4 loads registered, 0 failed, 0 left out (their resources are disabled or suspended)\n",
    )
    lines = [line.rstrip() for line in CONTROLS.sub("", shown).replace("\r", "\n").split("\n")]
    assert any(re.fullmatch(r"Registering ━{20,} 100 %  in 0:00:\d\d", line) for line in lines), lines
    assert max(map(len, lines)) <= COLUMNS
    assert "4 of 4 loads" in lines
    assert " ".join(" ".join(lines).split()).count("registered as") == 4
    kept = (tmp_path / "all.log").read_text().splitlines()
    assert len(kept) == 5
    assert f"{kept[-1].split(' INFO ')[1]}\n" == output

    options = [*options, "--h5", site.h5, "--ledger", site.ledger]
    finished = command("verify", *options, "--stats", "0.001", "-v", cwd=tmp_path)
    assert re.search(r"^Verifying: 100 %, 4 of 4 loads, in 0:00:\d\d$", finished.stderr, re.MULTILINE), finished.stderr
    assert len(re.findall(rf"^{ven}: load .* is not sent$", finished.stderr, re.MULTILINE)) == 4
    for fewer in (("-q",), ("--stats", "0")):
        quiet = command("verify", *options, *fewer, cwd=tmp_path)
        assert (quiet.returncode, quiet.stderr) == (1, "")
    kept = (tmp_path / "all.log").read_text().splitlines()
    assert sum(line.endswith(" is not sent") for line in kept) == 12
    assert sum(" INFO 0 of 4 loads are as in the file. " in line for line in kept) == 3


def _in_a_terminal(
    *options: object, of: str = "run", cwd: Path, prefect_url: str | None = None, **environment: str
) -> tuple[int, str, str]:
    """Exit code and standard output of a run whose standard error is a terminal, and what that has shown.

    `of`: another command.
    """
    ours, theirs = pty.openpty()
    of_terminal: Any = {"TERM": "xterm", "COLUMNS": f"{COLUMNS}"} | environment
    run = start(of, *options, cwd=cwd, prefect_url=prefect_url, stderr=theirs, **of_terminal)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # what Linux says when the other side has closed the terminal
        while part := os.read(ours, 65_536):
            shown += part
    output, _ = run.communicate(timeout=120)
    return run.returncode, output, shown.decode()
