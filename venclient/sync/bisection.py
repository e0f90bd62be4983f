"""Bisection of requests in which the VTN refuses points, down to the single points that it refuses."""


class RejectedPointBisection:
    """Chooses the size of each request, from the first point to the last, by the outcome of the ones before.

    After a refused request its first half is tried, and so on down to a single point, which is tried twice. From there
    the size doubles with each accepted request, because refused points are often adjacent.
    """

    def __init__(self) -> None:
        # The next so many points contain a refused one.
        self._known_bad = 0
        self._growing: int | None = None
        self._is_second_try = False

    def size(self, usual: int) -> int:
        """Number of points of the next request, at most `usual`."""
        if self._known_bad:
            return min(max(1, self._known_bad // 2), usual)
        return min(self._growing or usual, usual)

    def taken(self, points: int) -> None:
        """Record that a request with so many points was accepted."""
        self._is_second_try = False
        if self._known_bad:
            self._known_bad -= points
        elif self._growing:
            self._growing *= 2

    def refused(self, points: int) -> bool:
        """Record that a request was refused; returns whether that was the second try of one point, to be skipped."""
        if points > 1 or not self._is_second_try:
            self._known_bad, self._is_second_try = points, points == 1
            return False
        self._known_bad, self._growing, self._is_second_try = 0, 1, False
        return True
