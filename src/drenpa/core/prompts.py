"""Prompts as files, filled in one pass.

A prompt is Markdown with slots in braces: `{question}`. Filling replaces slots once, from left to
right, and never looks at what it put in, so a question that itself contains `{answer}`, JSON or
unbalanced braces is safe. Braces that do not enclose a plain lower-case name are left as they are,
so a prompt may show JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from drenpa.core.errors import PromptError, did_you_mean

_SLOT = re.compile(r"\{([a-z][a-z_0-9]*)\}")


@dataclass(frozen=True)
class Prompt:
    """A template and where it came from."""

    name: str
    text: str

    @property
    def slots(self) -> tuple[str, ...]:
        """The slot names in order of first appearance.

        >>> Prompt("p", "{b} then {a} then {b}, not {JSON: 1}").slots
        ('b', 'a')
        """
        return tuple(dict.fromkeys(_SLOT.findall(self.text)))

    def fill(self, values: Mapping[str, str]) -> str:
        """Put `values` into the slots, each looked at once.

        >>> Prompt("p", "Q: {question}").fill({"question": "what is {answer}?"})
        'Q: what is {answer}?'

        raises: PromptError when a slot gets no value or a value has no slot.
        """
        missing = [slot for slot in self.slots if slot not in values]
        unknown = [name for name in values if name not in self.slots]
        if missing:
            raise PromptError(f"prompt {self.name}: no value for slot {{{missing[0]}}}")
        if unknown:
            hint = did_you_mean(unknown[0], self.slots)
            raise PromptError(f"prompt {self.name}: it has no slot {{{unknown[0]}}}{hint}")
        return _SLOT.sub(lambda match: values[match.group(1)], self.text)


def load_prompt(name: str, language: str = "en", *, slots: tuple[str, ...] = ()) -> Prompt:
    """Read a prompt by the name of one that ships with drenpa, or by the path of a file of one's
    own.

    name:     `answer`, `critique`, …, or a path that ends in `.md`.
    language: of the shipped prompt; a language that has none gets the English one.
    slots:    the slots it must have, no more and no fewer.
    raises:   PromptError when there is no such prompt, or its slots are others.
    """
    if name.endswith(".md"):
        path = Path(name)
        if not path.is_file():
            raise PromptError(f"{name}: no such prompt file")
        try:
            prompt = Prompt(name, path.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise PromptError(f"{name}: cannot be read as UTF-8 text ({error})") from error
    else:
        folder = resources.files("drenpa.core") / "prompts"
        known = sorted(
            {entry.name.split(".")[0] for entry in folder.iterdir() if entry.name.endswith(".md")}
        )
        if name not in known:
            hint = did_you_mean(name, known)
            raise PromptError(f"no prompt is named '{name}' (there are {', '.join(known)}){hint}")
        file = folder / f"{name}.{language}.md"
        if not file.is_file():
            file = folder / f"{name}.en.md"
        prompt = Prompt(file.name, file.read_text(encoding="utf-8").strip())
    if slots and set(prompt.slots) != set(slots):
        wanted, found = (
            ", ".join(f"{{{s}}}" for s in sorted(group)) or "none"
            for group in (slots, prompt.slots)
        )
        raise PromptError(f"prompt {prompt.name}: its slots must be {wanted}; it has {found}")
    return prompt
