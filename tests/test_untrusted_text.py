"""Promises of names and answers that are written to harm: whoever reads of them reads them, and nothing obeys them."""

import logging
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from markdown_it import MarkdownIt
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import TaskRun
from prefect.client.schemas.sorting import FlowRunSort

from config.settings import given_options
from flows.bulk_upload import bulk_upload
from flows.register_loads import register_loads
from flows.verify_upload import verify_upload
from tests.chromium import tab
from tests.commands import command, last_json
from tests.sites import Site
from tests.small_server import answering
from tests.waiting import until
from venclient.untrusted_text import VisibleRecord, markdown, visible

HOSTILE = (
    "<img src=x onerror=throw(1)> [x](javascript:alert(1)) https://evil.example www.evil.example a@evil.example "
    "</script><script>throw 2</script> | `[red]` **b** &lt; $x$ "
    "\x1b[2J\x07\x9b2J\r\nforged line\u2028\u202e\u2066\x00 'end\""
)
SEEN = r"\x1b[2J\x07\x9b2J\r\nforged line\u2028\u202e\u2066\x00"


def _hostile_site(new_site: Callable[..., Site], *, loads: int = 3) -> Site:
    site = new_site(loads=loads, points=48)
    site.execute("UPDATE resources SET ven = ?, resource_name = ?", f"V {HOSTILE}", f"R {HOSTILE}")
    site.execute("UPDATE loads SET load_name = ?, load_id = id || ?, vtn_resource_id = id || ?", *3 * [HOSTILE])
    site.execute("UPDATE loads SET h5_meter_id = ? WHERE load_component = 'load_2'", f"meter_{HOSTILE}")
    return site


@pytest.fixture
def hostile_vtn() -> Iterator[str]:
    """A VTN that lists no resources and refuses all else, in the same words."""

    def answer(_method: str, path: str) -> tuple[int, object]:
        return (200, []) if path.startswith("/openadr3/resources") else (403, {"detail": HOSTILE})

    with answering(answer) as url:
        yield f"{url}/openadr3"


def _options(site: Site, vtn: str) -> list[object]:
    return ["--db", site.db, "--h5", site.h5, "--ledger", site.ledger, "--vtn-url", vtn, "--token", "given"]


def _obeyed(text: str) -> set[str]:
    return {sign for sign in text if not sign.isprintable() and sign != "\n"}


def _rendered(source: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(source))


def test_a_run_shows_hostile_names_and_answers_in_prefect_as_text(
    new_site: Callable[..., Site], hostile_vtn: str, tmp_path: Path, prefect_url: str, prefect: SyncPrefectClient
) -> None:
    site = _hostile_site(new_site)
    as_workers_have_it = {"PREFECT_LOGGING_EXTRA_LOGGERS": "venclient,tasks,flows", "PREFECT_LOGGING_LEVEL": "DEBUG"}
    finished = command("run", *_options(site, hostile_vtn), cwd=tmp_path, prefect_url=prefect_url, **as_workers_have_it)
    assert finished.returncode == 1, finished.stderr
    assert _obeyed(finished.stdout + finished.stderr) == set()
    assert SEEN in finished.stderr
    assert "\nforged" not in finished.stderr
    (report,) = (page.read_text() for page in (tmp_path / "reports").glob("run-*.html"))
    assert SEEN in report
    assert _obeyed(report) == set()
    assert not re.search(r"<(img|a)\b|<script>throw", report)
    (run,) = prefect.read_flow_runs(limit=1, sort=FlowRunSort.START_TIME_DESC)
    logs = [each.message for each in prefect.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))]
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))

    def tasks_with_hostile_names() -> list[TaskRun]:
        tasks = prefect.read_task_runs(flow_run_filter=of_run)
        return tasks if any(SEEN in task.name for task in tasks) else []

    tasks = until(tasks_with_hostile_names)  # the server records tasks later
    states = [_state(run), *map(_state, tasks)]
    for text in (*logs, *states, *(task.name for task in tasks)):
        assert _obeyed(text) == set(), repr(text)
    assert any(SEEN in text for text in logs)
    assert any(SEEN in text for text in states)
    assert {"bulk-upload-summary", "bulk-upload-live"} <= _keys_of_artifacts_that_are_text(prefect, run.id)


def test_flows_show_hostile_names_and_answers_as_text(
    new_site: Callable[..., Site], hostile_vtn: str, prefect: SyncPrefectClient
) -> None:
    site = _hostile_site(new_site)
    site.execute("UPDATE loads SET vtn_resource_id = NULL WHERE load_component = 'load_1'")
    given = given_options(
        vtn_url=hostile_vtn, bearer_token="given", resources_db=str(site.db), meter_file=site.h5,
        ledger_url=str(site.ledger),
    )  # fmt: skip
    with given:
        ended: dict[str, Any] = {
            "register-loads-summary": register_loads(return_state=True),
            "verify-upload-summary": verify_upload(return_state=True),
            "bulk-upload-summary": bulk_upload(vens=[f"V {HOSTILE}"], return_state=True),
        }
    for key, state in ended.items():
        run_id = state.state_details.flow_run_id
        assert run_id
        run = prefect.read_flow_run(run_id)
        assert _obeyed(run.name + (state.message or "")) == set()
        assert (SEEN in run.name) == (key == "bulk-upload-summary")
        assert key in _keys_of_artifacts_that_are_text(prefect, run_id)


