"""Quality codes: which points are sent as something else than `GOOD`.

Rules stand in order, and the first that matches a point gives its code:

    zero → ESTIMATED, repeated 24 times → SUSPECT, above capacity → SUSPECT, negative → EXPORT, NaN → MISSING 0

`NaN` has a value too, which is sent in its place; without a rule for NaN, such rows are left out. Rules look at what
was measured. Their codes are in the ledger's digest, so that other rules send again the months that they change.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

GOOD = "GOOD"

_RULE = re.compile(
    r"(?P<condition>zero|negative|above capacity|repeated (?P<times>\d+) times|nan)\s*(?:→|->)\s*"
    r"(?P<code>[a-z0-9_-]+)(?:\s+(?P<value>[+-]?\d+(?:\.\d+)?))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Points that meet the condition have this code. `times`: for `repeated`; `value`: in place of NaN."""

    condition: str
    code: str
    times: int = 0
    value: float = 0.0

    def matches(
        self, power_w: NDArray[np.float64], capacity_w: float | None, runs: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """Which of the points, in order of time, meet the condition: (N,). The rest as in `QualityRules.applied`."""
        conditions: dict[str, Callable[[], NDArray[np.bool_]]] = {
            "zero": lambda: np.equal(power_w, 0),
            "negative": lambda: np.less(power_w, 0),
            "above capacity": lambda: np.greater(power_w, np.inf if capacity_w is None else capacity_w),
            "nan": lambda: np.isnan(power_w),
            "repeated": lambda: np.greater_equal(run_lengths(power_w, runs), self.times),
        }
        return conditions[self.condition]()


@dataclass(frozen=True, slots=True)
class QualityRules:
    """Rules in order; none of them: every point is `GOOD`, and NaN is left out."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Rules as the settings have them; raises `ValueError` for what is not a rule."""
        return cls(tuple(_rule(part.strip()) for part in re.split(r"[,;\n]", text) if part.strip()))

    @property
    def codes(self) -> tuple[str, ...]:
        """Every code that a point can have; a point's quality is an index into it."""
        return tuple(dict.fromkeys([GOOD, *(rule.code for rule in self.rules)]))

    @property
    def sends_nan(self) -> bool:
        """Whether there is a rule for NaN."""
        return any(rule.condition == "nan" for rule in self.rules)

    @property
    def need_capacity(self) -> bool:
        """Whether a series looks different for resources of different capacities."""
        return any(rule.condition == "above capacity" for rule in self.rules)

    def applied(
        self, power_w: NDArray[np.float64], capacity_w: float | None, runs: tuple[int, int] = (1, 1)
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """What is sent for each measured value, and the index of its code: (N,) each.

        `power_w`: (N,), mean W in order of time; `capacity_w`: of the resource, where it is known; `runs`: as in
        `run_lengths`. Where all codes are the first, they take one byte together.
        """
        codes = self.codes
        sent_w, quality = power_w, np.zeros(len(power_w) if self.rules else 0, dtype=np.uint8)
        for rule in reversed(self.rules):  # the first rule has the last word
            matches = rule.matches(power_w, capacity_w, runs)
            quality[matches] = codes.index(rule.code)
            if rule.condition == "nan":
                sent_w = np.where(matches, rule.value, sent_w)
        return sent_w, quality if quality.any() else np.broadcast_to(np.uint8(0), len(power_w))


def run_lengths(power_w: NDArray[np.float64], runs: tuple[int, int] = (1, 1)) -> NDArray[np.int64]:
    """For each value, how many of the same stand in a row there: (N,).

    `runs`: how long the rows of the first value and of the last are, where they go on before and after these values.
    """
    begins = np.flatnonzero(np.append(True, power_w[1:] != power_w[:-1]))
    here = np.diff(begins, append=len(power_w))
    lengths = here.copy()
    lengths[0], lengths[-1] = max(lengths[0], runs[0]), max(lengths[-1], runs[1])
    return np.repeat(lengths, here)


def _rule(text: str) -> Rule:
    found = _RULE.fullmatch(text)
    if not found:
        raise ValueError(
            f"'{text}' is not a rule: write 'zero → ESTIMATED', 'negative → …', 'above capacity → …', "
            "'repeated 24 times → …' or 'NaN → MISSING 0'"
        )
    condition = "repeated" if found["times"] else found["condition"].lower()
    if (condition == "nan") != bool(found["value"]):
        raise ValueError(f"'{text}': NaN needs a code and a value ('NaN → MISSING 0'), the others only a code")
    return Rule(condition, found["code"], int(found["times"] or 0), float(found["value"] or 0))
