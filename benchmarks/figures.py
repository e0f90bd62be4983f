"""Figures: what a benchmark measured, the bounds, and the comparison with the recorded ones."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from textwrap import fill

ROUNDS = int(os.environ.get("BENCHMARK_ROUNDS", "5"))
MAX_WORSE_BY = 0.2
PACKAGES = ("numpy", "h5py", "orjson", "requests", "SQLAlchemy", "prefect", "msgspec", "uvicorn", "pandas")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `wanted`: its lower or upper bound. Only ratios can be compared between machines."""

    key: str
    what: str
    value: float
    unit: str = ""
    wanted: float | None = None
    is_ratio: bool = False
    is_better_higher: bool = True

    @property
    def is_reached(self) -> bool:
        """Whether it is within its bound, or has none."""
        if self.wanted is None:
            return True
        return self.value >= self.wanted if self.is_better_higher else self.value <= self.wanted

    @property
    def is_checked(self) -> bool:
        """Whether it means something on another machine, too: a ratio, or a share of something measured with it."""
        return self.is_ratio or self.unit == "%"

    def worse_by(self, before: "Figure") -> float:
        """How much worse it is than before, as a fraction: 0.25 is a quarter; negative if it is better."""
        if self.is_better_higher:
            return 1 - self.value / before.value
        return self.value / before.value - 1


@dataclass(frozen=True, slots=True)
class Section:
    """The figures of one benchmark; `text` describes how they were measured."""

    title: str
    text: str
    figures: Sequence[Figure] = field(default_factory=list)


def medians(*measure: Callable[[], float], rounds: int = ROUNDS) -> list[float]:
    """The median of each. They are measured in turn, so that a slow phase of the machine affects all of them.

    Each round starts with another one, as the order may matter, too.
    """
    found: list[list[float]] = [[] for _ in measure]
    for number in range(rounds):
        for turn in range(len(measure)):
            which = (number + turn) % len(measure)
            found[which].append(measure[which]())
    return [statistics.median(each) for each in found]


def machine() -> str:
    """The machine and the versions that the figures are of."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}, {versions}"


def load(path: Path) -> dict[str, Section]:
    """The sections recorded last, by name; none if there is no file."""
    if not path.exists():
        return {}
    recorded = json.loads(path.read_text())["sections"]
    return {
        name: Section(found["title"], found["text"], [Figure(**figure) for figure in found["figures"]])
        for name, found in recorded.items()
    }


def save(path: Path, sections: dict[str, Section]) -> None:
    """Record the sections and the machine."""
    recorded = {"machine": machine(), "sections": {name: asdict(section) for name, section in sections.items()}}
    path.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")


def page(sections: dict[str, Section]) -> str:
    """The sections as Markdown."""
    parts = [
        part
        for section in sections.values()
        for part in ("", f"## {section.title}", "", filled(section.text), *_table(section))
    ]
    return "\n".join(parts)


def filled(text: str) -> str:
    """The paragraphs of a text, wrapped at 120 characters."""
    return "\n\n".join(fill(" ".join(part.split()), 120, break_on_hyphens=False) for part in text.split("\n\n"))


def regressions(now: Iterable[Figure], before: Iterable[Figure]) -> list[str]:
    """Ratios and shares that miss their bounds or are in one set only, and ratios that got worse by more than a fifth.

    Shares are not compared with earlier ones: if one is close to zero, a relative change means nothing.
    """
    found, known = ({figure.key: figure for figure in figures if figure.is_checked} for figures in (now, before))
    problems = {key: _problem(found.get(key), known.get(key)) for key in known | found}
    return [f"{(found.get(key) or known[key]).what}: {problem}" for key, problem in problems.items() if problem]


def _problem(now: Figure | None, before: Figure | None) -> str:
    """What is wrong with a figure, or an empty string."""
    if now is None:
        return "is recorded, and was not measured"
    if before is None:
        return "is not recorded"
    if now.is_ratio and (worse_by := now.worse_by(before)) > MAX_WORSE_BY:
        return f"{now.value:,.3g}, was {before.value:,.3g} ({100 * worse_by:.0f} % worse)"
    return "" if now.is_reached else f"{_format(now.value, now)}, wanted {_bound(now)}"


def _table(section: Section) -> list[str]:
    if not section.figures:
        return []
    rows = [f"| {figure.what} | {_format(figure.value, figure)} | {_wanted(figure)} |" for figure in section.figures]
    return ["", "| what | measured | wanted |", "| --- | ---: | --- |", *rows]


def _wanted(figure: Figure) -> str:
    return f"{_bound(figure)}{'' if figure.is_reached else ': **missed**'}"


def _bound(figure: Figure) -> str:
    if figure.wanted is None:
        return ""
    return f"{'≥' if figure.is_better_higher else '≤'} {_format(figure.wanted, figure)}"


def _format(value: float, figure: Figure) -> str:
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"
    return f"{number} {figure.unit}".strip()
