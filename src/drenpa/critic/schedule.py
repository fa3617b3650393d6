"""Which rankings a step of the critic's training takes, and which of them teach what.

As a rule every ranking teaches the critic to write and its head to score. But on answers whose
critiques it has learned by heart the critic writes what people said, verdict and all, and a head
that reads this learns to trust it as it could trust people. So some rankings may stand *apart*:
their critiques are never learned, and what the critic writes of them is as good, or as bad, as what
it will write at work. The head then learns from these alone, in the own epochs, while the others
go on teaching the critic to write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Shuffled = Callable[..., Sequence[int]]
"""Takes a count and what names the shuffle; returns the places below the count in that order."""


@dataclass(frozen=True)
class Schedule:
    """The epochs of one training.

    taught:     numbers of the rankings whose critiques are learned by heart.
    apart:      numbers of those that stand apart; where there are none, the taught ones do both.
    batch:      rankings a step, of either sort.
    epochs:     once through the taught ones.
    own_epochs: after these, once through those that stand apart.
    """

    taught: tuple[int, ...]
    apart: tuple[int, ...]
    batch: int
    epochs: int
    own_epochs: int

    @property
    def steps(self) -> int:
        """Return the steps of the whole training."""
        return sum(self.steps_in(epoch) for epoch in range(self.epochs + self.own_epochs))

    def steps_in(self, epoch: int) -> int:
        """Return the steps of an epoch."""
        return -(-len(self._once_through(epoch)) // self.batch)

    def turn(self, step: int) -> tuple[int, int]:
        """Return the epoch of a step, and the step's place in it.

        >>> schedule = Schedule(taught=(0, 1, 2), apart=(3,), batch=2, epochs=1, own_epochs=2)
        >>> [schedule.turn(step) for step in range(schedule.steps)]
        [(0, 0), (0, 1), (1, 0), (2, 0)]
        """
        epoch = 0
        while step >= self.steps_in(epoch):
            step -= self.steps_in(epoch)
            epoch += 1
        return epoch, step

    def rankings(self, epoch: int, place: int, shuffled: Shuffled) -> list[int]:
        """Return the numbers of a step's rankings.

        Each epoch goes through its rankings once, in an order of its own. Where rankings stand
        apart, as many taught ones stand beside them, going round.
        """
        numbers = self._once_through(epoch)
        order = shuffled(len(numbers), "order", epoch)
        chosen = [numbers[n] for n in order[place * self.batch : (place + 1) * self.batch]]
        if not self.scores_apart(epoch):
            return chosen
        before = (epoch - self.epochs) * len(self.apart) + place * self.batch
        for n in range(before, before + len(chosen)):
            turn, at = divmod(n, len(self.taught))
            chosen.append(self.taught[shuffled(len(self.taught), "beside", turn)[at]])
        return chosen

    def scores_apart(self, epoch: int) -> bool:
        """Say whether an epoch's pairs are those of the rankings that stand apart."""
        return bool(self.apart) and epoch >= self.epochs

    def only_teaches(self, number: int) -> bool:
        """Say whether a ranking forms no pairs, since others stand apart to do so."""
        return bool(self.apart) and number not in self.apart

    def _once_through(self, epoch: int) -> tuple[int, ...]:
        return self.apart if self.scores_apart(epoch) else self.taught
