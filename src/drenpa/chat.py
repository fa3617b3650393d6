"""Talk to a policy, with its memory before it where it has one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from drenpa.core.artefacts import MANIFEST, Artefact, open_artefact
from drenpa.core.prompts import load_prompt
from drenpa.pipeline import memory_of, newest_policy, recall_settings

MODEL_SIGNS = (MANIFEST, "config.json", "adapter_config.json")


def talk(
    place: str, questions: Iterable[str], *, temperature: float, language: str, with_memory: bool
) -> None:
    """Print the answer to each question; where it comes from goes to the error stream.

    place:       a run's folder, a policy's, a model's, or a model's name.
    language:    of the instruction, and of the prompt that shows passages.
    with_memory: whether a memory that stands beside the policy is asked.
    """
    from drenpa.engine.policy import load_policy

    chosen = chosen_policy(place)
    memory = memory_of(chosen) if with_memory and isinstance(chosen, Artefact) else None
    policy = load_policy(chosen, instruction=load_prompt("answer", language).text)
    if memory is None:
        for question in questions:
            print(policy.answer(question, temperature=temperature), flush=True)
        return
    from drenpa.memory.lookup import open_lookup

    print(f"with the memory {memory.path}", file=sys.stderr)
    with open_lookup(memory, recall_settings(memory), language) as lookup:
        recalling = lookup.before(policy)
        for question in questions:
            chosen_way = lookup.route(question)
            shown = ", ".join(hit.passage.id for hit in chosen_way.hits)
            told = f"from the store ({shown})" if shown else "from the weights"
            print(f"{told}: {chosen_way.reason}", file=sys.stderr, flush=True)
            print(recalling.answer(question, temperature=temperature), flush=True)


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
