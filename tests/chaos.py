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
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cli.prefect_server import free_port, prefect_server
from tests.chaos_rounds import KINDS, WIRES, kinds_of, wire_of
from tests.chaos_world import ROUNDS_TO_WARM_UP, World


@contextmanager
def worlds() -> Iterator[dict[str, World]]:
    """Everything that rounds need over each wire, in a folder of its own, with a Prefect server."""
    with tempfile.TemporaryDirectory(prefix="bulk-upload-chaos-") as folder, ExitStack() as stack:
        os.environ["PREFECT_HOME"] = f"{folder}/prefect"
        bytes_at_rest: list[int] = []
        server = stack.enter_context(prefect_server(free_port(), whole=False))
        yield {
            wire: stack.enter_context(World(Path(folder) / wire, server.api_url, wire, bytes_at_rest))
            for wire in sorted(set(WIRES))
        }


def main() -> None:
    """Play rounds and print the table of docs/reliability.md."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--seed", type=int, default=None)
    options.add_argument("--only", type=int, default=None, help="only the round of this number")
    options.add_argument("--first", type=int, default=0, help="the number of the first round, to go on after a mend")
    given = options.parse_args()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    os.environ |= {"DO_NOT_TRACK": "1", "PREFECT_LOGGING_LEVEL": "CRITICAL"}
    with worlds() as made:
        for number, kind in enumerate(kinds_of(given.rounds, seed)):
            if given.only not in (None, number) or number < given.first:
                continue
            wire = wire_of(number)
            print(f"round {number}: {kind}, {wire}", flush=True)
            try:
                made[wire].play(number, kind, seed, KINDS[kind])
            except BaseException:
                print(f"\nAgain: python -m tests.chaos --rounds {given.rounds} --seed {seed} --only {number}")
                raise
        print(_table(made))


def _table(played: dict[str, World]) -> str:
    lines = [
        "| what went wrong | wire | rounds | kills | requests | faults | points stored | lost | points sent twice |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for wire, world in played.items():
        for kind, tally in sorted(world.tallies.items(), key=lambda each: -each[1].rounds):
            numbers = (tally.rounds, tally.kills, tally.requests, tally.faults.total(), tally.points, tally.lost)
            texts = " | ".join(f"{number:,}" for number in (*numbers, tally.sent_twice))
            lines.append(f"| {kind} | {wire} | {texts} |")
    everything = played["bulk"].bytes_at_rest
    at_rest = everything[ROUNDS_TO_WARM_UP:] or everything
    first, last = (f"{each / 2**20:.0f} MiB" for each in (at_rest[0], at_rest[-1]))
    lines += ["", f"Memory at rest: {first} after {ROUNDS_TO_WARM_UP} rounds, {last} after the last."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
