"""Quality codes: which points are sent with a code other than `GOOD`.

Rules are ordered; the first one that matches a point gives its code:

    zero → ESTIMATED, repeated 24 times → SUSPECT, above capacity → SUSPECT, negative → EXPORT, NaN → MISSING 0

The rule for `NaN` also has a value, which is sent in its place; without such a rule, NaN rows are dropped. Rules apply
to measured values. Codes are part of the ledger's digests: after a change of rules, the months that it affects are sent
again.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from venclient.models import repeated

GOOD = "GOOD"

_RULE = re.compile(
    r"(?P<condition>zero|negative|above capacity|repeated (?P<times>\d+) times|nan)\s*(?:→|->)\s*"
    r"(?P<code>[a-z0-9_-]+)(?:\s+(?P<value>[+-]?\d+(?:\.\d+)?))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Points that meet `condition` get `code`. `times`: for `repeated`; `value`: sent in place of NaN."""

    condition: str
    code: str
    times: int = 0
    value: float = 0.0

    def matches(
        self, power_w: NDArray[np.float64], capacity_w: float | None, runs: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """Return a mask of the points that meet the condition: (N,). Parameters as in `QualityRules.applied`."""
        # Functions, so that only the condition asked for is computed.
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
    """Ordered rules; without any, every point is `GOOD`, and NaN is dropped."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse rules as written in the settings; raises `ValueError` if one is invalid."""
        return cls(tuple(_parse_rule(part.strip()) for part in re.split(r"[,;\n]", text) if part.strip()))

    @property
    def codes(self) -> tuple[str, ...]:
        """All codes a point can have; a point's `quality` is an index into them."""
        return tuple(dict.fromkeys([GOOD, *(rule.code for rule in self.rules)]))

    @property
    def sends_nan(self) -> bool:
        """Whether NaN is sent, by a rule that replaces it."""
        return any(rule.condition == "nan" for rule in self.rules)

    @property
    def need_capacity(self) -> bool:
        """Whether codes depend on the resource's capacity."""
        return any(rule.condition == "above capacity" for rule in self.rules)

    @property
    def need_runs(self) -> bool:
        """Whether codes depend on how often a value is repeated."""
        return any(rule.condition == "repeated" for rule in self.rules)

    def applied(
        self, power_w: NDArray[np.float64], capacity_w: float | None, runs: tuple[int, int] = (1, 1)
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Return the values to send and the indices of their codes: (N,) each.

        `power_w`: (N,), measured mean W in order of time; `capacity_w`: of the resource, None if unknown; `runs`: as in
        `run_lengths`. If all indices are 0, they are broadcast, and take one byte.
        """
        if not self.rules:
            return power_w, repeated(np.uint8(0), len(power_w))
        codes = self.codes
        sent_w, quality = power_w, np.zeros(len(power_w), dtype=np.uint8)
        for rule in reversed(self.rules):  # so that the first rule that matches overrides later ones
            matches = rule.matches(power_w, capacity_w, runs)
            quality[matches] = codes.index(rule.code)
            if rule.condition == "nan":
                sent_w = np.where(matches, rule.value, sent_w)
        return sent_w, quality if quality.any() else repeated(np.uint8(0), len(power_w))


def run_lengths(power_w: NDArray[np.float64], runs: tuple[int, int]) -> NDArray[np.int64]:
    """Return for each value the length of the run of equal values that it is in: (N,).

    `runs`: the full lengths of the first and the last run, which may continue before and after these values.
    """
    begins = np.flatnonzero(np.append(True, power_w[1:] != power_w[:-1]))
    local_lengths = np.diff(begins, append=len(power_w))
    lengths = local_lengths.copy()
    lengths[0], lengths[-1] = max(lengths[0], runs[0]), max(lengths[-1], runs[1])
    return np.repeat(lengths, local_lengths)


def _parse_rule(text: str) -> Rule:
    match = _RULE.fullmatch(text)
    if not match:
        raise ValueError(
            f"'{text}' is not a rule: write 'zero → ESTIMATED', 'negative → …', 'above capacity → …', "
            "'repeated 24 times → …' or 'NaN → MISSING 0'"
        )
    condition = "repeated" if match["times"] else match["condition"].lower()
    if (condition == "nan") != bool(match["value"]):
        raise ValueError(f"'{text}': NaN needs a code and a value ('NaN → MISSING 0'), the others only a code")
    return Rule(condition, match["code"], int(match["times"] or 0), float(match["value"] or 0))
