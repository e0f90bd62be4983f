"""Promises of the pages: they build without a warning, and every console session in them runs as it stands there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from string import Template

import pytest

from tests.chromium import tab
from tests.commands import AUTH_STRING, command
from tests.reference_vtn import ROOT, ReferenceVtn
from tests.sites import Site
from tests.standard_vtn import StandardVtn
from tests.waiting import until
from venclient.ledger.ledger import Ledger
from venclient.loads import Load

DOCS = ROOT / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))
# A page's console sessions, and what the tests do between them.
STEPS = re.compile(r"^```console\n(?P<session>.*?)^```$|^% do: (?P<deed>.*?)$", re.DOTALL | re.MULTILINE)
# Where the first console session's button is; what it copies goes to `window.copied`.
FIRST_COPY_BUTTON = """
document.addEventListener("copy", () => { window.copied = document.activeElement.value });
(() => {
  const button = document.querySelector(".highlight-console .copybtn");
  button.scrollIntoView({ behavior: "instant" });
  const { x, y } = button.getBoundingClientRect();
  return [x + 5, y + 5];
})()
"""
# Code and tables that are wider than the page: only diagrams and tables may be, and they scroll.
CUT = """
[...document.querySelectorAll("article pre, article .table-wrapper")]
  .filter(each => each.scrollWidth > each.clientWidth + 1)
  .filter(each => each.closest(".highlight-console, .highlight-sh") || getComputedStyle(each).overflowX !== "auto")
  .map(each => each.innerText)
"""
START_A_STANDARD_VTN = "start a VTN of the published API"
MARCH_S = 1_740_787_200  # 2025-03-01T00:00Z


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of an operator, where they are looked for."""
    folder = tmp_path_factory.mktemp("sample")
    sizes = ["--vens", "3", "--loads-per-ven", "8", "--meters", "3", "--points", "1500"]
    command("sample-data", *sizes, cwd=folder).check_returncode()
    return folder


@pytest.fixture
def operator(sample: Path, tmp_path: Path, prefect_url: str) -> Iterator[tuple[Path, ReferenceVtn]]:
    """A copy of it with an `.env`, and a VTN."""
    folder = tmp_path / "operator"
    shutil.copytree(sample, folder)
    with ReferenceVtn(tmp_path / "vtn.db") as vtn:
        (folder / ".env").write_text(
            f"VTN_SERVER_ADDRESS={vtn.base_url}\nOAUTH_CLIENT_ID={vtn.client_id}\n"
            f"OAUTH_CLIENT_SECRET={vtn.client_secret}\nOAUTHCHECK_ACCESS_TOKEN_OBTAIN_URL={vtn.token_url}\n"
        )
        yield folder, vtn


