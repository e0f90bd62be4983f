"""Figures: what a benchmark found, what was wanted, and how the last recorded ones compare."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from textwrap import fill

ROUNDS = 5
WORSE_BY = 0.2
VERSIONS_OF = ("numpy", "h5py", "orjson", "requests", "SQLAlchemy", "prefect", "msgspec", "uvicorn", "pandas")


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `wanted`: what it has to reach, or to stay below; ratios are what two machines can be compared by."""

    key: str
    what: str
    value: float
    unit: str = ""
    wanted: float | None = None
    is_ratio: bool = False
    is_better_higher: bool = True

    @property
    def is_reached(self) -> bool:
        """Whether it is as it was wanted."""
        if self.wanted is None:
            return True
        return self.value >= self.wanted if self.is_better_higher else self.value <= self.wanted

    @property
    def is_checked(self) -> bool:
        """Whether it tells of another machine, too: a ratio, or a share of something measured beside it."""
        return self.is_ratio or self.unit == "%"

    def worse_by(self, before: "Figure") -> float:
        """By which share it is worse than it was: 0.25 is a quarter; negative where it is better."""
        if self.is_better_higher:
            return 1 - self.value / before.value
        return self.value / before.value - 1


@dataclass(frozen=True, slots=True)
class Section:
    """What one benchmark found, and how: `text` says what was measured beside what."""

    title: str
    text: str
    figures: Sequence[Figure] = field(default_factory=list)


def medians(*measure: Callable[[], float], rounds: int = ROUNDS) -> list[float]:
    """The median of each, measured in turn, so that a slow moment of the machine strikes all of them.

    Each round begins with another, as what comes after what may matter, too.
    """
    found: list[list[float]] = [[] for _ in measure]
    for number in range(rounds):
        for turn in range(len(measure)):
            which = (number + turn) % len(measure)
            found[which].append(measure[which]())
    return [statistics.median(each) for each in found]


def machine() -> str:
    """What it was measured on."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS_OF)
    return f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}, {versions}"


def load(path: Path) -> dict[str, Section]:
    """The sections recorded last, by name."""
    if not path.exists():
        return {}
    recorded = json.loads(path.read_text())["sections"]
    return {
        name: Section(found["title"], found["text"], [Figure(**figure) for figure in found["figures"]])
        for name, found in recorded.items()
    }


def save(path: Path, sections: dict[str, Section]) -> None:
    """Record them, with the machine."""
    told = {"machine": machine(), "sections": {name: asdict(section) for name, section in sections.items()}}
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def page(sections: dict[str, Section]) -> str:
    """All of it, to read."""
    parts = [
        part
        for section in sections.values()
        for part in ("", f"## {section.title}", "", filled(section.text), *_table(section))
    ]
    return "\n".join(parts)


def filled(text: str) -> str:
    """Its paragraphs, with lines as long as they may be."""
    return "\n\n".join(fill(" ".join(part.split()), 120, break_on_hyphens=False) for part in text.split("\n\n"))


def regressions(now: Iterable[Figure], before: Iterable[Figure]) -> list[str]:
    """The ratios and shares that miss what is wanted or have no other to compare, and the ratios that got worse by more
    than a fifth, in words. A share may be next to nothing: a fifth of it says nothing.
    """
    found, known = ({figure.key: figure for figure in figures if figure.is_checked} for figures in (now, before))
    told = {key: _fault(found.get(key), known.get(key)) for key in known | found}
    return [f"{(found.get(key) or known[key]).what}: {fault}" for key, fault in told.items() if fault]


def _fault(now: Figure | None, before: Figure | None) -> str:
    if now is None:
        return "is recorded, and was not measured"
    if before is None:
        return "is not recorded"
    if now.is_ratio and (worse_by := now.worse_by(before)) > WORSE_BY:
        return f"{now.value:,.3g}, was {before.value:,.3g} ({100 * worse_by:.0f} % worse)"
    return "" if now.is_reached else f"{_shown(now.value, now)}, wanted {_bound(now)}"


def _table(section: Section) -> list[str]:
    if not section.figures:
        return []
    rows = [f"| {figure.what} | {_shown(figure.value, figure)} | {_wanted(figure)} |" for figure in section.figures]
    return ["", "| what | measured | wanted |", "| --- | ---: | --- |", *rows]


def _wanted(figure: Figure) -> str:
    return f"{_bound(figure)}{'' if figure.is_reached else ': **missed**'}"


def _bound(figure: Figure) -> str:
    if figure.wanted is None:
        return ""
    return f"{'≥' if figure.is_better_higher else '≤'} {_shown(figure.wanted, figure)}"


def _shown(value: float, figure: Figure) -> str:
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"
    return f"{number} {figure.unit}".strip()
