"""What people look at: the check of a meter file, the status of an upload, and the report of a verification.

Nothing here changes a ledger or a VTN. `coverage_page` is imported from its own module, as matplotlib takes half a
second.
"""

from venclient.reports.check import CheckedSeries, Finding, LoadCheck, check_loads, compared, step, watts
from venclient.reports.check_summary import Failures, Findings, failures_by_cause, findings_by_kind
from venclient.reports.series_facts import SeriesFacts
from venclient.reports.status import LedgerStatus, LoadHistory, UploadStatus, load_history, read_statuses, upload_status
from venclient.reports.verification_report import VerificationReport, VerificationSummary, in_words, scope_in_words

__all__ = [
    "CheckedSeries",
    "Failures",
    "Finding",
    "Findings",
    "LedgerStatus",
    "LoadCheck",
    "LoadHistory",
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
    "read_statuses",
    "scope_in_words",
    "step",
    "upload_status",
    "watts",
]
