"""Promises about files and folders that this user may not use, and full disks: a sentence, and no traceback."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import ROOT, last_json, run_environment, start
from tests.reference_vtn import ReferenceVtn
from tests.sites import Site
from venclient.errors import ConfigurationError
from venclient.private_files import write_private
from venclient.reports.verification_report import VerificationReport
from venclient.sync.verification import LoadVerdict

# Root without the rights by which permissions do not count for it.
RIGHTS = "-dac_override,-dac_read_search"
AS_OTHERS = ("setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}") if os.geteuid() == 0 else ()


def _command(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end as a user for whom permissions count."""
    with start(
        *arguments, cwd=cwd, prefix=AS_OTHERS, stderr=subprocess.PIPE, group=False, python=sys.executable, **environment
    ) as started:
        output, errors = started.communicate(timeout=120)
    return subprocess.CompletedProcess(started.args, started.returncode, output, errors)


@pytest.mark.parametrize("name", ["status", "run", "doctor", "up", "worker", "sample-data", "demo"])
def test_an_env_file_of_another_user_stops_every_command_with_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").touch(mode=0)
    finished = _command(name, cwd=tmp_path)
    assert finished.returncode == 2, finished.stderr
    assert finished.stderr == (
        f"bulk-upload: {tmp_path / '.env'} cannot be read: Permission denied. Make it readable for the user who runs "
        "this (chown)\n"
    )


def test_a_profile_in_a_folder_of_another_user_is_named(tmp_path: Path) -> None:
    profile = tmp_path / "locked" / ".env.test"
    profile.parent.mkdir(mode=0)
    finished = _command("status", cwd=tmp_path, BULK_UPLOAD_PROFILE=str(profile))
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1), finished.stderr
    assert f"{profile} cannot be read: Permission denied" in finished.stderr


@pytest.mark.parametrize("home", ["file", "file/prefect", "read-only", "read-only/prefect"])
def test_a_prefect_home_that_cannot_be_made_or_written_is_named(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "read-only").mkdir(mode=0o555)
    finished = _command("up", cwd=tmp_path, PREFECT_HOME=str(tmp_path / home))
    assert (finished.returncode, "Traceback" in finished.stderr) == (2, False), finished.stderr
    last_line = finished.stderr.splitlines()[-1]
    assert "UserWarning" not in finished.stderr
    assert last_line.startswith(f"bulk-upload: The Prefect server cannot write to {tmp_path / home}: ")
    assert last_line.endswith("Name another folder in PREFECT_HOME")


def test_doctor_names_a_folder_of_another_user(new_site: Callable[..., Site], tmp_path: Path) -> None:
    site = new_site(loads=1)
    reports = tmp_path / "locked" / "reports"
    reports.parent.mkdir(mode=0)
    settings = {"BULK_UPLOAD_REPORT_DIR": str(reports), "BULK_UPLOAD_LEDGER_URL": str(site.ledger)}
    finished = _command("doctor", "--json", cwd=tmp_path, **settings)
    assert finished.returncode == 1, finished.stderr
    of_disk = [finding for finding in last_json(finished)["findings"] if finding["part"] == "disk"]
    assert [finding["state"] for finding in of_disk] == ["ok", "error"]
    assert f"{reports} for reports cannot be looked into: Permission denied" in of_disk[1]["message"]


