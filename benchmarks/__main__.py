"""`make bench` measures everything and writes docs/performance.md; `make bench-check` tells what got worse.

`python -m benchmarks floor durable` measures these sections and records nothing: the page is of one run.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from benchmarks import memory, network, nothing_to_do, slow_vtn, steps, uploads, whole_database, whole_job
from benchmarks.figures import Section, filled, load, machine, page, regressions, save
from benchmarks.stand import ROOT

SECTIONS: dict[str, Callable[[], Section]] = {
    "steps": steps.measure,
    "floor": uploads.measure_floor,
    "durable": uploads.measure_durable,
    "job": whole_job.measure,
    "slow": slow_vtn.measure,
    "nothing": nothing_to_do.measure,
    "memory": memory.measure,
    "network": network.measure,
    "whole": whole_database.measure,
}
# What is over in some minutes, and tells by ratios.
CHECKED = ("steps", "floor", "durable")
RECORDED = ROOT / "benchmarks" / "recorded.json"
PAGE = ROOT / "docs" / "performance.md"

HEAD = """Measured by `make bench` on one machine, one section after the other: {machine}. Speeds are this machine's;
ratios can be compared. `make bench-check` measures some of them again and names what got worse by more than a fifth."""


def main(
    sections: Annotated[list[str] | None, typer.Argument(help=f"Which: {', '.join(SECTIONS)}. All of them.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare with what is recorded, and record nothing.")] = False,
) -> None:
    """Measure; all of it is written to docs/performance.md. The exit code is 1 where a figure misses what is wanted."""
    names = sections or (CHECKED if check else list(SECTIONS))
    if unknown := set(names) - set(SECTIONS):
        raise typer.BadParameter(f"no such section: {', '.join(unknown)}")
    if check:
        sys.exit(_check(names, load(RECORDED)))
    measured = {name: _measured(name) for name in names}
    if not sections:
        save(RECORDED, measured)
        PAGE.write_text(f"# Performance\n\n{filled(HEAD.format(machine=machine()))}\n{page(measured)}\n")
    if missed := [figure.what for section in measured.values() for figure in section.figures if not figure.is_reached]:
        sys.exit(f"Missed: {'; '.join(missed)}")


def _check(names: Sequence[str], recorded: dict[str, Section]) -> int:
    """The exit code."""
    worse = []
    for name in names:
        if name not in recorded:
            raise SystemExit(f"{name} is not recorded yet: make bench")
        worse += regressions(_measured(name).figures, recorded[name].figures)
    typer.echo(
        "\n".join(worse) or "No ratio got worse by more than a fifth, and no ratio or share misses what is wanted"
    )
    return int(bool(worse))


def _measured(name: str) -> Section:
    section = SECTIONS[name]()
    typer.echo(f"\n{section.title}")
    for figure in section.figures:
        typer.echo(f"  {figure.what}: {figure.value:,.4g} {figure.unit}{'' if figure.is_reached else '  MISSED'}")
    return section


if __name__ == "__main__":
    typer.run(main)
