"""Where the seconds of a run go."""

import time
from collections.abc import Mapping

__all__ = ["Clock"]


class Clock:
    """Splits the time since a start into named laps. The system's date may jump: it is not asked for.

    Args:
      started: a time of `time.perf_counter`.
    """

    def __init__(self, started: float):
        self.started = self._last = started
        self.seconds: dict[str, float] = {}
        self._earlier = 0.0

    def lap(self, name: str) -> None:
        """Gives the time since the last lap this name."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    def move(self, source: str, target: str, seconds: float) -> None:
        """Counts seconds of one lap as another's; no more than the one has."""
        moved = min(seconds, self.seconds[source])
        self.seconds[source] -= moved
        self.seconds[target] = self.seconds.get(target, 0.0) + moved

    def total(self) -> dict[str, float]:
        """All laps so far, and the whole."""
        laps = self.seconds | {"total": self._earlier + time.perf_counter() - self.started}
        return {name: round(seconds, 3) for name, seconds in laps.items()}

    def go_on(self, earlier: Mapping[str, float]) -> None:
        """Adds what `total` said when the run was interrupted."""
        self._earlier += earlier.get("total", 0.0)
        for name, seconds in earlier.items():
            if name != "total":
                self.seconds[name] = self.seconds.get(name, 0.0) + seconds
