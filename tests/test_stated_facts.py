"""Promises of the pages: lists of names that stand in the text are those that the code has."""

import inspect
import re
from typing import Any, Protocol, get_args

import pytest

from config.parameters import RunSettings
from tests.reference_vtn import ROOT
from venclient.reports.check import KINDS
from venclient.reports.verification_report import DESCRIPTIONS
from venclient.resources.capacities import WATTS_PER_UNIT
from venclient.resources.tables import FAULT, LOADS, RESOURCES
from venclient.sources import Source
from venclient.sync.planning import Reason
from venclient.sync.resend import ResendReason
from venclient.sync.verification import Cause
from venclient.wires import Wire

DOCS = ROOT / "docs"
# Where the page of the architecture leaves out the beginning of a path.
FOLDERS = ("", "venclient", "venclient/wires")
FOUND = {
    "implausible": "implausible values", "ends": "ends early", "begins": "begins late", "step": "changed step",
    "gaps": "gaps", "duplicate": "duplicate timestamps", "unsorted": "unsorted rows", "NaN": "NaN",
    "infinite": "infinite", "bad": "bad timestamps", "above": "above capacity", "all": "all zero",
    "negative": "negative",
}  # fmt: skip


def _members(protocol: type) -> dict[str, list[str]]:
    """The parameters of each method; attributes have none."""
    found = {name: each for name, each in vars(protocol).items() if not name.startswith("_")}
    attributes = {name for name, each in found.items() if isinstance(each, property)} | {*protocol.__annotations__}
    methods = {name: [*inspect.signature(each).parameters] for name, each in found.items() if name not in attributes}
    return methods | {name: list[str]() for name in attributes}


def _page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def _names_in(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def _row(page: str, first: str) -> list[str]:
    """The other cells of the row of a table that begins with this name."""
    (row,) = re.findall(rf"^\| `{first}`[^|]*\| (.+) \|$", page, re.MULTILINE)
    return str(row).split(" | ")


def _first_cells(section: str) -> set[str]:
    return _names_in(" ".join(re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)))


def test_each_path_that_the_page_of_the_architecture_names_is_there() -> None:
    text = re.sub(r"```.*?```", "", _page("architecture"), flags=re.DOTALL)
    paths = [name for name in _names_in(text) if re.fullmatch(r"[\w.-]+/[\w./-]*", name)]
    assert len(paths) > 30
    assert not [path for path in paths if not any((ROOT / folder / path).exists() for folder in FOLDERS)]


@pytest.mark.parametrize("protocol", [Source, Wire], ids=lambda protocol: protocol.__name__)
def test_a_protocol_on_the_page_of_the_architecture_has_the_members_that_it_has(protocol: type) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", _page("architecture"), re.DOTALL)
    shown: dict[str, Any] = {"Protocol": Protocol}
    exec(f"from __future__ import annotations\n{program}", shown)
    assert _members(shown[protocol.__name__]) == _members(protocol)


def test_the_settings_of_a_slice_on_the_page_for_production_are_those_that_it_takes() -> None:
    assert _names_in(_row(_page("production"), "settings")[0]) == set(RunSettings.model_fields)


def test_columns_on_the_page_of_interfaces_are_those_that_are_read() -> None:
    for table in (RESOURCES, LOADS):
        named = _names_in(re.sub(r"\(.*?\)", "", _row(_page("interfaces"), table.name)[0]))
        assert named == {column.name for column in table.c} - {FAULT}


def test_each_reason_why_something_is_sent_is_on_the_page_of_corrected_data() -> None:
    assert _first_cells(_page("corrected-data")) >= {*get_args(Reason), *get_args(ResendReason)}


def test_each_cause_why_a_load_is_not_equal_is_on_the_page_of_verification() -> None:
    assert _first_cells(_page("verification")) == {*get_args(Cause), *DESCRIPTIONS}


def test_units_of_a_capacity_are_on_the_page_of_quality_codes() -> None:
    assert _names_in(_page("quality-codes")) >= {f"_{unit}" for unit in WATTS_PER_UNIT}


def test_each_kind_of_finding_is_on_the_page_of_failures() -> None:
    (section,) = re.findall(r"^## What check finds\n(.*?)^## ", _page("failures"), re.MULTILINE | re.DOTALL)
    words = {re.sub(r"^[\d,]+ ", "", name).split()[0].rstrip(":") for name in _first_cells(section)}
    assert {FOUND[word.removesuffix("s") if word == "gap" else word] for word in words} == set(KINDS)