@pytest.fixture(scope="module")
def built_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the pages as HTML."""
    folder = tmp_path_factory.mktemp("html")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(folder)]
    built = subprocess.run(build, text=True, capture_output=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page == "tutorial" else pytest.mark.long)
        for page in PAGES
        if "```console" in (DOCS / f"{page}.md").read_text()
    ],
)
def test_every_session_of_the_page_runs_as_it_stands_there(
    operator: tuple[Path, ReferenceVtn], prefect_url: str, page: str
) -> None:
    folder, vtn = operator
    site = Site.of_folder(folder / "config")
    site.h5 = folder / "config" / "examplemeterdata" / "load_data.h5"
    environment = {"PREFECT_API_URL": prefect_url, "PREFECT_API_AUTH_STRING": AUTH_STRING}
    load: Load | None = None
    with ExitStack() as running:
        for step in STEPS.finditer((DOCS / f"{page}.md").read_text()):
            if step["deed"] == START_A_STANDARD_VTN:
                _point_to_standard(folder / ".env", running.enter_context(_standard_vtn(folder / "vtn.db")))
            elif step["deed"]:
                load = DEEDS[step["deed"]](site, vtn)
            else:
                if "$LOAD" in step["session"]:
                    environment["LOAD"] = (load or site.loads[0]).load_id
                _assert_session(step["session"], folder, environment)


def test_the_programs_of_the_page_for_python_run(
    operator: tuple[Path, ReferenceVtn], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, vtn = operator
    monkeypatch.chdir(folder)
    tokens: list[object] = []
    for program in re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL):
        program = program.replace("http://127.0.0.1:8444/openadr3", vtn.base_url).replace("your-token", vtn.token)
        program = program.replace("http://127.0.0.1:8444/oauth/token", vtn.token_url)
        client = f"({vtn.client_id!r}, {vtn.client_secret!r})"
        names: dict[str, object] = {}
        exec(program.replace('("bulk-upload", "bulk-upload-secret")', client), names)
        tokens += [names["token"]] if "token" in names else []
    assert len(tokens) == 1
    with vtn.session(str(tokens[0])) as session:
        assert session.get(f"{vtn.base_url}/resources").status_code == 200
    assert capsys.readouterr().out == "8 of 8 loads, 12,000 points\n"


def test_the_pages_build_without_a_warning(built_pages: Path) -> None:
    assert not [page for page in PAGES if not (built_pages / f"{page}.html").is_file()]


def test_pages_that_are_made_from_the_code_are_made_again_by_each_build(built_pages: Path) -> None:
    build = [sys.executable, "-m", "sphinx", "-b", "html", str(DOCS), str(built_pages)]
    built = subprocess.run(build, text=True, capture_output=True, check=False)
    assert "0 added, 2 changed, 0 removed" in built.stdout, built.stdout + built.stderr


def test_search_finds_how_to_cancel_commands_are_copied_without_output_and_no_line_is_cut(built_pages: Path) -> None:
    with tab() as browser:
        browser.open(f"{built_pages.as_uri()}/search.html?q=cancel")
        browser.text('href="stopping.html')
        browser.open(f"{built_pages.as_uri()}/tutorial.html")
        browser.text("copybtn o-tooltip")
        x, y = browser.run(FIRST_COPY_BUTTON)
        for event in ("mousePressed", "mouseReleased"):
            browser.command("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)
        copied = until(lambda: browser.run("window.copied"))
        assert [line.split()[:2] for line in copied.splitlines()] == [
            ["bulk-upload", "init"],
            ["bulk-upload", "sample-data"],
        ]
        browser.command("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
        for page in PAGES:
            browser.open(f"{built_pages.as_uri()}/{page}.html")
            assert browser.run("document.documentElement.scrollWidth") <= 390, page
            assert browser.run(CUT) == [], page


def _assert_session(session: str, folder: Path, environment: dict[str, str]) -> None:
    """Run the commands of a session in one shell each; `export` holds for those after it."""
    for told in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        line, _, expected = told.partition("\n")
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            environment[name] = value.strip('"')
            continue
        exit_code, output = _run(line, folder, environment)
        code = re.search(r"\[exit code (\d)\]\n", expected)
        assert exit_code == (int(code[1]) if code else 0), f"$ {line}\n{output}"
        wanted = expected.replace(code[0], "") if code else expected
        assert re.fullmatch(_pattern(wanted), _tidy(output), re.DOTALL), f"$ {line}\n{output}"


def _run(line: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a line as a shell does: its exit code, and all that it says, a command of ours on standard error first."""
    first, *arguments = shlex.split(line)
    if first == "bulk-upload":
        ran = command(*(Template(each).safe_substitute(environment) for each in arguments), cwd=folder, **environment)
        return ran.returncode, ran.stderr + ran.stdout
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-c", line], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        env=os.environ | environment | {"PATH": path, "COLUMNS": "200"},
    )  # fmt: skip
    return ran.returncode, ran.stdout


def _pattern(expected: str) -> str:
    """`…` alone on a line: any lines; within a line: anything."""
    lines = (r"(.*\n)?" if line == "…" else re.escape(line).replace("…", "[^\n]*") + r"\n" for line in _lines(expected))
    return "".join(lines)


