"""The cards of an exported policy and of a critic, written from their manifests: nothing in them is
typed by hand.

What a manifest does not say, the card does not claim. Paths of the machine that made the policy
stay out of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from drenpa.core.artefacts import Artefact, open_artefact
from drenpa.core.errors import ArtefactError
from drenpa.core.knowledge import DIMENSIONS, KINDS
from drenpa.engine.models import WHEEL_MODELS

REPORT = "report"
TABLE = "table.json"
BESIDE = ("base", "sft")  # strategies shown beside the policy's own


@dataclass(frozen=True)
class Weights:
    """What the exported folder holds.

    form:  `merged` or `adapter`.
    base:  for an adapter, the model it goes over.
    note:  what there is to say of rounding; "" when nothing.
    takes_system: whether the chat template has a place for a system message; where it has none,
           the instruction stands before the user's first words.
    """

    form: str
    dtype: str
    base: str
    note: str
    takes_system: bool = True


@dataclass(frozen=True)
class Judged:
    """What a report says of this policy: its strategy's cells, those beside it, and who judged."""

    strategy: str
    cells: tuple[Mapping[str, Any], ...]
    judge: str
    judge_card: str
    cautions: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """Where a policy comes from.

    steps:   the training runs that led to it, the first one first, this policy last.
    corpus:  what it learned from; None when it is gone.
    critics: the scorers that gave its rewards, by the reward's part.
    lost:    inputs that are no longer there.
    """

    steps: tuple[Artefact, ...]
    corpus: Artefact | None
    critics: Mapping[str, Artefact]
    judged: Judged | None
    lost: tuple[str, ...] = field(default=())

    @property
    def policy(self) -> Artefact:
        """The policy itself."""
        return self.steps[-1]

    @property
    def model(self) -> str:
        """The name of the model it began as; of a folder, its last part."""
        return self.named or Path(str(self.steps[0].config.get("model", ""))).name

    @property
    def named(self) -> str:
        """The name under which others can have the model it began as; "" for a folder or a file
        of this machine."""
        source = str(self.steps[0].config.get("model", ""))
        stored = Path(self.steps[0].inputs.get("model", {}).get("path", ""))
        kept = f"models--{source.replace('/', '--')}"  # as the hub's cache calls its folder
        from_hub = kept in stored.parts or str(stored) == source
        is_id = source.count("/") == 1 and not source.startswith("/")
        return source if source in WHEEL_MODELS or (is_id and from_hub) else ""

    @property
    def licence(self) -> str:
        """The licence of the model it began as; "" when it is not known."""
        if self.model in WHEEL_MODELS:
            return WHEEL_MODELS[self.model].licence
        stored = self.steps[0].inputs.get("model", {}).get("path", "")
        return _licence_in(Path(stored) / "README.md") if stored else ""

    @property
    def instruction(self) -> str:
        """The system prompt under which it was trained."""
        config = self.policy.config
        return str(config.get("instruction") or config.get("answer_prompt") or "")


def tell_story(policy: Artefact, report: Path | None = None) -> Story:
    """Follow a policy's manifests back to its corpus and its first model.

    report: as in `export_policy`.
    raises: ArtefactError when a report is named that says nothing of this policy.
    """
    lost: list[str] = []
    steps = [policy]
    while "start" in steps[0].inputs:
        before = _input(steps[0], "start", lost)
        if before is None:
            break
        steps.insert(0, before)
    critics = {
        name: found
        for step in steps
        for name in step.inputs
        if name not in ("start", "backbone", "corpus", "model")
        and (found := _input(step, name, lost)) is not None
    }
    return Story(
        steps=tuple(steps),
        corpus=_input(policy, "corpus", lost),
        critics=critics,
        judged=_judged(policy, report),
        lost=tuple(dict.fromkeys(lost)),
    )


def model_card(story: Story, weights: Weights) -> str:
    """Write the card as Markdown with the metadata that the Hub reads."""
    sections = [
        _front_matter(story),
        *_opening(story, weights),
        *_usage(story, weights),
        *_training(story),
        *_data(story),
        *_results(story),
        *_limits(story, weights),
    ]
    return "\n".join(sections) + "\n"


