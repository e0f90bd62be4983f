"""Synchronisation of loads with a VTN: planning, registration, upload, verification and spot checks.

Built on the `Source` and `Wire` protocols and the ledger, without HTTP, HDF5, SQL, Prefect or the command line.
"""

from venclient.sync.planning import ASSUMED_POINTS_PER_SECOND, LoadPlan, Plan, RequestSizes, plan_loads
from venclient.sync.registration import Registration, register
from venclient.sync.spot_check import SpotCheck, check_last_acknowledged, has_points
from venclient.sync.upload import Uploader
from venclient.sync.verification import Cause, LoadVerdict, nothing_is_known, sampled, verify_load

__all__ = [
    "ASSUMED_POINTS_PER_SECOND",
    "Cause",
    "LoadPlan",
    "LoadVerdict",
    "Plan",
    "Registration",
    "RequestSizes",
    "SpotCheck",
    "Uploader",
    "check_last_acknowledged",
    "has_points",
    "nothing_is_known",
    "plan_loads",
    "register",
    "sampled",
    "verify_load",
]
