"""Promises of the README: its commands and its settings are those that there are."""

import re
from pathlib import Path

import pytest

from config.settings import Settings, environment_name
from tests.commands import command

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text() + (ROOT / "deployments" / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"^ *\$ (?:\.venv/bin/)?bulk-upload ([^#\n]*?)\s*(?:#.*)?$", TEXT, re.MULTILINE)))
TARGETS = sorted(set(re.findall(r"^ *\$ make (\w+)", TEXT, re.MULTILINE)))


def test_the_settings_table_has_every_setting_with_its_default() -> None:
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if field.default not in (None, "") else ""
        assert f"| `{environment_name(name)}` | {default} | {field.description} |" in TEXT


@pytest.mark.parametrize("arguments", COMMANDS)
def test_each_command_and_its_options_are_there(arguments: str, tmp_path: Path) -> None:
    name, *rest = arguments.split()
    told = command(name, "--help", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    for option in (word for word in rest if word.startswith("--")):
        assert option in told.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_each_make_target_is_there(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text()))
def test_each_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
