"""Examine the judges of a recipe on the recipe's own ranked answers."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path

from drenpa.config import Recipe
from drenpa.core.errors import ConfigError
from drenpa.core.records import Ranking, Record
from drenpa.judge.card import drift, examine, ranked_cases, read_card, write_card
from drenpa.judge.ladder import Setting, load_judge, members_of
from drenpa.pipeline import judging_critic, run_recipe


def write_judge_cards(
    recipe: Recipe,
    out: Path,
    *,
    questions: int,
    against: Path | None = None,
    tell: Callable[[str], None] = print,
) -> list[Path]:
    """Write a card of each judge of the recipe's benchmark; return the pages.

    out:       the card's folder; a panel's members have folders in it, by their place and name.
    questions: with ranked answers, to examine them on.
    against:   an older card to compare the canaries with.
    raises:    ConfigError for a panel that is to be compared; DrenpaError of whatever is missing; a
               critic that judges is trained if it is not there yet.
    """
    members = members_of(recipe.benchmark.judge)
    if against is not None and len(members) > 1:
        raise ConfigError(
            f"--against {against}: one card is compared with one judge, and benchmark.judge is a "
            f"panel of {len(members)}; take one of its members with --set benchmark.judge={{...}}"
        )
    older = read_card(against) if against is not None else None
    critic = bool(judging_critic(recipe))
    made = run_recipe(recipe, until="critic" if critic else "curate", tell=tell)
    corpus = made["curate"]
    ranked = ranked_cases(
        corpus.rows("rankings", Ranking), corpus.rows("records", Record), questions
    )
    load_scorer = None
    if critic:
        from drenpa.critic.score import load_critic

        load_scorer = load_critic
    setting = Setting(recipe.model, recipe.language, recipe.engine, made.get("critic"), load_scorer)
    pages = []
    for number, member in enumerate(members, 1):
        one = load_judge(member, setting, None)
        card = examine(one, ranked, recipe.language)
        if older is not None:
            card["drift"] = drift(older, card)
        place = out if len(members) == 1 else out / f"{number}-{_folder(one.name)}"
        pages.append(write_card(card, place))
        del one
        gc.collect()
    return pages


def _folder(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
