"""`drenpa critic expand`: the notes of a recipe's rankings written out before anything is trained.

The training asks for the same critiques under the same requests and finds them kept, so that they
can be read, and the queue be worked off by a person, before an hour of training stands on them.
"""

from __future__ import annotations

from collections.abc import Callable

from drenpa.config import Recipe
from drenpa.core.errors import ConfigError
from drenpa.core.prompts import load_prompt
from drenpa.core.records import Ranking, Record


def expand_recipe(recipe: Recipe, *, dry_run: bool, tell: Callable[[str], None]) -> None:
    """Curate where that is not done yet, then expand the notes, or say what it would cost.

    raises: ConfigError when the recipe names no writer; what `expand_notes` raises.
    """
    settings = recipe.critic.expand
    if settings.writer == "none":
        raise ConfigError(
            "critic.expand.writer: is none, so notes are taken as they are; name openai or local, "
            "and a model"
        )
    from drenpa.critic.expand import (
        JOURNAL,
        SLOTS,
        cost_of_expansion,
        expand_notes,
        queue_of,
        writers_of,
    )
    from drenpa.pipeline import run_recipe

    writer, checker = writers_of(settings, recipe.engine)
    prompt = load_prompt(recipe.critic.expand_prompt, recipe.language, slots=SLOTS)
    corpus = run_recipe(recipe, until="curate", tell=tell)["curate"]
    questions = {record.id: record.question for record in corpus.rows("records", Record)}
    rankings = [r for r in corpus.rows("rankings", Ranking) if r.record in questions]
    journal = recipe.folder / JOURNAL
    cost = cost_of_expansion(rankings, questions, prompt, writer=writer, journal=journal)
    tell(
        f"{cost.notes} notes to write out, {cost.known} of them known; the others take at most "
        f"{cost.input_tokens} tokens in, {cost.output_tokens} out and {cost.money:.4g} in money "
        f"for a first try (tries: {settings.tries}), {cost.spent:.4g} is spent already"
        + (f" of {settings.max_cost:g}" if settings.max_cost else "")
        + ("; a checker costs about as much again" if checker else "")
    )
    if dry_run:
        return
    found = expand_notes(
        rankings,
        questions,
        prompt,
        writer=writer,
        checker=checker,
        journal=journal,
        concurrency=settings.concurrency,
        tries=settings.tries,
        language=recipe.language,
    )
    told = ", ".join(f"{name} {count}" for name, count in found.origins.items())
    tell(f"critiques: {told}")
    tell(f"where each comes from: {journal}")
    if waiting := found.origins.get("queued", 0):
        tell(f"{waiting} notes wait for a person: {queue_of(journal)}; put a critique beside each")