def _keys_of_artifacts_that_are_text(prefect: SyncPrefectClient, run_id: UUID) -> set[str]:
    """The keys of a run's pages that show the names; fails where one of its artifacts has more in it than text."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    artifacts = prefect.read_artifacts(artifact_filter=of_run)
    shown = set()
    for artifact in artifacts:
        for source in (artifact.description or "", str(artifact.data) if artifact.type == "markdown" else ""):
            assert _obeyed(source) == set()
            html = _rendered(source)
            assert not re.search(r"<(?!/?(p|ul|li|strong|table|thead|tbody|tr|th|td|img)\b)", html), html
            assert not re.search(r"<img (?!src=\"data:image/svg)", html), html
            for table in html.split("<table>")[1:]:
                columns = len(re.findall(r"<th[ >]", table))
                assert table.count("<td") == columns * (table.count("<tr") - 1), "a pipe begins no cell"
            if markdown(SEEN) in source and artifact.key:
                shown.add(artifact.key)
    return shown


def _state(run: object) -> str:
    return getattr(getattr(run, "state", None), "message", None) or ""


def test_commands_print_hostile_names_in_lines_that_no_terminal_obeys(
    new_site: Callable[..., Site], hostile_vtn: str, tmp_path: Path
) -> None:
    site = _hostile_site(new_site)
    on_site = _options(site, hostile_vtn)
    told_in: dict[str, list[object]] = {
        "checks": ["check", "--db", site.db, "--h5", site.h5],
        "to_send": ["plan", *on_site[:-2]],
        "vens": ["status", "--db", site.db, "--ledger", site.ledger, "--vtn-url", hostile_vtn],
        "not_equal": ["verify", *on_site],
    }
    for field, arguments in told_in.items():
        shown = command(*arguments, cwd=tmp_path)
        output = shown.stdout + shown.stderr
        assert _obeyed(output) == set(), arguments
        assert "\nforged" not in output, arguments
        assert field == "not_equal" or SEEN.replace(" ", "") in "".join(output.split()), arguments
        raw = command(*arguments, "--json", cwd=tmp_path)
        assert _obeyed(raw.stdout) == set(), arguments
        assert last_json(raw)[field][0]["ven"] == f"V {HOSTILE}", "data stays as it is"


def test_pages_show_hostile_names_and_answers_as_text(
    new_site: Callable[..., Site], hostile_vtn: str, tmp_path: Path
) -> None:
    site = _hostile_site(new_site)
    command("check", "--db", site.db, "--h5", site.h5, "--plot", tmp_path / "pages", cwd=tmp_path)
    command("verify", *_options(site, hostile_vtn), "--report", tmp_path / "pages", cwd=tmp_path)
    pages = sorted((tmp_path / "pages").glob("*.html"))
    assert [page.name[:12] for page in pages] == ["coverage.htm", "verification"]
    with tab() as shown:
        shown.watch()
        for page in pages:
            shown.open(f"file://{page}")
            until(lambda: shown.run("performance.getEntriesByName('drawn').length"))
            assert shown.run("faults") == []
            # The page's own scripts: its data, the charts' library, and two that draw.
            own_scripts = "(own => { own.forEach(each => each.remove()); return own.length; })([...document.scripts])"
            assert shown.run(own_scripts) == 4
            html = shown.text("</html>")
            assert SEEN in html
            assert not re.search(r'<script|<a\b|src="x"|<[^>]*onerror=(?!throw\(1\)&gt;)', html)
            assert _obeyed(html) == set()


def test_what_is_logged_is_one_line_and_a_traceback_is_indented() -> None:
    try:
        raise ValueError("one\nforged: two \x1b[2J")
    except ValueError as error:
        record = VisibleRecord("x", 40, "x.py", 1, "%s\nforged", ("\x1b",), (type(error), error, error.__traceback__))
    line, *traceback = logging.Formatter("%(message)s").format(record).split("\n")
    assert line == r"\x1b\nforged"
    assert all(each.startswith("  ") for each in traceback)
    assert r"  forged: two \x1b[2J" in traceback


def test_names_of_people_stay_as_they_are() -> None:
    for name in ("Ærøskøbing", "Nykøbing\u00a0Falster", "क्\u200dष", "北京", "👩\u200d🔧"):
        assert visible(name) == name
    assert visible(visible(HOSTILE)) == visible(HOSTILE)


@pytest.mark.parametrize(
    "source", [HOSTILE, "- x", "# x", "1. x", "1) x", "> x", "     x", "---", "\\|", "~~x~~", "a_b_"]
)
def test_text_in_markdown_is_text(source: str) -> None:
    as_item = _rendered(f"- {markdown(source)}")
    (shown,) = re.findall(r"<ul>\n<li>([^<]*)</li>\n</ul>\n", as_item)
    assert unescape(shown) == visible(source).strip()
    as_cell = _rendered(f"| x |\n| --- |\n| {markdown(source)} |")
    (shown,) = re.findall(r"<td>([^<]*)</td>", as_cell)
    assert unescape(shown) == visible(source).strip()
