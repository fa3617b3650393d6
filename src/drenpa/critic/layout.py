"""How a question, an answer and a critique become one row of tokens.

    instruction and question | answer, cue | critique | end
    ------- prefix --------- | ------------ suffix --------

All answers to a question share the prefix. The score is read at the end token, which stands after
the critique, or after the cue where there is none: in training, in scoring and in rereading alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drenpa.core.prompts import Prompt
from drenpa.engine.chat import Chat
from drenpa.engine.critiques import CritiqueChat
from drenpa.engine.prefix import PrefixGroup

SLOTS = ("question", "answer")


@dataclass(frozen=True)
class Asked:
    """A question under the critic's instruction, waiting for answers.

    prefix: ids up to where an answer begins.
    cue:    ids from the end of an answer to where its critique begins.
    room:   tokens an answer may have so that the whole row keeps to the limit; below 1 the question
            itself is too long.
    """

    prefix: tuple[int, ...]
    cue: tuple[int, ...]
    room: int


@dataclass(frozen=True)
class Read:
    """One answer as the critic reads it before it says anything.

    ids:   the answer and the cue.
    whole: false when the answer was cut to the question's room.
    """

    ids: tuple[int, ...]
    whole: bool


class Layout:
    """Lays rows out for one chat format and one instruction.

    max_length:          tokens of a whole row.
    max_critique_tokens: tokens kept free for a critique; 0 for a scorer that writes none.
    """

    def __init__(
        self, chat: Chat, prompt: Prompt, *, max_length: int, max_critique_tokens: int
    ) -> None:
        self.chat = chat
        self.criticism = CritiqueChat(chat, prompt)
        self.max_length = max_length
        self.max_critique_tokens = max_critique_tokens

    @property
    def end_id(self) -> int:
        """The token at which the score is read."""
        return self.chat.end_id

    def ask(self, question: str) -> Asked:
        """Put a question under the instruction."""
        prefix, cue = self.criticism.encode(question, "")
        room = self.max_length - len(prefix) - len(cue) - self.max_critique_tokens - 1
        return Asked(prefix, cue, room)

    def read(self, asked: Asked, answer: str) -> Read:
        """Put an answer to the question, cut at its end where the question leaves little room."""
        ids = self.chat.text(answer)
        room = max(asked.room, 0)
        return Read((*ids[:room], *asked.cue), len(ids) <= room)

    def critique(self, text: str) -> tuple[int, ...]:
        """Return a critique's ids, cut at the end where it is longer than critiques may be."""
        return self.chat.text(text)[: self.max_critique_tokens]

    def whole(self, text: str) -> bool:
        """Return whether a critique is no longer than critiques may be."""
        return len(self.chat.text(text)) <= self.max_critique_tokens

    def group(
        self, asked: Asked, answers: Sequence[Read], critiques: Sequence[Sequence[int]]
    ) -> PrefixGroup:
        """Return a question's rows, each closed by the end token."""
        return PrefixGroup(
            asked.prefix,
            tuple(
                (*answer.ids, *critique, self.end_id)
                for answer, critique in zip(answers, critiques, strict=True)
            ),
        )
