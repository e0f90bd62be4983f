"""Promises of the reference pages: each command, option, setting, exit code and JSON field is there."""

import inspect
import json
import re
import runpy
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import typer

from cli import COMMANDS, app
from config.settings import Settings, environment_name
from flows.outcome import Summary
from tests.commands import command
from tests.reference_vtn import ROOT, ReferenceVtn
from tests.sites import Site
from venclient.reports.runs import PastRun

DOCS = ROOT / "docs"
REFERENCE = runpy.run_path(str(DOCS / "reference.py"))  # the extension of the pages' build
BY_NAME = {"loads_by_reason", "points_by_reason", "resend_reasons", "causes"}  # objects whose keys are data


def test_each_command_and_each_of_its_options_is_on_the_page_of_commands() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    _, *sections = re.split(r"^## `(.*)`$", REFERENCE["commands"](), flags=re.MULTILINE)
    described = dict(zip(sections[::2], sections[1::2], strict=True))
    assert list(described) == list(COMMANDS)
    for name, text in described.items():
        found = group.get_command(typer.Context(group), name)
        assert found
        shown = [each for each in found.params if not getattr(each, "hidden", False)]
        rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", text, re.MULTILINE)
        assert len(rows) == len(shown) + 1  # --help
        for option in (option for each in shown for option in each.opts):
            assert any(option in names.replace(",", "").split() for names, _ in rows), f"{name} {option}"
        assert all(help_text.strip() for _, help_text in rows)


def test_each_setting_is_on_the_page_of_settings_with_its_default() -> None:
    rows = REFERENCE["settings"]().splitlines()
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if field.default not in (None, "") else ""
        assert f"| `{environment_name(name)}` | {default} | {field.description} |" in rows


def test_each_exit_code_that_a_command_has_in_its_help_is_on_the_page_of_exit_codes() -> None:
    page = (DOCS / "exit-codes.md").read_text()
    codes = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    for name, function in COMMANDS.items():
        assert re.search(rf"^\| (`[a-z-]+`, )*`{name}`", page, re.MULTILINE), name
        text = inspect.cleandoc(function.__doc__ or "")
        assert set(re.findall(r"(?:exit code|,) (\d+)\s+wh", text, re.IGNORECASE)) <= set(codes), name


def test_each_field_of_the_json_of_each_command_is_on_the_page_of_json(
    new_site: Callable[..., Site], vtn: ReferenceVtn
) -> None:
    site = new_site(loads=3, points=100)
    site.register(vtn)
    site.upload(vtn)
    first, second, _ = site.loads
    rows = site.rows(first)
    rows[0, 1] += 1
    site.write_rows(first, [*rows[:50], *rows[60:]])  # a value that differs, and a gap
    site.execute("UPDATE loads SET h5_meter_id = 'meter_404' WHERE load_id = ?", second.load_id)
    of_ledger = ["--ledger", site.ledger, "--vtn-url", vtn.base_url]
    of_vtn = [*of_ledger, "--db", site.db, "--h5", site.h5, "--token", vtn.token]
    for name, options in {
        "status": [*of_ledger, "--db", site.db],
        "status --load …": [*of_ledger, "--db", site.db, "--load", first.load_id],
        "runs": of_ledger,
        "plan": of_vtn[:-2],
        "check": ["--db", site.db, "--h5", site.h5],
        "verify": of_vtn,
        "doctor": of_vtn,
        "register": ["--vtn-url", vtn.base_url, "--db", site.db, "--token", vtn.token],
    }.items():
        ran = command(name.split()[0], "--json", *options, cwd=site.db.parent)
        documented = _documented(f"{name} --json")
        assert set(_paths(json.loads(ran.stdout.splitlines()[-1]))) <= documented, name
    not_in_json = {each.name for each in fields(Summary)} - _documented("run --json")
    assert not_in_json == {"failures", "unregistered", "points_waiting"}
    assert {f"runs[].{each.name}" for each in fields(PastRun)} == _documented("runs --json")


def _documented(heading: str) -> set[str]:
    """The fields below a heading of the page."""
    (section,) = re.findall(
        rf"^## `{re.escape(heading)}`\n(.*?)(?=^## |\Z)", (DOCS / "json.md").read_text(), re.M | re.S
    )
    rows = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
    return {field for row in rows for field in re.findall(r"`(.+?)`", row)}


def _paths(value: Any, path: str = "") -> Iterator[str]:
    """The path of each field, such as `loads[].refused[].value`; of a list of values its own, of an empty one none."""
    if isinstance(value, dict) and path.rpartition(".")[2] not in BY_NAME:
        for name, below in value.items():
            yield from _paths(below, f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for each in value:
            yield from _paths(each, f"{path}[]") if isinstance(each, dict) else [path]
    else:
        yield path
