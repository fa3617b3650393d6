"""Talk to a policy, with its memory before it where it has one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from drenpa.core.artefacts import MANIFEST, Artefact, open_artefact
from drenpa.core.errors import DrenpaError
from drenpa.core.prompts import load_prompt
from drenpa.core.text import encodable, shown
from drenpa.pipeline import memory_of, newest_policy, recall_language, recall_settings

MODEL_SIGNS = (MANIFEST, "config.json", "adapter_config.json")


def talk(
    place: str,
    questions: Iterable[str],
    *,
    temperature: float,
    language: str,
    with_memory: bool,
    go_on: bool = False,
) -> None:
    """Print the answer to each question; where it comes from goes to the error stream.

    place:       a run's folder, a policy's, a model's, or a model's name.
    language:    of the instruction, and of the prompt that shows passages; empty takes the
                 instruction under which the policy was trained, and the prompt that was tested.
    with_memory: whether a memory that stands beside the policy is asked.
    go_on:       whether the next question is asked when one cannot be answered.
    """
    from drenpa.engine.policy import load_policy

    chosen = chosen_policy(place)
    memory = memory_of(chosen) if with_memory and isinstance(chosen, Artefact) else None
    policy = load_policy(chosen, instruction=instruction_of(chosen, language))
    if memory is None or not isinstance(chosen, Artefact):
        _answer_each(questions, partial(policy.answer, temperature=temperature), go_on)
        return
    from drenpa.memory.lookup import open_lookup

    print(f"with the memory {memory.path}", file=sys.stderr)
    language = language or recall_language(memory, chosen)
    with open_lookup(memory, recall_settings(memory), language) as lookup:
        recalling = lookup.before(policy)

        def answer(question: str) -> str:
            way = lookup.route(question)
            names = ", ".join(hit.passage.id for hit in way.hits)
            told = f"from the store ({names})" if names else "from the weights"
            print(shown(f"{told}: {way.reason}"), file=sys.stderr, flush=True)
            return recalling.answer(question, temperature=temperature)

        _answer_each(questions, answer, go_on)


def _answer_each(questions: Iterable[str], answer: Callable[[str], str], go_on: bool) -> None:
    """Print the answer to each question, or why there is none."""
    for question in questions:
        try:
            print(shown(answer(encodable(question))), flush=True)
        except DrenpaError as error:
            if not go_on:
                raise
            print(shown(str(error)), file=sys.stderr, flush=True)


def chosen_policy(place: str) -> Artefact | str:
    """Return the policy that a place means: of a run's folder, the one that was finished last.

    raises: ArtefactError when a run's folder holds none, or an artefact is no policy.
    """
    folder = Path(place)
    if (folder / MANIFEST).is_file():
        return open_artefact(folder, "policy")
    if folder.is_dir() and not any((folder / name).exists() for name in MODEL_SIGNS):
        return newest_policy(folder)
    return place


def instruction_of(chosen: Artefact | str, language: str) -> str:
    """Return the instruction to answer under: in a language that was asked for, or else the one
    that a policy of ours was trained with."""
    if isinstance(chosen, Artefact) and not language:
        config = chosen.config
        return str(config.get("instruction") or config.get("answer_prompt") or "")
    return load_prompt("answer", language or "en").text