def test_doctor_names_folders_in_which_this_user_may_not_write(tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    settings = {"BULK_UPLOAD_REPORT_DIR": str(folder / "reports"), "BULK_UPLOAD_LEDGER_URL": str(folder / "ledger.db")}
    finished = _command("doctor", "--json", cwd=tmp_path, **settings)
    assert finished.returncode == 1, finished.stderr
    of_disk = [finding for finding in last_json(finished)["findings"] if finding["part"] == "disk"]
    assert [(finding["state"], finding["message"]) for finding in of_disk] == [
        ("error", f"{folder} for the ledger cannot be written to"),
        ("error", f"{folder} for reports cannot be written to"),
    ]


@contextmanager
def _disk_is_full_after(most_bytes: int) -> Iterator[None]:
    """Within, no file of this process can become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("verdicts", "most_bytes"),
    [pytest.param(500, 4_096, id="add"), pytest.param(1, 100, id="finish"), pytest.param(1, 4_096, id="page")],
)
def test_a_verification_on_a_full_disk_says_so_and_leaves_nothing(
    tmp_path: Path, verdicts: int, most_bytes: int
) -> None:
    folder, meter_file = tmp_path / "reports", tmp_path / "load_data.h5"
    meter_file.write_bytes(b"any")

    def verify() -> None:
        with VerificationReport(folder, vtn_base_url="http://vtn", meter_file=meter_file, scope="all") as report:
            for number in range(verdicts):
                report.add(LoadVerdict(f"load-{number}", "Aalborg", "House", f"vtn-{number}", "equal"))
            report.finish()

    with _disk_is_full_after(most_bytes), pytest.raises(ConfigurationError) as raised:
        verify()
    assert str(raised.value).startswith(f"The report cannot be written to {folder}: ")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("size", [5_000, 5_000_000])
def test_of_a_page_that_a_full_disk_does_not_take_nothing_is_left(tmp_path: Path, size: int) -> None:
    with _disk_is_full_after(4_096), pytest.raises(OSError, match="File too large"):
        write_private(tmp_path / "run.html", bytes(size))
    assert list(tmp_path.iterdir()) == []


def test_without_room_for_a_temporary_file_the_meter_file_is_not_blamed(new_site: Callable[..., Site]) -> None:
    site = new_site(loads=1, points=10)
    options = ("--db", site.db, "--h5", site.h5, "--ledger", site.ledger, "--vtn-url", "http://127.0.0.1:9/openadr3")
    with start("plan", *options, cwd=site.db.parent, prefix=("prlimit", "--fsize=0")) as started:
        _, errors = started.communicate(timeout=120)
    assert started.returncode == 2
    assert "The process that reads the meter file needs a temporary file" in errors


def _registered(new_site: Callable[..., Site], vtn: ReferenceVtn) -> Site:
    """A site whose folder has the settings for this VTN, too."""
    site = new_site(loads=2)
    site.register(vtn)
    lines = [f"{name}={value}\n" for name, value in run_environment(site, vtn).items()]
    (site.db.parent / ".env").write_text("".join(lines))
    return site


@pytest.mark.parametrize("streams", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_that_is_started_without_standard_streams_does_its_work(
    new_site: Callable[..., Site], vtn: ReferenceVtn, streams: str
) -> None:
    """As some programs start others: what is opened instead must not get the number of a stream."""
    site = _registered(new_site, vtn)
    site.upload(vtn)
    prefix = ("sh", "-c", f'"$@" {streams}', "sh")
    for name in ("status", "plan", "verify"):
        with start(name, cwd=site.db.parent, prefix=prefix) as started:
            _, errors = started.communicate(timeout=120)
        assert (started.returncode, errors if "Traceback" in errors else "") == (0, "")


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["runs"], ["plan"], ["--help"]], ids=str)
def test_output_that_a_full_disk_does_not_take_is_an_error_of_one_sentence(
    new_site: Callable[..., Site], vtn: ReferenceVtn, arguments: list[str]
) -> None:
    site = _registered(new_site, vtn)
    prefix = ("sh", "-c", '"$@" > /dev/full', "sh")
    with start(*arguments, cwd=site.db.parent, prefix=prefix) as started:
        _, errors = started.communicate(timeout=120)
    assert started.returncode == 1
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "bulk-upload: Standard output cannot be written: No space left on device"


def test_an_unexpected_error_that_is_none_of_the_output_writes_nothing_to_it() -> None:
    """The exceptions of requests, too, are of the class that a failed write raises."""
    fails = "import cli, requests\n@cli.app.command()\ndef fail(): raise requests.ConnectionError('no')\ncli.main()"
    finished = subprocess.run(
        [sys.executable, "-c", fails, "fail"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "ConnectionError: no" in finished.stderr


def test_a_log_on_a_full_disk_does_not_stop_an_upload(new_site: Callable[..., Site], vtn: ReferenceVtn) -> None:
    site = _registered(new_site, vtn)
    prefix = ("sh", "-c", '"$@" > /dev/full 2>&1', "sh")
    with start("run", cwd=site.db.parent, prefix=prefix) as started:
        assert started.wait(timeout=120) == 1
    site.assert_stored(vtn)
