"""The promise that matters most: killed at any moment and started again, it goes on where it was."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import command, last_json, run_options, start
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from tests.waiting import until

CONCURRENCY = 4
CHUNK_SIZE = 500
LOADS = 40
POINTS = 2_000


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_killed_at_any_moment_each_point_arrives_and_only_requests_in_flight_twice(
    no_faults: ReferenceVtn, new_site: Callable[..., Site], prefect_url: str, tmp_path: Path, kills: int
) -> None:
    site = new_site(loads=LOADS, points=POINTS, vens=3)
    site.register(no_faults)
    no_faults.switch(points_per_second=8000)
    before = len(no_faults.log())
    arguments = ["run", *run_options(site, no_faults), "--chunk-size", CHUNK_SIZE, "--json"]
    moments = random.Random(20250115)
    for _ in range(kills):
        wanted = len(no_faults.log()) + moments.randint(1, 40)
        run = start(*arguments, cwd=tmp_path, prefect_url=prefect_url, BULK_UPLOAD_CONCURRENCY=str(CONCURRENCY))
        while len(no_faults.log()) < wanted:
            assert run.poll() is None, run.communicate()
            time.sleep(moments.uniform(0.001, 0.02))
        run.send_signal(signal.SIGKILL)
        run.communicate()
    no_faults.switch()
    finished = command(*arguments, cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 0, finished.stderr
    summary = last_json(finished)
    assert summary["total_points_uploaded"] + summary["points_already_there"] == LOADS * POINTS
    site.assert_stored(no_faults)
    _assert_sent_twice_at_most(no_faults, before, kills * CONCURRENCY)


def test_after_a_kill_before_the_first_acknowledgement_the_ledger_is_not_said_to_be_new(
    no_faults: ReferenceVtn, new_site: Callable[..., Site], prefect_url: str, tmp_path: Path
) -> None:
    site = new_site(loads=1, points=100)
    site.register(no_faults)
    no_faults.switch(points_per_second=5)
    before = len(no_faults.log())
    run = start("run", *run_options(site, no_faults), cwd=tmp_path, prefect_url=prefect_url)
    until(lambda: any(request.stored for request in no_faults.log(after=before)), every_s=0.02)
    run.kill()
    run.communicate()
    no_faults.switch()
    finished = command("run", *run_options(site, no_faults), cwd=tmp_path, prefect_url=prefect_url)
    assert finished.returncode == 0, finished.stderr
    assert "its lease, which is taken over" in finished.stderr
    assert "is new" not in finished.stderr


def _assert_sent_twice_at_most(vtn: ReferenceVtn, before: int, requests: int) -> None:
    seen = Counter((request.resource_id, request.first_start, request.points) for request in vtn.log(after=before))
    again = sum(count - 1 for count in seen.values())
    assert again <= requests
    assert sum(request.points for request in vtn.log(after=before)) <= LOADS * POINTS + again * CHUNK_SIZE
