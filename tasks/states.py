"""Names and messages of states that the flows and deployments/automations.yaml share, which names them as `$LOST`."""

# The state, of type Failed, of a run that has sent all that could be sent.
WITH_FAILURES = "Completed with failures"
# The state, of type Paused, of a run that no longer sends heartbeats.
LOST = "Lost"
# Messages with which automations set AwaitingRetry, so that a deadline still refers to the original start.
WORKER_GONE = "Its worker or machine was gone"
NOT_BEGUN = "Its worker did not begin it"
PROCESS_DIED = "Its process died"
STARTED_AGAIN = (WORKER_GONE, NOT_BEGUN, PROCESS_DIED)
# The name that Prefect gives the Paused state of a run that is suspended in its UI, until it is resumed there.
SUSPENDED = "Suspended"
