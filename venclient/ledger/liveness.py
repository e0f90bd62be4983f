"""Whether other runs are alive, judged by their heartbeats on this process's own clock."""

import time
from dataclasses import dataclass, replace

from venclient.ledger.process_identity import has_ended

# A longer pause between two looks starts the count anew: while the ledger is unavailable, no run can show a heartbeat.
MAX_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """How often a holder shows a heartbeat, how often others look, and without one for how long it counts as gone."""

    beat_every_s: float = 2.0
    look_every_s: float = 0.5
    gone_after_s: float = 30.0


DEFAULT_TIMES = LeaseTimes()


@dataclass(frozen=True, slots=True)
class _Observation:
    """The heartbeat at the last look. `since_s`, `looked_at_s`: monotonic time."""

    beat: int
    since_s: float
    looked_at_s: float
    has_advanced: bool = False


class Liveness:
    """Heartbeats of other runs as observed by this process, by writer id."""

    def __init__(self, times: LeaseTimes = DEFAULT_TIMES) -> None:
        self._times = times
        self._observed: dict[int, _Observation] = {}

    def look(self, writer_id: int, beat: int) -> None:
        """Record the current heartbeat of a writer."""
        last, now_s = self._observed.get(writer_id), time.monotonic()
        if last is None or last.beat != beat:
            self._observed[writer_id] = _Observation(beat, now_s, now_s, has_advanced=last is not None)
        elif now_s - last.looked_at_s > MAX_PAUSE_S:
            self._observed[writer_id] = _Observation(beat, now_s, now_s)
        else:
            self._observed[writer_id] = replace(last, looked_at_s=now_s, has_advanced=False)

    def is_seen(self, writer_id: int) -> bool:
        """Whether the heartbeat advanced between the last two looks."""
        return self._observed[writer_id].has_advanced

    def is_gone(self, writer_id: int, process: str) -> bool:
        """Whether the process has ended on this machine, or the heartbeat has not advanced for `gone_after_s`."""
        silent_s = time.monotonic() - self._observed[writer_id].since_s
        return has_ended(process) or silent_s > self._times.gone_after_s