def critic_card(critic: Artefact, base: str) -> str:
    """Write a critic's card as Markdown.

    base: the repository of the fine-tuned model that the critic goes over.
    """
    head = {
        "library_name": "drenpa",
        "base_model": base,
        "base_model_relation": "adapter",
        "tags": ["drenpa", "reward-model", "critique"],
    }
    figures = critic.summary.get("accuracy") or {}
    used = critic.summary.get("used")
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n",
        f"# {critic.name}, a critic over {base}\n",
        f"A critic of drenpa {critic.version}: it writes a critique of an answer, then scores it. "
        "Here are its adapter, its score head and its settings; the model that they go over is "
        f"`{base}`, and over any other they mean nothing. A score has no scale of its own: compare "
        "answers to one question.\n",
        "## How to use it\n",
        """```python
from pathlib import Path

from drenpa import load_critic

critic = load_critic(Path("."))  # this folder
scores = critic.score(["What is a hive?"], [["A box for bees.", "No idea."]])
print(scores.rewards, scores.critiques)
```
""",
        "## How often it is right\n",
    ]
    measured = {
        name: told
        for name, told in figures.items()
        if isinstance(told, Mapping) and told.get("accuracy") is not None
    }
    if measured:
        lines += [
            "Held-out pairs of answers put in the order that people gave them, by the critique "
            "after which the score was read:\n",
            "| critique | accuracy | pairs |\n| --- | --- | --- |",
            *(
                f"| {_cell(name)}{' (used)' if name == used else ''} | {told['accuracy']:.1%} | "
                f"{told.get('pairs', '?')} |"
                for name, told in measured.items()
            ),
            "",
        ]
    else:
        lines.append("It was not measured.\n")
    lines += [
        "## Limits\n",
        "- A policy that is trained against a critic learns what pleases it; judge the policy by "
        "something else.",
        "- Licence: that of the model it goes over; the training data may ask for more.",
    ]
    return "\n".join(lines) + "\n"


def _front_matter(story: Story) -> str:
    languages = sorted(_counts(story, "records", "language"))
    entries: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["drenpa"],
    }
    if story.named:
        entries["base_model"] = story.named
    if story.licence:
        entries["license"] = story.licence.lower()
    if languages:
        entries["language"] = languages
    return f"---\n{yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)}---\n"


def _opening(story: Story, weights: Weights) -> Iterator[str]:
    strategy = _strategy(story)
    what = "An adapter for a" if weights.form == "adapter" else "A"
    yield f"# {story.model}, {strategy}\n"
    yield (
        f"{what} language model aligned by drenpa {story.policy.version}, strategy `{strategy}`, "
        f"begun from `{story.model}`.\n"
    )
    if weights.form == "adapter":
        yield (
            f"These are the adapter's weights alone ({weights.dtype}). They go over the fine-tuned "
            f"model `{weights.base}`, not over `{story.model}` itself.\n"
        )
    else:
        yield f"The weights are whole and saved in {weights.dtype}.\n"
    if weights.note:
        yield f"{weights.note}\n"


def _usage(story: Story, weights: Weights) -> Iterator[str]:
    yield "## How to ask it\n"
    given = "given as the system message" if weights.takes_system else _BEFORE
    yield f"It was trained and tested under this instruction, {given}:\n"
    yield "\n".join(f"> {line}" for line in story.instruction.splitlines() or ["(none)"]) + "\n"
    if weights.form == "adapter":
        loader, imports = (
            "AutoPeftModelForCausalLM",
            ("from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer"),
        )
    else:
        loader, imports = (
            "AutoModelForCausalLM",
            ("from transformers import AutoModelForCausalLM, AutoTokenizer"),
        )
    yield f"""```python
{imports}

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {loader}.from_pretrained(folder)
messages = [
{_turns(story.instruction, weights.takes_system)}
]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
output = model.generate(**inputs, max_new_tokens=256, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```
"""


