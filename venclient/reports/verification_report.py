"""The report of a verification: a record of every load and month (JSON), and a summary page (HTML)."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Literal, Self

import orjson

from venclient.advice import advice
from venclient.errors import ConfigurationError
from venclient.loads import counted
from venclient.private_files import create_private, make_private_folder, numbered, replace_private
from venclient.reports.pages import page
from venclient.sync.verification import Cause, LoadVerdict, nothing_is_known

MAX_LOADS_LISTED = 200
REPAIRED = "repaired"
# What is wrong with a load, and what to do about it; in the order in which a summary lists them.
DESCRIPTIONS: dict[Cause | Literal["repaired"], str] = {
    "repaired": "the VTN has other points than the file",
    "differs": "the VTN has other points than the file",
    "busy": "not repaired, because a run is sending for the VEN",
    "not sent": "not sent to the end",
    "refused": "the VTN refused points",
    "extra": "the VTN has points that the file does not have; no upload takes them away, remove them in the VTN",
    "same id": "another load with another series or resource has the same vtn_resource_id; no run sends them: correct "
    "the loads table",
    "row": "the row in the database is of no use; no run sends it: correct it, as the report says",
    "file": "the meter file does not give the series; no run can send it: correct the file or the loads row, as the "
    "report says",
    "client": "the VEN has no client that gets a token, so that the VTN was not asked; correct its row in the file of "
    "clients, as the report says",
    "unknown": "the VTN does not know the resource (404); no run mends that: empty vtn_resource_id in the loads row",
    "forbidden": "the VTN does not let this client read them (403); ask whoever runs it",
    "answer": "the VTN's answer tells nothing of the points, so that it is not known whether they are there; see the "
    "report, and ask whoever runs it",
    "no answer": "the VTN did not answer; verify again when it does",
}
JSON_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS


@dataclass(frozen=True, slots=True)
class VerificationSummary:
    """The result of a verification in numbers, and where its report is.

    `causes`: the number of loads by `Cause`, of which a load may have several; repaired loads have `repaired` instead
    of `differs`. `points_besides`: points that only the VTN has. `not_equal`: the first 200 loads that are not equal;
    `not_told`: how many more there are. `record`, `page`: paths.
    """

    passed: bool
    loads: int
    equal: int
    differing: int
    not_sent: int
    unread: int
    points_in_file: int
    points_in_vtn: int
    points_besides: int
    repaired: int
    causes: dict[str, int]
    not_told: int
    record: str
    page: str
    not_equal: tuple[LoadVerdict, ...]


class VerificationReport:
    """Writes a report: verdicts are added from any thread, written at once, and kept only if the page lists them.

    `scope`: a description of the loads that are verified. Use it as a context manager and call `finish()` within: a
    report that is not finished leaves no file. Raises `ConfigurationError` if the report cannot be written.
    """

    def __init__(self, folder: Path, *, vtn_base_url: str, meter_file: Path, scope: str) -> None:
        verified_at = datetime.now(UTC)
        self._lock = Lock()
        self._by_ven: dict[str, Counter[str]] = defaultdict(Counter)
        self._causes: Counter[str] = Counter()
        self._listed: list[LoadVerdict] = []
        self._are_all_unknown = True
        try:
            with meter_file.open("rb") as content:
                status = os.fstat(content.fileno())  # first: what is written from here on makes it another version
                sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise ConfigurationError(f"The meter file {meter_file} cannot be read: {error.strerror}") from error
        self._folder = folder
        with self._translated_errors():
            make_private_folder(folder)
            self._part_path, self._out = _create_part(folder, f"verification-{verified_at:%Y%m%dT%H%M%SZ}")
        self._record = self._part_path.with_suffix(".json")
        self._meter_file, self._version = meter_file, _version(status)
        self._header: dict[str, Any] = {
            "verified_at": f"{verified_at:%Y-%m-%dT%H:%M:%SZ}",
            "version": version("bulk-upload"),
            "vtn": vtn_base_url,
            "meter_file": {"path": str(meter_file), "bytes": status.st_size, "sha256": sha256},
            "scope": scope,
        }
        # One JSON object, written piece by piece: verdicts with all their months need not fit into memory.
        with self._translated_errors():
            self._out.write(orjson.dumps(self._header)[:-1] + b',"loads":[')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # of a report that is not finished, as the disk is full
            self._out.close()
        self._part_path.unlink(missing_ok=True)

    def add(self, verdict: LoadVerdict, *, is_repaired: bool = False) -> None:
        """Count a verdict and write it to the record. `is_repaired`: its months that differ will be sent again.

        Raises `ConfigurationError` once the meter file is another than the one that the report names, and if the report
        cannot be written.
        """
        self.require_same_file()
        encoded = orjson.dumps(verdict, option=JSON_OPTIONS)
        counts = {
            "loads": 1, verdict.state: 1, "repaired": int(is_repaired), "file": verdict.points_in_file,
            "vtn": verdict.points_in_vtn, "besides": verdict.besides, "sent": verdict.points_sent,
            "same": verdict.points_equal, "missing": verdict.points_missing, "different": verdict.points_different,
        }  # fmt: skip
        with self._lock, self._translated_errors():
            self._out.write((b",\n" if self._by_ven else b"\n") + encoded)
            self._by_ven[verdict.ven].update(counts)
            self._causes.update(REPAIRED if is_repaired and each == "differs" else each for each in verdict.causes)
            self._are_all_unknown &= "unknown" in verdict.causes
            if verdict.state != "equal" and len(self._listed) < MAX_LOADS_LISTED:
                self._listed.append(verdict)

    def by_ven(self) -> list[tuple[str, Mapping[str, int]]]:
        """Return the counts of each VEN: loads by state, and points `sent`, in the `vtn`, the `same`, and others."""
        with self._lock:
            return sorted(self._by_ven.items())

    def finish(self) -> VerificationSummary:
        """Finish the record and write the page.

        Raises `ConfigurationError` if the VTN knows none of the loads, and if the report cannot be written.
        """
        # A VTN without a read call answers 404 as well: such a report would say nothing of the points.
        if self._by_ven and self._are_all_unknown:
            raise ConfigurationError(nothing_is_known(str(self._listed[0].error)))
        summary = self._summary()
        numbers = {name: value for name, value in asdict(summary).items() if name not in ("not_equal", "not_told")}
        with self._translated_errors():
            self._out.write(b'\n],"summary":' + orjson.dumps(numbers) + b"}\n")
            self._out.close()
            replace_private(self._record.with_suffix(".html"), self._page(summary))
            self._part_path.rename(self._record)
        return summary

    def _page(self, summary: VerificationSummary) -> bytes:
        content = page(
            "verification.html",
            script="verification.js",
            title="Verification of the upload",
            report=self._header,
            summary=summary,
            vens=self.by_ven(),
            totals=sum(self._by_ven.values(), Counter[str]()),
            listed=summary.not_equal,
            causes=_cause_sentences(summary),
            record_name=self._record.name,
            record_sha256=hashlib.sha256(self._part_path.read_bytes()).hexdigest(),
        )
        return content.encode()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigurationError(f"The report cannot be written to {self._folder}: {error}") from error

    def require_same_file(self) -> None:
        """Raise `ConfigurationError` if the meter file is another than the one that the report names."""
        with suppress(OSError):
            if _version(self._meter_file.stat()) == self._version:
                return
        raise ConfigurationError(
            f"The meter file {self._meter_file} was changed during the verification, and a report is of one file. "
            "Verify again"
        )

    def _summary(self) -> VerificationSummary:
        sums = sum(self._by_ven.values(), Counter[str]())
        return VerificationSummary(
            passed=sums["equal"] == sums["loads"],
            loads=sums["loads"],
            equal=sums["equal"],
            differing=sums["differs"],
            not_sent=sums["not sent"],
            unread=sums["unread"],
            points_in_file=sums["file"],
            points_in_vtn=sums["vtn"],
            points_besides=sums["besides"],
            repaired=sums["repaired"],
            causes={cause: self._causes[cause] for cause in DESCRIPTIONS if self._causes[cause]},
            not_told=sums["loads"] - sums["equal"] - len(self._listed),
            record=str(self._record),
            page=str(self._record.with_suffix(".html")),
            not_equal=tuple(self._listed),
        )


def _version(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _create_part(folder: Path, stem: str) -> tuple[Path, BinaryIO]:
    """Create the file of an unfinished record, with a name that no other report has, even of the same second.

    The verification that has created the `.part` owns its name: others skip it, also after it is finished.
    """
    for name in numbered(stem):
        part = folder / f"{name}.part"
        with suppress(FileExistsError):
            out = create_private(part)
            if not any(os.path.lexists(part.with_suffix(suffix)) for suffix in (".json", ".html")):
                break
            out.close()
            part.unlink(missing_ok=True)  # the other verification removes it at its end, too
    return part, out


def scope_in_words(loads: int, vens: Sequence[str] | None, sample: float, seed: int) -> str:
    """Describe which loads are verified, for the report."""
    whose = f"of {', '.join(vens)}" if vens else "of all VENs"
    which = f"a sample of {sample:g} % of each VEN (seed {seed})" if sample < 100 else "every registered load"
    return f"{loads:,}: {which} {whose}"


def in_words(summary: VerificationSummary) -> str:
    """Describe the result in a sentence, and what to do about each cause."""
    loads = counted(summary.loads, "load")
    if summary.passed:
        return f"{summary.points_in_file:,} points of {loads} compared: all there, all as in the file"
    verb = "is" if summary.loads == 1 else "are"
    found = " ".join(f"{sentence}." for sentence in _cause_sentences(summary))
    return f"{summary.equal:,} of {loads} {verb} as in the file. {found} See {summary.page}"


def _cause_sentences(summary: VerificationSummary) -> list[str]:
    return [
        f"{counted(summary.causes[cause], 'load')}: {description}{advice(f'verified: {cause}')}"
        for cause, description in DESCRIPTIONS.items()
        if cause in summary.causes
    ]
