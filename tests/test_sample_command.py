"""The command that writes a sample: what it tells, and what it leaves alone."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import cli
from venclient.resources.database import ResourceDatabase


def _exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    monkeypatch.setattr(sys, "argv", ["bulk-upload", "sample-data", *map(str, arguments)])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return exited.value.code


def test_command_tells_what_it_wrote_and_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, "--points", 24) == 0
    told = capsys.readouterr()
    assert "config/resources.db" in told.out
    assert "3 VENs, 34 resources, 138 loads" in told.out
    assert "12 meters, 50 series of 24 points" in told.out
    assert told.out.endswith("Next: `bulk-upload register`, then `bulk-upload run`\n")
    assert told.out.count("\n") == 1
    assert told.err == ""
    assert (tmp_path / "config" / "examplemeterdata" / "load_data.h5").is_file()


def test_command_names_the_files_again_where_they_are_not_the_usual_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, "--points", 24, "--db", "a b/r.db", "--h5", "l.h5") == 0
    assert "`bulk-upload register --db 'a b/r.db'`, then `bulk-upload run --db 'a b/r.db' --h5 l.h5`" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("existing", ["resources.db", "load_data.h5"])
def test_existing_files_are_not_overwritten(
    existing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(existing).write_text("mine")
    assert _exit_code(monkeypatch, "--points", 24, "--db", "resources.db", "--h5", "load_data.h5") == 2
    assert capsys.readouterr().err == (
        f"bulk-upload: {existing} exists already: overwrite with --force, or write elsewhere with --db and --h5\n"
    )
    assert Path(existing).read_text() == "mine"
    assert [path.name for path in Path().iterdir()] == [existing]


def test_force_overwrites_and_leaves_nothing_of_the_old_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [tmp_path / name for name in ("resources.db", "resources.db-wal", "resources.db-shm", "load_data.h5")]
    for path in old:
        path.write_text("old")
    arguments = ("--points", 24, "--db", old[0], "--h5", old[-1], "--force")
    assert _exit_code(monkeypatch, *arguments) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["load_data.h5", "resources.db"]
    assert len(ResourceDatabase(str(old[0])).unregistered()) == 138


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--vens", 0], "--vens 0: give 1 or more"),
        (["--loads-per-ven", 0], "--loads-per-ven 0: give 1 or more"),
        (["--meters", 0], "--meters 0: give 1 to 9,999,999"),
        (["--points", -5], "--points -5: give 1 to 1,000,000"),
        (["--seed", -1], "--seed -1: give 0 or more"),
        (["--vens", 0, "--points", 0], "--vens 0: give 1 or more; --points 0: give 1 to 1,000,000"),
        (["--db", "one", "--h5", "./one"], "--db and --h5 both name one: give two files"),
        (["--meters", "many"], "--meters"),
        (["--db", "/proc/none/r.db"], "cannot be written"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_bad_options_are_told_and_nothing_is_written(
    arguments: Sequence[object],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _exit_code(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []
