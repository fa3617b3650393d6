"""The conversation in which an answer is criticised: the same tokens for whoever learns or writes
it.

The critic's instruction and the question come first and are shared by all answers to that question;
each row goes on with its own answer, a cue, the critique and the end token. Fine-tuning teaches
this conversation, the critic is trained on it, and its score is read at the end token.
"""

from __future__ import annotations

from dataclasses import dataclass

from drenpa.core.prompts import Prompt
from drenpa.engine.chat import Chat, Message

_MARK = "\ue002"  # a private-use character in the place of the answer


@dataclass(frozen=True)
class CritiqueChat:
    """Encodes criticism of answers under one prompt, which has the slots {question} and
    {answer}."""

    chat: Chat
    prompt: Prompt

    def encode(self, question: str, answer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the ids that all answers to the question share, and those of this answer and the
        cue.

        What follows is the critique and then `chat.end_id`, where the score is read.
        """
        text = self.prompt.fill({"question": question.replace(_MARK, ""), "answer": _MARK})
        before, after = self.chat.split_prompt([Message("user", text)], at=_MARK)
        return before, (*self.chat.text(answer), *after)
