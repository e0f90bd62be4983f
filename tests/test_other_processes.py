"""Promises about other processes that write to a ledger: whether they live, and what one that hangs holds up."""

import signal
import subprocess
import sys
import time
import uuid

from tests.commands import ROOT
from venclient.ledger import LeaseTimes, Ledger, Writer
from venclient.ledger.process_identity import has_ended

HANGS = """
import sys, time
from venclient import databases
databases.ON_POSTGRESQL["options"] = "-c idle_in_transaction_session_timeout=2s"
from venclient.ledger import Ledger, Writer
with Ledger(sys.argv[1], sys.argv[2]) as ledger, ledger.leased(["Aalborg"], Writer("a", "run a")):
    with ledger._database.writing() as connection:
        ledger._leases["Aalborg"].require(connection, "Aalborg")
        print("within a transaction", flush=True)
        time.sleep(600)
"""


def test_a_process_that_hangs_within_a_transaction_holds_its_successor_up_for_seconds_only(
    postgresql_url: str,
) -> None:
    vtn_url = f"http://{uuid.uuid4()}/openadr3"
    times = LeaseTimes(gone_after_s=1.0)
    command = [sys.executable, "-c", HANGS, postgresql_url, vtn_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as hanging:
        assert hanging.stdout
        assert hanging.stdout.readline() == "within a transaction\n"
        hanging.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        try:
            with (
                Ledger(postgresql_url, vtn_url, lease_times=times) as ledger,
                ledger.leased(["Aalborg"], Writer("b", "b"), waits=True),
            ):
                assert time.monotonic() - began < 20
        finally:
            hanging.kill()


def test_a_process_whose_name_is_no_text_is_seen_to_live_and_to_end() -> None:
    code = (
        "import sys; from venclient.ledger.process_identity import this_process\n"
        "open('/proc/self/comm', 'wb').write(b'\\xfc')\n"  # as a long name is that Linux cuts within a letter
        "print(this_process(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        identity = process.stdout.readline().strip()
        assert not has_ended(identity)
    assert has_ended(identity)
