"""What a report says apart from its points: for which event, as which payload, and with which quality codes."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Self

import msgspec
import orjson

from venclient.models import StoredReport

Version = Literal["3.1", "3.0.1"]
PayloadType = Literal["USAGE", "DEMAND"]

UNITS: Mapping[PayloadType, str] = {"USAGE": "KWH", "DEMAND": "KW"}
QUALITY = "DATA_QUALITY"
OK = "OK"
# Quality codes of points as values of `DATA_QUALITY`; others are sent as they are (docs/other-vtns.md).
QUALITIES: Mapping[str, str] = MappingProxyType(
    {"GOOD": OK, "ESTIMATED": "ESTIMATED", "MISSING": "MISSING", "BAD": "BAD", "SUSPECT": "BAD"}
)
MAX_NAME_BYTES = 128


@dataclass(frozen=True, slots=True)
class Event:
    """The event that reports are for, and what its descriptors ask for."""

    event_id: str
    program_id: str
    payload_type: PayloadType = "USAGE"
    quality_everywhere: bool = False

    def as_kept(self) -> StoredReport:
        """Return what is kept of the event between runs, for a plan."""
        return StoredReport(msgspec.json.encode(self).decode(), self.event_id, b"")

    @classmethod
    def of_kept(cls, kept: StoredReport | None) -> Self:
        """Return the event that an earlier run has found; one that asks for nothing if there was none."""
        return msgspec.json.decode(kept.report_id, type=cls) if kept else cls("", "")


@dataclass(frozen=True, slots=True)
class Form:
    """The form of reports. `packed`: one interval holds all points of the same quality that follow each other."""

    version: Version
    event: Event
    qualities: Mapping[str, str] = field(default_factory=lambda: QUALITIES)
    packed: bool = False

    @property
    def units(self) -> str:
        """The units of the values."""
        return UNITS[self.event.payload_type]

    @property
    def reading_type(self) -> str:
        """How the values were obtained: a demand is the mean power of the interval."""
        return "DIRECT_READ" if self.event.payload_type == "USAGE" else "MEAN"

    def quality_of(self, code: str) -> str:
        """Return the value of `DATA_QUALITY` for a quality code."""
        return self.qualities.get(code, code)

    def digest(self, client_name: str, max_body_bytes: int, resource_name: str | None = None) -> bytes:
        """Return a digest of all that shapes the reports of a resource, except their points; 16 bytes.

        Older ledgers have it without the name of the resource.
        """
        shape = [
            self.version, self.event.payload_type, self.event.quality_everywhere, sorted(self.qualities.items()),
            self.packed, client_name, max_body_bytes,
        ]  # fmt: skip
        if resource_name is not None:
            shape.append(resource_name)
        return hashlib.sha256(orjson.dumps(shape)).digest()[:16]


def parsed_qualities(text: str) -> Mapping[str, str]:
    """Return `QUALITIES` with the codes of a text such as `EXPORT → OK, TEST → BAD`; raises `ValueError`."""
    pairs = [re.split(r"\s*(?:→|->)\s*", part.strip()) for part in text.split(",") if part.strip()]
    if not all(len(pair) == 2 and all(0 < len(name) <= MAX_NAME_BYTES for name in pair) for pair in pairs):
        raise ValueError("write 'EXPORT → OK, TEST → BAD'")
    return {**QUALITIES, **dict(pairs)}


def shortened(name: str) -> str:
    """Return the name, with its end replaced by a digest if it has more than 128 bytes of UTF-8."""
    encoded = name.encode()
    if len(encoded) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return f"{encoded[: MAX_NAME_BYTES - 17].decode(errors='ignore')}~{digest}"
