"""Who of the runs that write still lives: nobody compares clocks, each watches the others' beats on its own."""

import time
from dataclasses import dataclass, replace

from venclient.ledger.process_identity import has_ended

GONE_AFTER_S = 30.0
# Nobody is judged by a time in which nobody looked, such as while the ledger was away from everyone.
UNWATCHED_AFTER_S = 10.0


@dataclass(frozen=True, slots=True)
class _Seen:
    beat: int
    since: float
    looked: float
    has_moved: bool = False


class Liveness:
    """What has been seen of others' beats, by their number."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}

    def look(self, writer_id: int, beat: int) -> None:
        """Take note of a beat."""
        seen, now = self._seen.get(writer_id), time.monotonic()
        if seen is None or seen.beat != beat:
            self._seen[writer_id] = _Seen(beat, now, now, has_moved=seen is not None)
        elif now - seen.looked > UNWATCHED_AFTER_S:
            self._seen[writer_id] = _Seen(beat, now, now)
        else:
            self._seen[writer_id] = replace(seen, looked=now, has_moved=False)

    def is_seen(self, writer_id: int) -> bool:
        """Whether its beat has risen since the look before."""
        return self._seen[writer_id].has_moved

    def is_gone(self, writer_id: int, process: str) -> bool:
        """Whether its process has ended on this machine, or its beat has not risen for 30 s."""
        return has_ended(process) or time.monotonic() - self._seen[writer_id].since > GONE_AFTER_S
