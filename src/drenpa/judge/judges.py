"""What a judge is given, what it says, and the one interface of all judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from drenpa.core.knowledge import DIMENSIONS, Dimension

Read = Literal["", "as asked", "mended", "asked again"]


@dataclass(frozen=True)
class Case:
    """An answer to be judged.

    reference: an answer known to be good, or "" where there is none; only judges that say so in
               their card look at it.
    finish:    "length" when the answer was cut off at the token limit.
    repeat:    which of several opinions on the same answer is asked for.
    """

    question: str
    answer: str
    reference: str = ""
    language: str = "en"
    finish: Literal["stop", "length"] = "stop"
    repeat: int = 0


@dataclass(frozen=True)
class Opinion:
    """What a judge said: scores from 0 to 2, and why those that are missing are missing.

    unscored: one reason for everything that `scores` lacks; "" when nothing is lacking.
    read:     how the judge's reply was read; "" where there was no reply to read.
    """

    scores: Mapping[Dimension, float] = field(default_factory=dict)
    thoughts: str = ""
    unscored: str = ""
    read: Read = ""

    def __post_init__(self) -> None:
        lacking = [dimension for dimension in DIMENSIONS if dimension not in self.scores]
        if bool(lacking) != bool(self.unscored):
            raise ValueError(f"scores lack {lacking} but the reason given is {self.unscored!r}")


class Judge(Protocol):
    """Judges answers one by one, in any order it likes.

    name:     what stands in every verdict; two judges that could disagree have two names.
    card:     one paragraph on what it looks at and what it cannot see, for the report.
    sees:     the dimensions that it is meant to score; others are unscored by design.
    identity: everything beside the case that its opinion depends on, as plain JSON values.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def card(self) -> str: ...  # noqa: D102

    @property
    def sees(self) -> tuple[Dimension, ...]: ...  # noqa: D102

    @property
    def identity(self) -> Mapping[str, Any]: ...  # noqa: D102

    def judge(self, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
        """Yield (place of the case, opinion) as each is ready, every case exactly once.

        A case that cannot be judged gets an opinion that says so; what makes every case fail
        (no key, no such model) is raised.
        """
        ...
