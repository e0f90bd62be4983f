"""What the VTN's answers have to say (contracts §3): read leniently, and believed only where it fits the request."""

from typing import Self

import msgspec
import requests

from venclient.errors import PermanentError, RejectedError, TooLargeError, UnreadableAnswerError
from venclient.wires.answers import shown
from venclient.wires.http import answer_of
from venclient.wires.lenient_json import decoded

POINTS_REFUSED = frozenset({400, 422})
TOO_LARGE = 413

Scalar = int | float | str | bool | None


class Anything(msgspec.Struct):
    """An object of which nothing is needed."""


class BulkAnswer(msgspec.Struct):
    """What a 200 or 201 says of the points that were sent."""

    entries_created: Scalar = None
    resource_id: Scalar = None

    def names(self, vtn_resource_id: str) -> bool:
        """Whether it is said to be about this resource; a VTN may write a UUID in capitals or not."""
        return _text(self.resource_id).casefold() == vtn_resource_id.strip().casefold()

    def require_all_taken(self, vtn_resource_id: str, points: int, status: int) -> None:
        """Raises unless this answers a request of so many points, and the VTN has taken every one of them."""
        taken = _whole_number(self.entries_created)
        if taken is None:
            raise UnreadableAnswerError("The VTN does not say how many points it took", status)
        if _text(self.resource_id) and not self.names(vtn_resource_id):
            raise UnreadableAnswerError(
                f"The answer is not to this request: it names resource {shown(_text(self.resource_id))}", status
            )
        if not 0 <= taken <= points:
            raise UnreadableAnswerError(
                f"The answer is not to this request: it says that {shown(str(taken))} of {points} points were taken",
                status,
            )
        if taken < points:
            raise RejectedError(f"The VTN says that it took {taken} of {points} points", status)


class Resource(msgspec.Struct):
    """A resource as the VTN tells of it."""

    id: Scalar = None
    external_resource_id: Scalar = None

    @classmethod
    def in_refusal(cls, content: bytes) -> Self:
        """What the answer that a resource exists may tell of it, be it nothing."""
        try:
            return decoded(content, cls)
        except ValueError:
            return cls()

    @property
    def vtn_id(self) -> str:
        """The VTN's id of it, or nothing."""
        return _text(self.id)

    @property
    def external_id(self) -> str:
        """What it was registered as, or nothing."""
        return _text(self.external_resource_id)


def bulk_answer(response: requests.Response, content: bytes) -> BulkAnswer:
    """What the answer says of the points; raises as `answer_of`, and what is about these points as errors of theirs."""
    try:
        answer: BulkAnswer = answer_of(response, content, BulkAnswer)
    except PermanentError as error:
        if error.status == TOO_LARGE:
            raise TooLargeError(str(error), error.status) from error
        if error.status in POINTS_REFUSED:
            raise RejectedError(str(error), error.status) from error
        raise
    return answer


def _whole_number(said: Scalar) -> int | None:
    """Also where it is said as `48.0` or `"48"`."""
    if said is None or isinstance(said, bool):
        return None
    try:
        number = float(said)
    except (ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() else None


def _text(said: Scalar) -> str:
    """An id, also where it is a number; nothing for what is none."""
    if said is None or isinstance(said, bool):
        return ""
    return str(int(said) if isinstance(said, float) and said.is_integer() else said).strip()
