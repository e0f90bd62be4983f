"""Summarize checks: failures grouped by cause, findings grouped by kind."""

from collections.abc import Iterable
from dataclasses import dataclass

from venclient.causes import by_cause, cause_of
from venclient.reports.check import KINDS, Finding, LoadCheck


@dataclass(frozen=True, slots=True)
class Failures:
    """Loads that would not upload for the same cause: their messages differ only in names and numbers."""

    error: str
    checks: tuple[LoadCheck, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """All loads with a finding of this kind, each with the finding."""

    kind: str
    of_loads: tuple[tuple[LoadCheck, Finding], ...]


def failures_by_cause(checks: Iterable[LoadCheck]) -> list[Failures]:
    """Group the loads that would not upload, most frequent cause first; `error` is the first load's."""
    groups = by_cause(
        (check for check in checks if check.error),
        lambda check: cause_of(check.error or "", check.load_id, check.h5_meter_id, check.load_component),
    )
    return [Failures(group[0].error or "", tuple(group)) for group in groups]


def findings_by_kind(checks: Iterable[LoadCheck]) -> list[Findings]:
    """Group the findings of loads that would upload, in the order of `KINDS`."""
    groups: dict[str, list[tuple[LoadCheck, Finding]]] = {}
    for check in checks:
        for finding in check.found:
            groups.setdefault(finding.kind, []).append((check, finding))
    return [Findings(kind, tuple(groups[kind])) for kind in KINDS if kind in groups]
