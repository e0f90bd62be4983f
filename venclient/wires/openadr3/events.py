"""The program and the event that reports are for: found by name, or created where the client may."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock

import msgspec
import orjson

from venclient.errors import (
    ConfigurationError,
    NotFoundError,
    PermanentError,
    TransientError,
    VenClientError,
)
from venclient.wires.auth import TokenSource
from venclient.wires.openadr3.calls import Object, StandardCalls, segment
from venclient.wires.openadr3.form import QUALITY, UNITS, Event, PayloadType, Version


class ReportDescriptor(msgspec.Struct):
    """What an event asks for."""

    payload_type: str = msgspec.field(name="payloadType")
    units: str | None = None


class ListedProgram(Object):
    """A program in a list."""

    name: str | None = msgspec.field(name="programName", default=None)


class ListedEvent(Object):
    """An event in a list."""

    program_id: str | int = msgspec.field(name="programID", default="")
    name: str | None = msgspec.field(name="eventName", default=None)
    descriptors: list[ReportDescriptor] | None = msgspec.field(name="reportDescriptors", default=None)


@dataclass(frozen=True, slots=True)
class EventNames:
    """By which names the program and the event are found."""

    program: str = "meter-history"
    event: str = "meter-history"


def program_body(names: EventNames) -> dict[str, object]:
    """The body of `POST /programs` (docs/other-vtns.md)."""
    return {"programName": names.program}


def event_body(names: EventNames, program_id: str, version: Version) -> dict[str, object]:
    """The body of `POST /events` (docs/other-vtns.md)."""
    descriptor: dict[str, object] = {
        "payloadType": "USAGE", "readingType": "DIRECT_READ", "units": "KWH", "historical": True, "frequency": 0,
        "repeat": -1,
    }  # fmt: skip
    body: dict[str, object] = {"programID": program_id, "eventName": names.event, "reportDescriptors": [descriptor]}
    if version == "3.0.1":
        return {**body, "intervals": []}
    return {**body, "reportDescriptors": [{**descriptor, "reportIntervals": "OPEN_INTERVALS"}]}


class EventMissingError(ConfigurationError):
    """The VTN does not have the event that reports are for."""


class ReportEvent:
    """The event of all reports, looked for once. Raises `EventMissingError` if it does not exist.

    `on_found`: called with it. `created`: what had to be created for it, in words.
    """

    def __init__(
        self, calls: StandardCalls, names: EventNames, version: Version, on_found: Callable[[Event], object]
    ) -> None:
        self._calls = calls
        self._names = names
        self._version = version
        self._on_found = on_found
        self.created: list[str] = []
        self._found: Event | None = None
        self._lock = Lock()

    def get(self, tokens: TokenSource) -> Event:
        """Return the event, found by name; `tokens`: of a client that may see it."""
        with self._lock:
            if self._found is None:
                self._keep(self._look(tokens))
            if self._found is None:
                raise self._missing("")
            return self._found

    def get_or_create(self, tokens: TokenSource) -> Event:
        """Return the event, after creating it and its program if this client may."""
        with self._lock:
            if self._found is None:
                self._keep(self._look(tokens))
            if self._found is None:
                try:
                    self._keep(self._create(tokens))
                except PermanentError as error:
                    raise self._missing(f", and it cannot be created by this client ({error})") from error
                except TransientError as error:
                    message = f"The VTN does not create event '{self._names.event}': {error}"
                    raise ConfigurationError(message) from error
            assert self._found is not None
            return self._found

    def require(self, tokens: TokenSource) -> None:
        """Raise `EventMissingError` if the event has been deleted."""
        event = self.get(tokens)
        try:
            self._calls.get(f"/events/{segment(event.event_id)}", tokens, Object)
        except NotFoundError as error:
            # It may be the 404 of a proxy, or of an address that the VTN does not have: what it lists is there.
            if self._find(tokens) != event:
                raise self._missing(f" any more: the reports are of event {event.event_id}") from error

    def _keep(self, event: Event | None) -> None:
        if event is not None:
            self._found = event
            self._on_found(event)

    def _look(self, tokens: TokenSource) -> Event | None:
        """As `_find`; raises `ConfigurationError` if the VTN does not say what it has: it is the same for all loads."""
        try:
            return self._find(tokens)
        except (PermanentError, TransientError) as error:
            raise ConfigurationError(f"The VTN does not list its programs and events: {error}") from error

    def _find(self, tokens: TokenSource) -> Event | None:
        program_id = self._find_program(tokens)
        return self._find_event(program_id, tokens) if program_id else None

    def _find_event(self, program_id: str, tokens: TokenSource) -> Event | None:
        events = self._calls.pages("/events", {"programID": program_id}, tokens, ListedEvent, lambda event: event)
        # Names are compared here, as there is no filter for them. Some VTNs list the events of all programs.
        ours = (each for each in events if each.name == self._names.event and str(each.program_id) == program_id)
        found = next(ours, None)
        return _as_event(found) if found else None

    def _find_program(self, tokens: TokenSource) -> str | None:
        programs = self._calls.pages("/programs", {}, tokens, ListedProgram, lambda program: program)
        return next((each.object_id for each in programs if each.name == self._names.program), None)

    def _create(self, tokens: TokenSource) -> Event:
        find_program = partial(self._find_program, tokens)
        program_id = find_program()
        if program_id is None:
            program_id, is_ours = self._calls.create(
                "/programs", self._names.program, program_body(self._names), tokens, find_program
            )
            if program_id is None:
                raise PermanentError("a program of this name is there, and this client may not see it")
            if is_ours:
                self.created.append(f"program '{self._names.program}'")

        def find_event() -> str | None:
            found = self._find_event(program_id, tokens)
            return found.event_id if found else None

        event_id, is_ours = self._calls.create(
            "/events", self._names.event, event_body(self._names, program_id, self._version), tokens, find_event
        )
        if event_id is None:
            raise PermanentError("an event of this name is there, and this client may not see it")
        if is_ours:
            self.created.append(f"event '{self._names.event}'")
        return Event(event_id, program_id)

    def _missing(self, more: str) -> VenClientError:
        program = f" of program '{self._names.program}'"
        return EventMissingError(f"The VTN has no event '{self._names.event}'{program}{more}").advised("no event")


def bodies_for_operator(names: EventNames, version: Version) -> str:
    """What the VTN's operator has to post, as two lines."""
    program = orjson.dumps(program_body(names)).decode()
    event = orjson.dumps(event_body(names, "<id of the program>", version)).decode()
    return f"POST /programs {program}\nPOST /events {event}"


def _as_event(event: ListedEvent) -> Event:
    """What the event asks for: energy unless it asks for demand alone."""
    asked = {descriptor.payload_type: descriptor.units for descriptor in event.descriptors or ()}
    payload_type: PayloadType = "DEMAND" if "DEMAND" in asked and "USAGE" not in asked else "USAGE"
    units = asked.get(payload_type)
    if units not in (None, UNITS[payload_type]):
        raise ConfigurationError(
            f"Event {event.object_id} asks for {payload_type} in {units}; reports have it in {UNITS[payload_type]}"
        )
    return Event(event.object_id, str(event.program_id), payload_type, QUALITY in asked)
