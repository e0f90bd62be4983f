"""What the process has imported that commands of tests are forked from: see tests/commands.py."""

import gc
import os

# As `bulk-upload run` sets them, before Prefect reads its settings for the first time.
RUN_SETTINGS = {"DO_NOT_TRACK": "1", "PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_CLIENT_MAX_RETRIES": "2"}
os.environ |= RUN_SETTINGS

import cli  # noqa: E402, F401
import flows.bulk_upload  # noqa: E402, F401
import venclient.reports.coverage_page  # noqa: E402
import venclient.sync.verification  # noqa: E402, F401

gc.freeze()  # no child looks through all of this for garbage, which would also copy it
