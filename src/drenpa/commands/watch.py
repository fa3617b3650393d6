"""Watch training with the judge of a recipe, on the answers that were sampled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from drenpa.config import Recipe
from drenpa.core.errors import ConfigError
from drenpa.core.store import Store
from drenpa.judge.bench import STORE
from drenpa.judge.judges import Case, Opinion
from drenpa.judge.ladder import Setting, load_judge
from drenpa.report.watch import AskJudge, Sampled, Watch, watch_folder


def watch_with_judge(folder: Path, recipe: Recipe) -> tuple[Watch, ...]:
    """Watch a run or a stage, and let the recipe's judge judge some of its sampled answers.

    An answer's figure is the mean of the dimensions that the judge scored. It is judged in its
    record's language, as the benchmark does; in the recipe's where the record is not known. An
    endpoint's replies are kept in the run's store.

    raises: ConfigError when the judge is the critic, which is not independent, or a panel.
    """
    config = recipe.benchmark.judge
    if config.name in ("critic", "panel"):
        raise ConfigError(
            f"benchmark.judge.name: {config.name} cannot watch; name one judge that is not the "
            "reward, for example -s 'benchmark.judge={name: offline}'"
        )
    with Store(recipe.folder / STORE) as store:
        judge = load_judge(config, Setting(recipe.model, recipe.language, recipe.engine), store)

        def ask(answers: Sequence[Sampled]) -> list[float]:
            cases = [
                Case(
                    one.question,
                    one.answer,
                    one.reference,
                    one.language or recipe.language,
                    one.finish,
                )
                for one in answers
            ]
            figures = [math.nan] * len(cases)
            for place, opinion in judge.judge(cases):
                figures[place] = _percent(opinion)
            return figures

        asked: AskJudge = ask
        return watch_folder(folder, asked)


def _percent(opinion: Opinion) -> float:
    scores = opinion.scores.values()
    return 50.0 * math.fsum(scores) / len(scores) if scores else math.nan