_BEFORE = (
    "before the question and apart from it by an empty line, since the chat template has no place "
    "for a system message"
)


def _turns(instruction: str, takes_system: bool) -> str:
    """The lines of the snippet that say what the model is told, as drenpa told it."""
    if takes_system:
        return (
            f'    {{"role": "system", "content": {instruction!r}}},\n'
            '    {"role": "user", "content": "Your question"},'
        )
    before = f"{instruction}\n\n" if instruction else ""
    return f'    {{"role": "user", "content": {before!r} "Your question"}},'


def _training(story: Story) -> Iterator[str]:
    yield "## Training\n"
    yield "| step | what it did | seed | steps |\n| --- | --- | --- | --- |"
    for step in story.steps:
        seed, steps = step.config.get("seed", "?"), step.summary.get("steps", "?")
        yield f"| {_cell(step.name)} | {_cell(_did(step))} | {seed} | {steps} |"
    yield ""
    for part, critic in story.critics.items():
        figures = critic.summary.get("accuracy") or {}
        used = critic.summary.get("used")
        told = figures.get(used) if isinstance(figures, Mapping) else None
        accuracy = told.get("accuracy") if isinstance(told, Mapping) else None
        if accuracy is None:
            yield f"Reward part `{part}`: {critic.name}; its accuracy was not measured.\n"
        else:
            yield (
                f"Reward part `{part}`: {critic.name}, which put {accuracy:.0%} of "
                f"{told['pairs'] if isinstance(told, Mapping) else '?'} held-out pairs of answers "
                "in the order that people gave them.\n"
            )
    for name in story.lost:
        yield f"The input `{name}` was no longer there when this card was written.\n"


def _did(step: Artefact) -> str:
    stage = step.config.get("stage")
    if not isinstance(stage, Mapping):
        return "fine-tuned on instructions and critiques"
    reward = ", ".join(f"{part} {weight:g}" for part, weight in stage["reward"].items() if weight)
    weights = ", ".join(f"{kind} {weight:g}" for kind, weight in stage["weights"].items())
    objective = stage["objective"]
    return (
        f"reinforced; reward: {reward}; kind weights: {weights}; margin weight "
        f"{objective['margin_weight']:g}; KL coefficient {objective['kl_coef']:g}; "
        f"{stage['prompts']} questions with {stage['group']} answers each a step; learning rate "
        f"{stage['train']['learning_rate']:g}"
    )


def _data(story: Story) -> Iterator[str]:
    yield "## Data\n"
    if story.corpus is None:
        yield "The corpus was no longer there when this card was written.\n"
        return
    for role, what in (("records", "Training records"), ("benchmark", "Benchmark items")):
        total = story.corpus.summary.get(role, {}).get("total", "?")
        kinds = ", ".join(f"{k} {n}" for k, n in _counts(story, role, "kind").items())
        yield f"- {what}: {total} ({kinds or 'kinds unknown'})"
    rankings = story.corpus.summary.get("rankings", {})
    for split, what in (("train", "for training"), ("held_out", "held out")):
        found = rankings.get(split, {})
        yield f"- Rankings {what}: {found.get('total', '?')}, {found.get('pairs', '?')} pairs"
    yield ""


