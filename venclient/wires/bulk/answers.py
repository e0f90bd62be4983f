"""Answers of the bulk VTN (docs/interfaces.md §3): read leniently, and accepted only if they match the request."""

from typing import Self

import msgspec
import requests

from venclient.errors import PermanentError, RejectedError, TooLargeError, UnreadableAnswerError
from venclient.wires.answers import excerpt
from venclient.wires.http import POINTS_REFUSED, TOO_LARGE, answer_of
from venclient.wires.lenient_json import as_number, decoded

Scalar = int | float | str | bool | None


class Anything(msgspec.Struct):
    """A JSON object of which no field is needed."""


class BulkAnswer(msgspec.Struct):
    """The body of a 200 or 201 from the bulk endpoint."""

    entries_created: Scalar = None
    resource_id: Scalar = None

    def names(self, vtn_resource_id: str) -> bool:
        """Whether the response names this resource; VTNs may write a UUID in upper or lower case."""
        return _text(self.resource_id).casefold() == vtn_resource_id.strip().casefold()

    def require_all_taken(self, vtn_resource_id: str, points: int, status: int) -> None:
        """Raise unless the response is for a request with so many points and the VTN accepted every one of them."""
        taken = _whole_number(self.entries_created)
        if taken is None:
            raise UnreadableAnswerError("The VTN does not say how many points it took", status)
        # The id may be missing, but a different one means that this is the response to another request.
        if _text(self.resource_id) and not self.names(vtn_resource_id):
            raise UnreadableAnswerError(
                f"The answer is not to this request: it names resource {excerpt(_text(self.resource_id))}", status
            )
        if not 0 <= taken <= points:
            raise UnreadableAnswerError(
                f"The answer is not to this request: it says that {excerpt(str(taken))} of {points} points were taken",
                status,
            )
        if taken < points:
            raise RejectedError(f"The VTN says that it took {taken} of {points} points", status)


class Resource(msgspec.Struct):
    """A resource in a response."""

    id: Scalar = None
    external_resource_id: Scalar = None

    @classmethod
    def in_refusal(cls, content: bytes) -> Self:
        """The resource in a response that says that it exists; empty if that has none."""
        try:
            return decoded(content, cls)
        except ValueError:
            return cls()

    @property
    def vtn_id(self) -> str:
        """The VTN's id of the resource, with any blanks at its edges; empty if absent."""
        return self.id if isinstance(self.id, str) and self.id.strip() else _text(self.id)

    @property
    def external_id(self) -> str:
        """The external id that it was registered with; empty if absent."""
        return _text(self.external_resource_id)


def bulk_answer(response: requests.Response, content: bytes, points: int) -> BulkAnswer:
    """Decode the response of the bulk endpoint to a request with so many points.

    Raises as `answer_of` does, but `TooLargeError` or `RejectedError` for statuses that concern the points.
    """
    try:
        answer: BulkAnswer = answer_of(response, content, BulkAnswer)
    except PermanentError as error:
        if error.status == TOO_LARGE:
            even_one = ". Even a request with a single point is too large for it" if points == 1 else ""
            raise TooLargeError(f"{error}{even_one}", error.status) from error
        if error.status in POINTS_REFUSED:
            raise RejectedError(str(error), error.status) from error
        raise
    return answer


def _whole_number(value: Scalar) -> int | None:
    """A whole number, also if it is written as `48.0` or `"48"`; None for anything else."""
    number = as_number(value)
    return int(number) if number.is_integer() else None


def _text(value: Scalar) -> str:
    """An id as text, also if it is a number; empty for anything else."""
    if value is None or isinstance(value, bool):
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