def _tidy(output: str) -> str:
    return "".join(f"{line}\n" for line in _lines(output))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _start_empty(site: Site, vtn: ReferenceVtn) -> None:
    shutil.rmtree(site.db.parent)
    site.db.parent.with_name(".env").unlink()


def _point_to(site: Site, vtn: ReferenceVtn) -> None:
    env = site.db.parent.with_name(".env")
    text = env.read_text().replace("http://127.0.0.1:8444", vtn.origin)
    env.write_text(
        text.replace("=bulk-upload-secret", f"={vtn.client_secret}").replace("=bulk-upload\n", f"={vtn.client_id}\n")
    )


def _standard_vtn(store: Path) -> StandardVtn:
    """A VTN with the clients of `bulk-upload vtn`."""
    secret = "bulk-upload-secret"
    return StandardVtn(
        store, client_id="bulk-upload", client_secret=secret, bl_client_id="business", bl_client_secret=secret,
        switches=False,
    )  # fmt: skip


def _point_to_standard(env: Path, vtn: StandardVtn) -> None:
    """Append the lines that the VTN prints, as the page says."""
    text = (DOCS / "other-vtns.md").read_text()
    lines = re.search(r"^VTN_SERVER_ADDRESS=http.*?(?=^```)", text, re.DOTALL | re.MULTILINE)
    assert lines
    with env.open("a") as appended:
        appended.write(lines[0].replace("http://127.0.0.1:8444", vtn.origin))


def _upload_everything(site: Site, vtn: ReferenceVtn) -> None:
    site.register(vtn)
    site.upload(vtn)
    with Ledger(str(site.ledger), vtn.base_url) as ledger:
        ledger.measured.store_run(33_000, 1.0)


def _append_a_day(site: Site, vtn: ReferenceVtn) -> None:
    """With the command on the page."""
    (line,) = re.findall(r"^```sh\n(PYTHON=.*?)^```", (DOCS / "nightly.md").read_text(), re.DOTALL | re.MULTILINE)
    exit_code, output = _run(line, site.db.parents[1], {})
    assert exit_code == 0, output


def _correct_a_value_in_march(site: Site, vtn: ReferenceVtn) -> Load:
    load = _alone(site)
    rows = site.rows(load)
    rows[rows[:, 0] == MARCH_S, 1] += 1
    site.write_rows(load, rows)
    return load


def _alter_a_point(site: Site, vtn: ReferenceVtn) -> None:
    vtn.alter_point(site.loads[0].vtn_resource_id, MARCH_S, 4711.0)


def _lose_a_meter(site: Site, vtn: ReferenceVtn) -> None:
    site.register(vtn)
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", site.loads[0].load_id)


def _find_the_meter(site: Site, vtn: ReferenceVtn) -> None:
    sibling = next(load for load in site.loads[1:] if load.resource_id == site.loads[0].resource_id)
    site.execute("UPDATE loads SET h5_meter_id = ? WHERE h5_meter_id = 'meter_404'", sibling.h5_meter_id)


def _refuse_a_point(site: Site, vtn: ReferenceVtn) -> Load:
    vtn.switch(refuses=["2025-03-01T00:00:00Z"])
    return _correct_a_value_in_march(site, vtn)


def _take_everything(site: Site, vtn: ReferenceVtn) -> None:
    vtn.switch()


def _alone(site: Site) -> Load:
    """A load that shares its series with no other."""
    series = [(load.h5_meter_id, load.load_component) for load in site.loads]
    return next(load for load in site.loads if series.count((load.h5_meter_id, load.load_component)) == 1)


DEEDS: dict[str, Callable[[Site, ReferenceVtn], Load | None]] = {
    "start in an empty folder": _start_empty,
    "start a VTN": _point_to,
    "upload everything": _upload_everything,
    "append a day": _append_a_day,
    "correct a value in March": _correct_a_value_in_march,
    "alter a point in the VTN": _alter_a_point,
    "lose a meter": _lose_a_meter,
    "find the meter": _find_the_meter,
    "let the VTN refuse a point": _refuse_a_point,
    "let the VTN take everything": _take_everything,
}
