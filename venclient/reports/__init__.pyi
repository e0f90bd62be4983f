from .check import CheckedSeries, Finding, LoadCheck, check_loads, compared, step, watts
from .check_summary import Failures, Findings, failures_by_cause, findings_by_kind
from .runs import PastRun, read_runs
from .series_facts import SeriesFacts
from .status import LedgerStatus, LoadHistory, UploadStatus, load_history, read_statuses, upload_status
from .verification_report import VerificationReport, VerificationSummary, in_words, scope_in_words

__all__ = [
    "CheckedSeries",
    "Failures",
    "Finding",
    "Findings",
    "LedgerStatus",
    "LoadCheck",
    "LoadHistory",
    "PastRun",
    "SeriesFacts",
    "UploadStatus",
    "VerificationReport",
    "VerificationSummary",
    "check_loads",
    "compared",
    "failures_by_cause",
    "findings_by_kind",
    "in_words",
    "load_history",
    "read_runs",
    "read_statuses",
    "scope_in_words",
    "step",
    "upload_status",
    "watts",
]
