"""Flow control towards a VTN, shared by all threads of a process: request size, concurrency, retries, outages.

Decisions follow the cause of an error (`venclient.errors`), never a status code.
"""

from venclient.flow_control.circuit_breaker import OUTAGE_TIMES, OutageTimes
from venclient.flow_control.limiter import ConcurrencyLimiter, Learned
from venclient.flow_control.retries import Retries, few_attempts

__all__ = ["OUTAGE_TIMES", "ConcurrencyLimiter", "Learned", "OutageTimes", "Retries", "few_attempts"]
