"""Promises of reports: whatever one of them raises is a line in the log, and the run ends as its loads say."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from threading import Event, Thread

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.bulk_upload import bulk_upload
from flows.register_loads import register_loads
from flows.verify_upload import verify_upload
from tests.prefect_front import prefect_front
from tests.reference_vtn import ReferenceVtn
from tests.run_settings import run_settings
from tests.sites import Site
from venclient.reports.rate_chart import rate_chart
from venclient.run import Snapshot, watched_by
from venclient.run.recorder import RunRecorder


@pytest.fixture
def site(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> Iterator[Site]:
    """Two VENs of two loads each, registered, and the settings to upload them."""
    site = new_site(loads=4, points=300, vens=2)
    site.register(vtn)
    with run_settings(site, vtn, loads_per_task=2):
        yield site


def test_samples_may_come_while_the_picture_of_the_throughput_is_drawn() -> None:
    for _ in range(20):
        assert "</svg>" in _drawn_meanwhile(RunRecorder())


def _drawn_meanwhile(recorder: RunRecorder) -> str:
    """The picture, while samples come so slowly that each is kept."""
    ended = Event()

    def sample() -> None:
        for number in count(1):
            recorder.sample(number * 0.6, number * 1000, None)
            if ended.wait(0.002):
                return

    sampling = Thread(target=sample)
    sampling.start()
    try:
        return rate_chart(recorder.record().samples)
    finally:
        ended.set()
        sampling.join()


@pytest.mark.parametrize(
    "answer",
    [
        (500, b'{"detail": "no"}'),
        pytest.param((200, b"<html>Sign in</html>"), marks=pytest.mark.long),
        pytest.param((200, b"[]"), marks=pytest.mark.long),
    ],
    ids=["500", "HTML", "a list"],
)
@pytest.mark.usefixtures("prefect")
def test_artifacts_that_prefect_does_not_take_do_not_decide_how_a_run_ends(
    vtn: ReferenceVtn, site: Site, prefect_url: str, answer: tuple[int, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    site.execute("UPDATE loads SET vtn_resource_id = NULL WHERE id = 1")
    with (
        prefect_front(prefect_url, {"/artifacts": answer}) as api_url,
        temporary_settings({PREFECT_API_URL: api_url}),
        caplog.at_level(logging.WARNING),
    ):
        registered = register_loads(return_state=True)
        uploaded = bulk_upload(return_state=True)
        verified = verify_upload(return_state=True)
    assert [state.name for state in (registered, uploaded, verified)] == ["Completed"] * 3
    assert uploaded.message == "4 loads done: 1,200 points uploaded, 0 already there"
    assert "A report was not made" in caplog.text
    site.assert_stored(vtn)


@pytest.mark.usefixtures("prefect")
def test_a_run_is_completed_though_its_rate_cannot_be_recorded(vtn: ReferenceVtn, site: Site) -> None:
    def lose_what_is_written_at_the_end(now: Snapshot) -> None:
        if now.is_planned:
            with closing(sqlite3.connect(site.ledger)) as ledger:
                ledger.execute("DROP TABLE IF EXISTS runs")
                ledger.execute("DROP TABLE IF EXISTS limits")

    with watched_by(lose_what_is_written_at_the_end):
        state = bulk_upload(return_state=True)
    assert state.is_completed(), state.message
    assert state.message == "4 loads done: 1,200 points uploaded, 0 already there"
    site.assert_stored(vtn)


@pytest.mark.usefixtures("prefect")
def test_a_watcher_that_fails_is_logged_and_asked_again(
    site: Site, caplog: pytest.LogCaptureFixture, no_faults: ReferenceVtn
) -> None:
    asked: list[Snapshot] = []

    def fail_at_first(now: Snapshot) -> None:
        asked.append(now)
        if not now.is_through:
            raise OSError("The terminal is gone")

    no_faults.switch(points_per_second=300)
    with caplog.at_level(logging.WARNING), watched_by(fail_at_first):
        state = bulk_upload(return_state=True)
    assert state.is_completed()
    assert asked[-1].is_through
    assert "The terminal is gone" in caplog.text
