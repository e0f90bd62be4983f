"""How many points the next request has, while the VTN refuses some: what is refused is cut down to single points."""


class RejectedPointBisection:
    """Goes through points from the first to the last; tell it what became of each request.

    A refused request holds a point that is refused, and its first half is tried next, until that is one point, which is
    tried twice. After it the requests grow again, for refused points stand together more often than not.
    """

    def __init__(self) -> None:
        self._known_bad = 0
        self._growing: int | None = None
        self._is_sure = False

    def size(self, usual: int) -> int:
        """Points of the next request, where it would have `usual` ones."""
        if self._known_bad:
            return min(max(1, self._known_bad // 2), usual)
        return min(self._growing or usual, usual)

    def taken(self, points: int) -> None:
        """A request of so many points went through: what is known to be bad begins after them."""
        self._is_sure = False
        if self._known_bad:
            self._known_bad -= points
        elif self._growing:
            self._growing *= 2

    def refused(self, points: int) -> bool:
        """One of so many points was refused; whether that is the point itself, for sure: then it is passed by."""
        if points > 1 or not self._is_sure:
            self._known_bad, self._is_sure = points, points == 1
            return False
        self._known_bad, self._growing, self._is_sure = 0, 1, False
        return True
