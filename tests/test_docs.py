"""Promises of the pages: they build without a warning, and every console session in them runs as it stands there."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.reference_vtn import ROOT, ReferenceVtn
from tests.sites import Site
from venclient.ledger.ledger import Ledger
from venclient.loads import Load

DOCS = ROOT / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))
# A page's console sessions, and what the tests do between them.
STEPS = re.compile(r"^```console\n(?P<session>.*?)^```$|^% do: (?P<deed>.*?)$", re.DOTALL | re.MULTILINE)
MARCH_S = 1_740_787_200  # 2025-03-01T00:00Z


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of an operator, where they are looked for."""
    folder = tmp_path_factory.mktemp("sample")
    sizes = ["--vens", "3", "--loads-per-ven", "8", "--meters", "3", "--points", "1500"]
    subprocess.run([sys.executable, "-m", "cli", "sample-data", *sizes], cwd=folder, check=True, capture_output=True)
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


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page == "first-upload" else pytest.mark.long)
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
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PREFECT_API_URL": prefect_url,
        "COLUMNS": "200",
    }
    for step in STEPS.finditer((DOCS / f"{page}.md").read_text()):
        if step["deed"]:
            load = DEEDS[step["deed"]](site, vtn) or site.loads[0]
            environment["LOAD"] = load.load_id
        else:
            _assert_session(step["session"], folder, environment)


def test_the_program_of_the_page_for_python_runs(
    operator: tuple[Path, ReferenceVtn], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, vtn = operator
    monkeypatch.chdir(folder)
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL)
    exec(program.replace("http://127.0.0.1:8444/openadr3", vtn.base_url).replace("your-token", vtn.token), {})
    assert capsys.readouterr().out == "8 of 8 loads, 12,000 points\n"


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path / "html"],
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert not [page for page in PAGES if not (tmp_path / "html" / f"{page}.html").is_file()]


def _assert_session(session: str, folder: Path, environment: dict[str, str]) -> None:
    """Run the commands of a session in one shell each; `export` holds for those after it."""
    for told in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        line, _, expected = told.partition("\n")
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            environment[name] = value.strip('"')
            continue
        ran = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        code = re.search(r"\[exit code (\d)\]\n", expected)
        assert ran.returncode == (int(code[1]) if code else 0), f"$ {line}\n{ran.stdout}"
        wanted = expected.replace(code[0], "") if code else expected
        assert re.fullmatch(_pattern(wanted), _tidy(ran.stdout), re.DOTALL), f"$ {line}\n{ran.stdout}"


def _pattern(expected: str) -> str:
    """`…` alone on a line: any lines; within a line: anything."""
    lines = (r"(.*\n)?" if line == "…" else re.escape(line).replace("…", "[^\n]*") + r"\n" for line in _lines(expected))
    return "".join(lines)


def _tidy(output: str) -> str:
    return "".join(f"{line}\n" for line in _lines(output))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _upload_everything(site: Site, vtn: ReferenceVtn) -> None:
    site.register(vtn)
    site.upload(vtn)
    with Ledger(str(site.ledger), vtn.base_url) as ledger:
        ledger.measured.store_run(33_000, 1.0)


def _append_a_day(site: Site, vtn: ReferenceVtn) -> None:
    for load in {(load.h5_meter_id, load.load_component): load for load in site.loads}.values():
        site.append(load, 24)


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
    "upload everything": _upload_everything,
    "append a day": _append_a_day,
    "correct a value in March": _correct_a_value_in_march,
    "alter a point in the VTN": _alter_a_point,
    "lose a meter": _lose_a_meter,
    "find the meter": _find_the_meter,
    "let the VTN refuse a point": _refuse_a_point,
    "let the VTN take everything": _take_everything,
}
