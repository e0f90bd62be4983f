"""Which objects a request is about, as a condition of SQL."""

from collections.abc import Iterator
from dataclasses import dataclass

# Of the VENs and resources of a client: what the programs and events have to be open to (§ targets of version 3.1).
_OPEN_TO = """(targets IS NULL OR EXISTS (
    SELECT 1 FROM json_each(objects.targets) AS wanted JOIN objects AS own, json_each(own.targets) AS granted
    WHERE own.type IN ('VEN', 'RESOURCE') AND own.client_id = ? AND granted.value = wanted.value
))"""
_HAS_TARGET = "EXISTS (SELECT 1 FROM json_each(objects.targets) WHERE value IN ({marks}))"
_HAS_TYPED_TARGET = """EXISTS (
    SELECT 1 FROM json_each(objects.targets) AS target, json_each(target.value, '$.values') AS given
    WHERE json_extract(target.value, '$.type') = ? AND given.value IN ({marks})
)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What an object has to be; None and an empty tuple: anything.

    `owners` are client ids, of which "" is no client's. `open_to` is the client whose VENs and resources have a target
    of the object, if it has any. `targets` are strings of version 3.1, and with `target_type` those of 3.0.1.
    """

    owners: tuple[str, ...] = ()
    name: str | None = None
    program_id: str | None = None
    event_id: str | None = None
    ven_id: str | None = None
    client_name: str | None = None
    client_name_part: str | None = None
    open_to: str | None = None
    target_type: str | None = None
    targets: tuple[str, ...] = ()

    def condition(self) -> tuple[str, tuple[str, ...]]:
        """The condition, and the values of its parameters."""
        parts = list(self._parts())
        return " AND ".join(["TRUE", *(sql for sql, _ in parts)]), tuple(each for _, values in parts for each in values)

    def _parts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        if self.owners:
            yield f"client_id IN ({_marks(self.owners)})", self.owners
        for column in ("name", "program_id", "event_id", "ven_id", "client_name"):
            value: str | None = getattr(self, column)
            if value is not None:
                yield f"{column} = ?", (value,)
        if self.client_name_part is not None:
            yield "instr(client_name, ?)", (self.client_name_part,)
        if self.open_to is not None:
            yield _OPEN_TO, (self.open_to,)
        if self.targets and self.target_type is None:
            yield _HAS_TARGET.format(marks=_marks(self.targets)), self.targets
        elif self.targets and self.target_type is not None:
            yield _HAS_TYPED_TARGET.format(marks=_marks(self.targets)), (self.target_type, *self.targets)


def _marks(values: tuple[str, ...]) -> str:
    return ", ".join("?" * len(values))
