"""Chaos: uploads under random faults, kills, stops and full disks; after each round everything is as it should be.

    python -m tests.chaos --rounds 200 --seed 4711        # make chaos; the seed is printed, and replays the rounds
    python -m tests.chaos --seed 4711 --only 17           # one of them

A round changes the meter file (loads grow, values are corrected), uploads while something goes wrong, and uploads once
more in peace. Then the VTN's store has to hold what the file says and nothing else, the ledger has to know it, no point
that was acknowledged may have been sent again but for the requests in flight at a kill, and no thread may be left.
"""

import argparse
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.prefect_server import free_port, prefect_server
from tests.chaos_rounds import KINDS, kinds_of
from tests.chaos_world import ROUNDS_TO_WARM_UP, World


@contextmanager
def world() -> Iterator[World]:
    """Everything that rounds need, in a folder of its own, with a Prefect server."""
    with tempfile.TemporaryDirectory(prefix="bulk-upload-chaos-") as folder:
        os.environ["PREFECT_HOME"] = f"{folder}/prefect"
        with prefect_server(free_port(), whole=False) as server, World(Path(folder), server.api_url) as made:
            yield made


def main() -> None:
    """Play rounds and print the table of docs/reliability.md."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--seed", type=int, default=None)
    options.add_argument("--only", type=int, default=None, help="only the round of this number")
    given = options.parse_args()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    os.environ |= {"DO_NOT_TRACK": "1", "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    with world() as made:
        for number, kind in enumerate(kinds_of(given.rounds, seed)):
            if given.only not in (None, number):
                continue
            print(f"round {number}: {kind}", flush=True)
            try:
                made.play(number, kind, seed, KINDS[kind])
            except BaseException:
                print(f"\nAgain: python -m tests.chaos --rounds {given.rounds} --seed {seed} --only {number}")
                raise
        print(_table(made))


def _table(played: World) -> str:
    lines = [
        "| what went wrong | rounds | kills | requests | faults | points stored | lost | points sent twice |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, tally in sorted(played.tallies.items(), key=lambda each: -each[1].rounds):
        numbers = (tally.rounds, tally.kills, tally.requests, tally.faults.total(), tally.points, tally.lost)
        lines.append(f"| {kind} | " + " | ".join(f"{number:,}" for number in (*numbers, tally.sent_twice)) + " |")
    at_rest = played.bytes_at_rest[ROUNDS_TO_WARM_UP:] or played.bytes_at_rest
    first, last = (f"{each / 2**20:.0f} MiB" for each in (at_rest[0], at_rest[-1]))
    lines += ["", f"Memory at rest: {first} after {ROUNDS_TO_WARM_UP} rounds, {last} after the last."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
