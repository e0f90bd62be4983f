"""Promises of `bulk-upload init`: a folder in which every other command finds its place, and nothing that is lost."""

import stat
from pathlib import Path

from config.settings import Settings, environment_name
from tests.commands import command


def test_it_makes_a_folder_in_which_other_commands_know_what_is_missing(tmp_path: Path) -> None:
    made = command("init", "uploads", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    folder = tmp_path / "uploads"
    env = folder / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert (
        "uploads/config/resources.db and uploads/config/examplemeterdata/load_data.h5, or name them in" in made.stdout
    )
    assert (folder / "config" / "examplemeterdata").is_dir()
    assert not [field for field in Settings.model_fields if environment_name(field) not in env.read_text()]
    checked = command("check", cwd=folder)
    assert checked.returncode == 2
    assert "config/resources.db" in checked.stderr


def test_a_profile_is_a_file_of_its_own_and_an_unknown_one_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    made = command("init", "--profile", "test-vtn", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert "`bulk-upload doctor --profile test-vtn`" in made.stdout
    assert stat.S_IMODE((tmp_path / ".env.test-vtn").stat().st_mode) == 0o600
    assert not (tmp_path / ".env").exists()
    known = command("status", "--profile", "test-vtn", cwd=tmp_path)
    assert "config/resources.db not found" in known.stderr
    for arguments in (("--profile", "prod", "status"), ("status", "--profile", "prod")):
        unknown = command(*arguments, cwd=tmp_path)
        assert unknown.returncode == 2
        assert f"There is no profile 'prod' in {tmp_path}: it has test-vtn. " in unknown.stderr
        assert "`bulk-upload init --profile prod` makes one" in unknown.stderr
    outside = command("init", "--profile", "../elsewhere", cwd=tmp_path)
    assert (outside.returncode, outside.stdout) == (2, "")


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("VTN_SERVER_ADDRESS=http://127.0.0.1:9/mine\n")
    again = command("init", cwd=tmp_path)
    assert again.returncode == 0
    assert ".env is there already, and stays as it is" in again.stdout
    assert (tmp_path / ".env").read_text() == "VTN_SERVER_ADDRESS=http://127.0.0.1:9/mine\n"


def test_a_place_where_nothing_can_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    refused = command("init", "taken", cwd=tmp_path)
    assert refused.returncode == 2
    assert "cannot be made: " in refused.stderr
    assert "Traceback" not in refused.stderr
