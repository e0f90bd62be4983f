"""A run in one process: worker threads, progress, spot checks, and early stopping.

The flows, the commands and `VENManager` are all built on `Run`.
"""

from venclient.run.engine import GRACE_S, Connections, Listener, Options, Run
from venclient.run.garbage import fewer_collections
from venclient.run.progress import RunProgress, notify_watcher, watched_by
from venclient.run.spot_checks import SpotChecks, earlier_points_label
from venclient.run.stopping import next_deadline, stopped_at, stopped_by_signals
from venclient.run.ven_results import VenResults
from venclient.run.work import Work, begin_ven, points_pending, with_finished, work_of
from venclient.run_record import Snapshot

__all__ = [
    "GRACE_S",
    "Connections",
    "Listener",
    "Options",
    "Run",
    "RunProgress",
    "Snapshot",
    "SpotChecks",
    "VenResults",
    "Work",
    "begin_ven",
    "earlier_points_label",
    "fewer_collections",
    "next_deadline",
    "notify_watcher",
    "points_pending",
    "stopped_at",
    "stopped_by_signals",
    "watched_by",
    "with_finished",
    "work_of",
]