def _results(story: Story) -> Iterator[str]:
    yield "## Results\n"
    judged = story.judged
    if judged is None:
        yield "No benchmark of this policy stood beside it when this card was written.\n"
        return
    yield (
        "Per cent of the highest possible score; the mean has its 95 % interval; n counts answers "
        "scored in all five dimensions.\n"
    )
    yield f"| kind | strategy | {' | '.join(DIMENSIONS)} | mean | n | unscored |"
    yield f"| --- | --- | {' | '.join('---' for _ in DIMENSIONS)} | --- | --- | --- |"
    strategies = list(dict.fromkeys(cell["strategy"] for cell in judged.cells))
    found = {(c["kind"], c["strategy"], c["dimension"]): c for c in judged.cells}
    for kind in KINDS:
        for strategy in strategies:
            mean = found.get((kind, strategy, "mean"))
            if mean is None:
                continue
            figures = [
                _percent(found.get((kind, strategy, name), {}).get("percent"))
                for name in DIMENSIONS
            ]
            width = (
                f" [{mean['low']:.0f}, {mean['high']:.0f}]"
                if mean["low"] is not None and mean["high"] is not None
                else ""
            )
            yield (
                f"| {kind} | {_cell(strategy)} | {' | '.join(figures)} | "
                f"{_percent(mean['percent'])}{width} | {mean['n']} | {mean['unscored']} |"
            )
    yield ""
    told_below = any(judged.judge_card in caution for caution in judged.cautions)
    more = "" if told_below or not judged.judge_card else f" {judged.judge_card}"
    yield f"The judge was `{_cell(judged.judge)}`.{more}\n"
    for caution in judged.cautions:
        yield f"- {caution}"
    yield ""


def _limits(story: Story, weights: Weights) -> Iterator[str]:
    yield "## Limits\n"
    by_people = story.judged is not None and story.judged.judge.startswith("human")
    if not by_people:
        yield "- No person has judged this model's answers."
    yield "- It is a small model: what it says of facts must be checked before anyone relies on it."
    if weights.form == "adapter":
        yield "- Over any other model than the one it was trained on, the adapter means nothing."
    yield (
        f"- Licence: {story.licence}, that of the model it began as; the training data may ask for "
        "more."
        if story.licence
        else "- Licence: not recorded. The licences of the model it began as and of the training "
        "data apply."
    )


def _judged(policy: Artefact, report: Path | None) -> Judged | None:
    """Find what a report says of this very policy, by the digest of its weights."""
    place = report or policy.path.parent / REPORT
    try:
        page = open_artefact(place, "report")
    except ArtefactError:
        if report is not None:
            raise
        return None
    for name in page.inputs:
        verdicts = _input(page, name, [])
        if verdicts is None or verdicts.kind != "verdicts":
            continue
        if verdicts.inputs.get("policy", {}).get("digest") != policy.digest:
            continue
        if "memory" in verdicts.inputs:  # what it answered with passages before it
            continue
        strategy, model = str(verdicts.config["strategy"]), verdicts.config["model"]
        cells = json.loads((page.path / TABLE).read_text(encoding="utf-8"))
        return Judged(
            strategy=strategy,
            cells=tuple(
                cell
                for cell in cells
                if cell["model"] == model and cell["strategy"] in (*BESIDE, strategy)
            ),
            judge=str(verdicts.summary.get("judge", "unknown")),
            judge_card=str(verdicts.summary.get("judge_card", "")),
            cautions=tuple(str(line) for line in page.summary.get("cautions", ())),
        )
    if report is not None:
        raise ArtefactError(f"{report}: has no verdicts on {policy.path.name}; name its own report")
    return None


def _input(artefact: Artefact, name: str, lost: list[str]) -> Artefact | None:
    """Open an input that is an artefact; note it when it is gone."""
    if name not in artefact.inputs:
        return None
    try:
        return open_artefact(artefact.input_path(name))
    except ArtefactError:
        lost.append(name)
        return None


def _strategy(story: Story) -> str:
    return str(story.policy.config.get("strategy") or "sft")


def _counts(story: Story, role: str, by: str) -> Mapping[str, int]:
    if story.corpus is None:
        return {}
    found = story.corpus.summary.get(role, {}).get(by, {})
    return found if isinstance(found, Mapping) else {}


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _licence_in(card: Path) -> str:
    """The licence that a model card's metadata names."""
    try:
        head, mark, rest = card.read_text(encoding="utf-8").partition("---\n")
        entries = yaml.safe_load(rest.partition("\n---")[0]) if mark and not head.strip() else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return ""
    found = entries.get("license") if isinstance(entries, Mapping) else None
    return str(found) if isinstance(found, str) else ""
