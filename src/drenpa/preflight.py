"""What a recipe names must be there before the hours that come first: prompts, models, keys, files.

Each room says itself what it lacks; here they are only asked, of every stage that is still to be
done, and all their faults are told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from drenpa.config import Recipe
from drenpa.core.errors import ConfigError, DrenpaError

Check = tuple[str, Callable[[], object]]
"""A key of the recipe, and what raises where the thing that it names is missing."""


def check_recipe(recipe: Recipe, stages: Collection[str], *, fetch: bool = False) -> None:
    """Ask what some stages of a recipe will need and not find.

    fetch:  models that are not on this machine are brought here now; without it, only a name that
            can be no model's is a fault.
    raises: ConfigError with every fault, a line each.
    """
    if faults := faults_of(recipe, stages, fetch=fetch):
        raise ConfigError("\n".join(faults))


def faults_of(recipe: Recipe, stages: Collection[str], *, fetch: bool = False) -> list[str]:
    """Return the faults that `check_recipe` raises, a line each."""
    faults: dict[str, None] = {}
    for key, check in _checks(recipe, frozenset(stages), fetch):
        try:
            check()
        except DrenpaError as error:
            for line in str(error).splitlines():
                faults[line if line.startswith(key) else f"{key}: {line}"] = None
    return list(faults)


def _checks(recipe: Recipe, stages: frozenset[str], fetch: bool) -> Iterator[Check]:
    from drenpa.core.prompts import load_prompt

    if stages & {"finetune", "memory", "benchmark"}:
        yield "model", partial(_find_model, recipe.model, fetch)
    if stages & {"finetune", "critic", "reinforce"}:
        from drenpa.engine.loop import check_tracker

        yield "engine.tracker", partial(check_tracker, recipe.engine)
    if stages & {"finetune", "memory", "reinforce"}:
        yield "answer_prompt", partial(load_prompt, recipe.answer_prompt, recipe.language)
    if "memory" in stages and recipe.memory is not None and recipe.memory.past:
        from drenpa.pipeline import past_memory

        yield "memory.past", partial(past_memory, recipe, recipe.memory.past)
    if "reinforce" in stages and recipe.engine.sampler == "vllm":
        from drenpa.engine.vllm_generator import import_vllm

        yield "engine.sampler", import_vllm
    if "critic" in stages:
        yield from _critic_checks(recipe, fetch)
    if "benchmark" in stages:
        yield from _benchmark_checks(recipe, fetch)
    if "report" in stages:
        from drenpa.report.readings import read_people

        yield "report.people", partial(read_people, [Path(item) for item in recipe.report.people])


def _critic_checks(recipe: Recipe, fetch: bool) -> Iterator[Check]:
    from drenpa.core.prompts import load_prompt
    from drenpa.critic.expand import SLOTS as EXPAND_SLOTS
    from drenpa.critic.expand import writers_of
    from drenpa.critic.layout import SLOTS

    critic, language = recipe.critic, recipe.language
    yield "critic.prompt", partial(load_prompt, critic.prompt, language, slots=SLOTS)
    yield "scalar.prompt", partial(load_prompt, recipe.scalar.prompt, language, slots=SLOTS)
    yield (
        "critic.expand_prompt",
        partial(load_prompt, critic.expand_prompt, language, slots=EXPAND_SLOTS),
    )
    if critic.expand.writer == "openai":
        yield "critic.expand", partial(writers_of, critic.expand)
    if critic.expand.writer == "local":
        yield "critic.expand.model", partial(_find_model, critic.expand.model, fetch)
        if critic.expand.checker:
            yield "critic.expand.checker", partial(_find_model, critic.expand.checker, fetch)


def _benchmark_checks(recipe: Recipe, fetch: bool) -> Iterator[Check]:
    from drenpa.judge.answers import answer_instruction
    from drenpa.judge.client import chat_client
    from drenpa.judge.ladder import READERS, Setting, check_judges, members_of

    config = recipe.benchmark
    setting = Setting(recipe.model, recipe.language, recipe.engine)
    yield "benchmark.prompt", partial(answer_instruction, config.prompt, recipe.language)
    for member in members_of(config.judge):
        yield "benchmark.judge", partial(check_judges, member, setting)
        if member.name in READERS and member.model:
            yield "benchmark.judge.model", partial(_find_model, member.model, fetch)
    for baseline in config.baselines:
        place = f"benchmark.baselines.{baseline.name}"
        if baseline.endpoint:
            yield place, partial(chat_client, baseline, place)
        else:
            yield f"{place}.model", partial(_find_model, baseline.model, fetch)


def _find_model(source: str, fetch: bool) -> None:
    from drenpa.engine.models import check_model, resolve_model

    (resolve_model if fetch else check_model)(source)
