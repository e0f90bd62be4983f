"""Many checks in few lines: failures by their cause, findings by their kind, and the rest."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from venclient.reports.check import KINDS, Finding, LoadCheck
from venclient.untrusted_text import visible

# What differs between two messages of one cause: names, which stand in quotes, and numbers.
_NAMES_AND_NUMBERS = re.compile(r"'[^']*'|\d[\d,.]*")


@dataclass(frozen=True, slots=True)
class Failures:
    """Loads that would not upload for the same cause: messages that differ in nothing but names and numbers."""

    error: str
    checks: tuple[LoadCheck, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """Loads that have a finding of this kind, each with it."""

    kind: str
    of_loads: tuple[tuple[LoadCheck, Finding], ...]


def failures_by_cause(checks: Iterable[LoadCheck]) -> list[Failures]:
    """All loads that would not upload, the most frequent cause first; `error` is that of the first load."""
    groups: dict[str, list[LoadCheck]] = {}
    for check in checks:
        if check.error:
            groups.setdefault(_cause(check, check.error), []).append(check)
    most_first = sorted(groups.values(), key=len, reverse=True)
    return [Failures(group[0].error or "", tuple(group)) for group in most_first]


def findings_by_kind(checks: Iterable[LoadCheck]) -> list[Findings]:
    """All findings of loads that can be uploaded, in the order of `KINDS`."""
    groups: dict[str, list[tuple[LoadCheck, Finding]]] = {}
    for check in checks:
        for finding in check.found:
            groups.setdefault(finding.kind, []).append((check, finding))
    return [Findings(kind, tuple(groups[kind])) for kind in KINDS if kind in groups]


def _cause(check: LoadCheck, error: str) -> str:
    for name in filter(None, (check.load_id, check.h5_meter_id, check.load_component)):
        error = error.replace(f"'{visible(name)}'", "")  # a name may have quotes in it
    return _NAMES_AND_NUMBERS.sub("", error)
