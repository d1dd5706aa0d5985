"""Means of values over the steps of an epoch."""

from collections.abc import Mapping


class RunningMeans:
    """Running means of named values over an epoch; a checkpoint stores their sums.

    Attributes:
      sums: sum of each value, and the number of steps as "count".
    """

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        self.sums = dict(sums or {})

    def add(self, values: Mapping[str, float]) -> None:
        """Adds the values of one step."""
        for name, value in {**values, "count": 1.0}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """Returns the means so far and starts a new epoch."""
        count = self.sums.pop("count", 1.0)
        means = {name: value / count for name, value in self.sums.items()}
        self.sums = {}
        return means
