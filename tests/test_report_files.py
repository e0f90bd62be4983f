"""Promises about the files that commands write: none takes another's place, none goes through a link."""

import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from threading import Barrier

import pytest

from demo.sample_data import write_sample
from tests.commands import command, run_options
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from venclient.errors import ConfigurationError
from venclient.reports.verification_report import VerificationReport
from venclient.sync.verification import LoadVerdict


def test_verifications_of_the_same_second_write_a_report_each(tmp_path: Path) -> None:
    """Many more than seconds pass: those that begin together share one, and each leaves its own record and page."""
    folder, meter_file = tmp_path / "reports", tmp_path / "load_data.h5"
    meter_file.write_bytes(b"any")
    together = Barrier(8)

    def verify(number: int) -> tuple[int, str]:
        together.wait()
        with VerificationReport(folder, vtn_base_url="http://vtn", meter_file=meter_file, scope=f"{number}") as report:
            report.add(LoadVerdict(f"load-{number}", "Aalborg", "House", f"vtn-{number}", "equal"))
            return number, report.finish().record

    with ThreadPoolExecutor(8) as pool:
        records = dict(pool.map(verify, range(8)))
    assert len(set(records.values())) == 8
    for number, record in records.items():
        (load,) = json.loads(Path(record).read_text())["loads"]
        assert load["load_id"] == f"load-{number}"
        assert f"{Path(record).name}" in Path(record).with_suffix(".html").read_text()
    assert len(list(folder.iterdir())) == 16, "nothing else is left behind"


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"another"), os.utime])
def test_no_report_names_a_file_that_its_verdicts_are_not_about(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    folder, meter_file = tmp_path / "reports", tmp_path / "load_data.h5"
    meter_file.write_bytes(b"any")
    verdict = LoadVerdict("load", "Aalborg", "House", "vtn", "equal")
    with VerificationReport(folder, vtn_base_url="http://vtn", meter_file=meter_file, scope="all") as report:
        report.add(verdict)
        change(meter_file)
        with pytest.raises(ConfigurationError, match=r"was changed during the verification.* Verify again"):
            report.add(verdict)
    assert not list(folder.iterdir())


def test_a_report_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder, meter_file = tmp_path / "reports", tmp_path / "load_data.h5"
    meter_file.write_bytes(b"any")
    with VerificationReport(folder, vtn_base_url="http://vtn", meter_file=meter_file, scope="all") as report:
        report.add(LoadVerdict("load", "Aalborg", "House", "vtn", "equal"))
        report.finish()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600, 0o600]


def test_no_report_goes_through_a_link(tmp_path: Path) -> None:
    """Whoever guesses the names of the next seconds finds that they are passed over."""
    folder, meter_file, precious = tmp_path / "reports", tmp_path / "load_data.h5", tmp_path / "precious"
    meter_file.write_bytes(b"any")
    precious.write_text("mine")
    folder.mkdir()
    now = datetime.now(UTC)
    for second in range(60):
        stem = f"verification-{now + timedelta(seconds=second):%Y%m%dT%H%M%SZ}"
        suffix = (".part", ".json", ".html")[second % 3]
        (folder / f"{stem}{suffix}").symlink_to(precious)
    with VerificationReport(folder, vtn_base_url="http://vtn", meter_file=meter_file, scope="all") as report:
        report.add(LoadVerdict("load", "Aalborg", "House", "vtn", "equal"))
        told = report.finish()
    assert precious.read_text() == "mine"
    assert not Path(told.record).is_symlink()
    assert not Path(told.page).is_symlink()


def test_the_page_of_a_check_takes_the_place_of_a_link(new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site(loads=1)
    folder, precious = tmp_path / "pictures", tmp_path / "precious"
    folder.mkdir()
    precious.write_text("mine")
    (folder / "coverage.html").symlink_to(precious)
    checked = command("check", "--db", site.db, "--h5", site.h5, "--plot", folder, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert precious.read_text() == "mine"
    assert "<html" in (folder / "coverage.html").read_text()
    assert stat.S_IMODE((folder / "coverage.html").stat().st_mode) == 0o600


def test_no_output_of_a_run_takes_the_place_of_data(vtn: ReferenceVtn, new_site: Callable[..., Site]) -> None:
    site = new_site(loads=1)
    site.register(vtn)
    site.upload(vtn)
    pipe = site.db.parent / "pipe"
    os.mkfifo(pipe)
    site.append(site.loads[0], 10)
    for option, data in product(("--report", "--log-file"), (site.db, site.h5, site.ledger)):
        before = data.read_bytes()
        refused = command("run", *run_options(site, vtn), option, data, cwd=site.db.parent)
        assert (refused.returncode, data.read_bytes() == before) == (2, True), (option, data, refused.stderr)
        assert f"{data} cannot be written: it is no" in refused.stderr
    refused = command("run", *run_options(site, vtn), "--report", pipe, cwd=site.db.parent)
    assert (refused.returncode, pipe.is_fifo()) == (2, True)


def test_sample_data_is_not_written_through_a_link(tmp_path: Path) -> None:
    """Not through one that somebody puts there while it is made, either."""
    db, h5, precious = tmp_path / "resources.db", tmp_path / "load_data.h5", tmp_path / "precious"
    precious.write_text("mine")

    def put_links(_done: int, _total: int) -> None:
        for path in (db, h5):
            for link in (path, path.with_name(f"{path.name}.part")):
                link.unlink(missing_ok=True)
                link.symlink_to(precious)

    write_sample(db, h5, vens=1, loads_per_ven=1, meters=1, points=10, seed=1, on_meter=put_links)
    assert precious.read_text() == "mine"
    assert not db.is_symlink()
    assert not h5.is_symlink()
    made = {path.name for path in tmp_path.iterdir() if not path.is_symlink()}
    assert made == {"load_data.h5", "precious", "resources.db"}
