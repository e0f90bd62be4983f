"""`make bench` measures everything and writes docs/performance.md; `make bench-check` reports regressions.

`python -m benchmarks floor durable` measures these sections alone; `--record` writes them to the page as well.
"""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from benchmarks import (
    memory,
    network,
    nothing_to_do,
    registration,
    shapes,
    slow_vtn,
    standard,
    steps,
    two_workers,
    uploads,
    verification,
    whole_database,
    whole_job,
)
from benchmarks.figures import Section, filled, load, machine, page, regressions, save
from benchmarks.stand import ROOT

SECTIONS: dict[str, Callable[[], Section]] = {
    "steps": steps.measure,
    "floor": uploads.measure_floor,
    "shapes": shapes.measure,
    "durable": uploads.measure_durable,
    "standard": standard.measure,
    "job": whole_job.measure,
    "verify": verification.measure,
    "register": registration.measure,
    "slow": slow_vtn.measure,
    "workers": two_workers.measure,
    "nothing": nothing_to_do.measure,
    "memory": memory.measure,
    "network": network.measure,
    "whole": whole_database.measure,
}
# Sections whose ratios or shares can be compared, and that take less than 20 minutes together in three rounds.
CHECKED = ("steps", "floor", "verify", "slow", "memory", "network")
RECORDED = ROOT / "benchmarks" / "recorded.json"
PAGE = ROOT / "docs" / "performance.md"
NOTHING_WORSE = "No ratio got worse by more than a fifth, and no ratio or share misses what is wanted"

HEAD = """Measured by `make bench` on one machine ({machine}
for the section measured last), one section after the other, not all on the same day and not all with these versions
(`python -m benchmarks NAME --record` measures one again). Speeds are this machine's at that time; ratios can be
compared. `make bench-check` measures some of them again and names what got worse by more than a fifth."""


def main(
    sections: Annotated[list[str] | None, typer.Argument(help=f"Which: {', '.join(SECTIONS)}. All of them.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Fail for what got worse; record nothing.")] = False,
    record: Annotated[bool, typer.Option("--record", help="Record the sections that are named.")] = False,
) -> None:
    """Measure, and tell what got worse since it was recorded; all of it is written to docs/performance.md.

    The exit code is 1 where a figure misses what is wanted; with --check, where a ratio or share does, or got worse.
    """
    names = sections or (CHECKED if check else list(SECTIONS))
    if unknown := set(names) - set(CHECKED if check else SECTIONS):
        raise typer.BadParameter(f"no such section: {', '.join(unknown)}")
    recorded = load(RECORDED)
    if check and (unrecorded := set(names) - set(recorded)):
        sys.exit(f"{', '.join(unrecorded)}: not recorded yet, run make bench")
    if "network" in names:
        network.require()  # fail now, and not after the sections before it
    measured = {name: _measured(name) for name in names}
    worse = [
        regression
        for name in names
        if name in recorded
        for regression in regressions(measured[name].figures, recorded[name].figures)
    ]
    typer.echo("\n".join(worse) or NOTHING_WORSE)
    if check:
        sys.exit(int(bool(worse)))
    if record or not sections:
        if "whole" in measured:
            whole_database.draw(measured["whole"], PAGE.parent / whole_database.PICTURE)
        recorded |= measured
        in_order = {name: recorded[name] for name in SECTIONS if name in recorded}
        save(RECORDED, in_order)
        PAGE.write_text(f"# Performance\n\n{filled(HEAD.format(machine=machine()))}\n{page(in_order)}\n")
    if missed := [figure.what for section in measured.values() for figure in section.figures if not figure.is_reached]:
        sys.exit(f"Missed: {'; '.join(missed)}")


def _measured(name: str) -> Section:
    section = SECTIONS[name]()
    typer.echo(f"\n{section.title}")
    for figure in section.figures:
        typer.echo(f"  {figure.what}: {figure.value:,.4g} {figure.unit}{'' if figure.is_reached else '  MISSED'}")
    return section


if __name__ == "__main__":
    typer.run(main)
