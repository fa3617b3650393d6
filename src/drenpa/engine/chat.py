"""Conversations as token ids, with the words of users and models kept apart from the template's.

The text of a message is data: if it contains `<|im_end|>`, that is nine characters and not the end
of the turn. So the template is rendered around placeholders, its own pieces are tokenised with
their special tokens, and each message's text without any.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from jinja2 import TemplateError

from drenpa.core.errors import ModelError

_OPEN, _CLOSE = "\ue000", "\ue001"  # private-use characters that no template contains
_MARK = re.compile(f"{_OPEN}[0-9]+{_CLOSE}")

FALLBACK_TEMPLATE = (
    "{% for message in messages %}{{ '### ' + message['role'] + '\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant\n' }}{% endif %}"
)
"""For a tokenizer that brings no chat template: plain headings, and its end token after answers."""

DAY = datetime(2024, 7, 26)
"""What a chat template takes for today, so that a prompt is the same on every day; it is the date
that Llama's own take where they are told none."""
_CLOCK = "strftime_now"  # what transformers gives templates to ask for the time
_TIMES = [f"%{letter}" for letter in (*"aAbBcdDeFHIjmMpSTuxXyY", "-d", "-m")]
_STOPPED = (
    f"{{%- macro {_CLOCK}(format) -%}}{{{{ format"
    + "".join(f"|replace('{time}', '{DAY.strftime(time)}')" for time in _TIMES)
    + " }}{%- endmacro +%}"
)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Chat:
    """Encodes conversations for one tokenizer.

    stop_ids: the tokens that end an answer.
    end_id:   the one that training puts after an answer.
    takes_system: whether the template has a place for a system message; where it has none
                  (Gemma's),
              the instruction stands before the user's first words.
    """

    def __init__(self, tokenizer: Any) -> None:
        """raises: ModelError when the tokenizer has no token that could end an answer, or its chat
        template cannot be used."""
        self.tokenizer = tokenizer
        self.has_template = bool(tokenizer.chat_template)
        template = tokenizer.chat_template if self.has_template else FALLBACK_TEMPLATE
        # A macro, since transformers hands no functions on to templates.
        self._template = _STOPPED + template if _CLOCK in template else template
        answer = [Message("user", "q"), Message("assistant", "a")]
        after = self._pieces(answer, reply=False)[-1]
        ending = self._template_ids(after)
        # A template may close turns with a special token that the tokenizer gives no role.
        added = tokenizer.added_tokens_decoder.items()
        special = {number for number, token in added if token.special} | {
            *tokenizer.all_special_ids
        }
        ends = [token for token in ending if token in special]
        if not ends and tokenizer.eos_token_id is None:
            raise ModelError(
                "the tokenizer has neither an end token nor a chat template that closes a turn; "
                "set tokenizer.eos_token"
            )
        self.end_id: int = ends[0] if ends else tokenizer.eos_token_id
        self.stop_ids = frozenset({self.end_id, tokenizer.eos_token_id} - {None})
        self.takes_system = self._renders([Message("system", "s"), Message("user", "q")])

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the ids of a conversation up to where the assistant's answer begins."""
        messages = self._accepted(messages)
        return tuple(self._ids(messages, self._pieces(messages, reply=True)))

    def text(self, text: str) -> tuple[int, ...]:
        """Return the ids of plain text; special tokens written in it are only characters."""
        return tuple(
            self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        )

    def split_prompt(
        self, messages: Sequence[Message], *, at: str
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the ids before and after the mark `at` in the last message, for a text put there.

        Rows that differ only in that text share what comes before it: `before` is their prefix, and
        each row goes on with the ids of its own text and `after`.

        raises: ValueError unless the last message contains the mark once.
        """
        messages = self._accepted(messages)
        head, mark, tail = messages[-1].content.partition(at)
        if not mark or at in tail:
            raise ValueError(f"the last message must contain the mark {at!r} once")
        pieces = self._pieces(messages, reply=True)
        before = self._ids(messages[:-1], pieces[:-1])
        return (
            (*before, *self.text(head)),
            (*self.text(tail), *self._template_ids(pieces[-1])),
        )

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of sampled ids, without special tokens and surrounding space."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text.strip()

    def _renders(self, messages: Sequence[Message]) -> bool:
        try:
            self._pieces(messages, reply=True)
        except ModelError:
            return False
        return True

    def _accepted(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Put a system message before the user's first words where the template takes none."""
        if self.takes_system or len(messages) < 2 or messages[0].role != "system":
            return messages
        system, first, *rest = messages
        return [Message(first.role, f"{system.content}\n\n{first.content}"), *rest]

    def _pieces(self, messages: Sequence[Message], *, reply: bool) -> list[str]:
        """Render the template around the messages and return what it writes between their texts."""
        marks = [f"{_OPEN}{number}{_CLOSE}" for number in range(len(messages))]
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                [
                    {"role": message.role, "content": mark}
                    for message, mark in zip(messages, marks, strict=True)
                ],
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=reply,
            )
        except TemplateError as error:
            raise ModelError(
                f"the tokenizer's chat template refuses a conversation of "
                f"{', '.join(message.role for message in messages)}: {error}"
            ) from error
        if _MARK.findall(rendered) != marks:
            raise ModelError(
                "the chat template leaves a message out, changes or repeats it; drenpa needs "
                "system, user and assistant turns to appear as they are"
            )
        return _MARK.split(rendered)

    def _ids(self, messages: Sequence[Message], pieces: Sequence[str]) -> list[int]:
        ids = self._template_ids(pieces[0])
        for message, piece in zip(messages, pieces[1:], strict=True):
            ids += [*self.text(message.content), *self._template_ids(piece)]
        return ids

    def _template_ids(self, piece: str) -> list[int]:
        if not piece:
            return []
        ids: list[int] = self.tokenizer(piece, add_special_tokens=False)["input_ids"]
        return ids
