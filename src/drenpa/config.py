"""The recipe: one frozen tree that says everything a run depends on.

Read from YAML, with overlays and `--set a.b=c` on top. Unknown keys are refused with a suggestion,
and every fault is told at once. A default is the paper's value where the paper gives one (the
comment says so); the rest are ours.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from drenpa.core.errors import ConfigError, did_you_mean
from drenpa.core.knowledge import KIND_WEIGHTS, KINDS, Kind
from drenpa.core.languages import language_fault

RECALL = "+recall"  # ends the name of a column whose answers are looked up where that helps
RewardPart = Literal["critic", "scalar", "finished"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


def _full_kinds(value: Any) -> Any:
    """Kinds that a recipe leaves out of a mapping get 0: a mix that names two kinds means those
    two."""
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {**dict.fromkeys(KINDS, 0.0), **value}
    return value


def _language_code(value: str) -> str:
    if fault := language_fault(value):
        raise ValueError(fault)
    return value


def _critic_alone() -> dict[RewardPart, float]:
    return {"critic": 1.0}


LanguageCode = Annotated[str, AfterValidator(_language_code)]
KindNumbers = Annotated[dict[Kind, NotNegative], BeforeValidator(_full_kinds)]


class Config(BaseModel):
    """The parent of every part of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _a_switch_is_no_number(cls, value: Any) -> Any:
        """`seed: true` would be seed 1."""
        for name, found in value.items() if isinstance(value, Mapping) else ():
            field = cls.model_fields.get(name) if isinstance(name, str) else None
            if isinstance(found, bool) and field and field.annotation in (int, float):
                raise ValueError(f"{name}: {str(found).lower()} is no number")
        return value


def _unless_said(**defaults: Any) -> BeforeValidator:
    """Let a part's own defaults stand where a recipe sets only some of its keys."""
    return BeforeValidator(
        lambda value: {**defaults, **value} if isinstance(value, Mapping) else value
    )


class EngineConfig(Config):
    """How the machine is used."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "bfloat16", "float32"] = (
        "auto"  # of frozen weights and of matrix work; bfloat16 where the machine has instructions
    )
    attention: Literal["shared", "plain"] = "shared"
    decode_rows: Count = 64  # rows decoded at once, at most
    memory_gb: Positive | None = (
        None  # that a process may hold; null: four fifths of what is free at the start
    )
    sampler: Literal["own", "vllm"] = "own"  # what writes the answers of reinforcement learning
    vllm_share: Annotated[float, Field(gt=0, lt=1)] = 0.4  # of the GPU's memory that vLLM may take
    cuda_graphs: bool = True  # on CUDA, decoding steps are recorded and replayed
    tracker: str = "tensorboard"  # any that Accelerate knows, or "none"
    trust_remote_code: bool = False


class LoraConfig(Config):
    """A low-rank adapter, in float32, on every linear layer of the transformer's blocks."""

    rank: Count = 16
    alpha: Positive = 32.0
    dropout: Share = 0.0


class TrainConfig(Config):
    """One training run of the one loop."""

    learning_rate: Positive = 5e-7  # the paper, section on experiments
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_share: Share = 0.05  # of all steps
    weight_decay: NotNegative = 0.0
    max_grad_norm: Positive = 1.0
    micro_batch: Count = (
        4  # groups in one forward and backward; it changes memory, and the gradient by rounding
    )
    gradient_checkpointing: bool = False
    checkpoint_every: Count = 25  # steps
    lora: LoraConfig | None = LoraConfig()  # null: train all weights, with float32 masters
    max_length: Count = 1024  # tokens of a whole row; the paper


class CorpusConfig(Config):
    """What the knowledge is made from.

    records, rankings, benchmark: files in JSON Lines, CSV or Parquet, or `starter` for the corpus
    in the package.
    held_out: the share of ranked questions on which the critic is measured, never trained.
    test:     the share of records kept for the benchmark when there is no benchmark file.
    personal: e-mail addresses, telephone, card and identity numbers: flag counts the rows that hold
              them, scrub replaces them, drop drops those rows, keep does not look.
    max_leakage: the share of benchmark items that may nearly stand in training, be quoted there or
              share a run of eight units with it; above it the corpus is refused.
    """

    records: tuple[str, ...] = ("starter",)
    rankings: tuple[str, ...] = ("starter",)
    benchmark: tuple[str, ...] = ("starter",)
    languages: tuple[LanguageCode, ...] = ()  # keep only these; empty keeps all
    held_out: Share = 0.25
    test: Share = 0.2
    max_leakage: Share = 0.05
    personal: Literal["flag", "scrub", "drop", "keep"] = "flag"


class FinetuneConfig(Config):
    """Supervised fine-tuning on instructions plus critique samples."""

    train: TrainConfig = TrainConfig()
    epochs: Count = 3
    batch: Count = 16  # rows a step
    critique_share: Share = (
        1.0  # of the critique samples that take part; the paper uses 5,000 of them
    )


class ExpandConfig(Config):
    """Who makes people's notes full where there is no critique, and what that may cost.

    writer:  `none` takes notes as they are; `openai` is any compatible endpoint; `local` a model on
             this machine, by folder or name.
    checker: a second model at the same place, which checks claim by claim; empty for none.
    price_in, price_out: of a million tokens; max_cost: of all replies in the run's folder.
    """

    writer: Literal["none", "openai", "local"] = "none"
    model: str = ""
    checker: str = ""
    base_url: str = ""  # openai: default is the client's own
    key_env: str = "OPENAI_API_KEY"  # the environment variable that holds the key
    tries: Count = 3  # with what is wrong told to the model; then the note waits for a person
    max_tokens: Count = 300  # of a reply
    concurrency: Count = 4
    timeout_s: Positive = 60.0
    retries: int = Field(default=5, ge=0)
    requests_per_minute: int = Field(default=0, ge=0)  # 0: no limit
    price_in: NotNegative = 0.0
    price_out: NotNegative = 0.0
    max_cost: NotNegative = 0.0  # 0: no limit

    @model_validator(mode="after")
    def _a_writer_has_a_model(self) -> ExpandConfig:
        if self.writer != "none" and not self.model:
            raise ValueError(f"model: name the model that the {self.writer} writer is to use")
        return self


class CriticConfig(Config):
    """The critic [P1–P5]."""

    train: TrainConfig = TrainConfig()
    epochs: Count = 2
    batch: Count = 4  # questions a step, each with all its ranked answers
    critique_weight: NotNegative = 1.0  # P3; the paper
    score_weight: NotNegative = 1.0  # P3; the paper
    bare_share: Share = (
        0.0  # of the critiques that the head does not get to read before the own epochs
    )
    foils: int = Field(
        default=0, ge=0
    )  # spoiled answers (cut off, scrambled, looping, foreign) beside each ranking's own
    own_epochs: int = Field(
        default=0, ge=0
    )  # further epochs in which the head reads the critic's own critiques
    own_share: Share | tuple[Share, Share] = (
        0.5  # of the critiques in those epochs that are its own, or [first epoch's, last epoch's]
    )
    apart_share: Share = (
        0.0  # of the questions, whose critiques are not learned; the head learns from these alone
    )
    rank_margin: NotNegative = (
        0.0  # P2 asks the better answer to lead by this much for each rank between the two
    )
    watch_share: Share = (
        0.0  # of the training questions that are kept out, to measure gap and use after each epoch
    )
    refresh_gap: NotNegative | None = (
        None  # own epochs only while the watched gap (people's − own) is above it; null runs all
    )
    patience: Count | None = (
        None  # epochs without a better watched accuracy before it stops; the best one is kept
    )
    max_critique_tokens: Count = 96
    prompt: str = "critique"
    expand_prompt: str = "expand"
    expand: ExpandConfig = ExpandConfig()

    @model_validator(mode="after")
    def _what_decides_is_measured(self) -> CriticConfig:
        if self.watch_share == 0 and (self.refresh_gap is not None or self.patience is not None):
            raise ValueError(
                "refresh_gap and patience go by watched questions; set watch_share above 0"
            )
        if self.apart_share > 0 and self.own_epochs == 0:
            raise ValueError(
                "apart_share: the head learns from rankings that stand apart in the own epochs "
                "only; set own_epochs above 0"
            )
        return self


class ObjectiveConfig(Config):
    """The parameters of the one RL objective [P6–P11]; every variant is a choice of these."""

    margin_weight: NotNegative = 0.5  # w of P6; from the work the paper builds on. 0 is plain GRPO
    margin_rate: NotNegative = 0.5  # k of P6; likewise
    pair_floor: NotNegative = (
        0.0  # pairs whose rewards differ by less, in the batch's standard deviations, do not count
    )
    group_scale: Literal["std", "none"] = "std"  # P8
    clip_low: Share = 0.2
    clip_high: NotNegative = 0.2
    kl_coef: NotNegative = 0.001  # the paper
    pair_coef: NotNegative = 0.0  # of P11, the other reading of change 1
    pair_beta: Positive = 0.1
    importance_cap: Positive = 2.0  # of a token's weight where vLLM sampled it


class GateConfig(Config):
    """What must hold at the end of a stage for the run to go on; null does not ask."""

    min_reward_gain: float | None = None  # mean raw reward, last quarter of the steps minus first
    max_kl: Positive | None = None  # nats per token, mean of the last quarter
    max_truncated: Share | None = None


class StageConfig(Config):
    """One round of reinforcement learning: prompts and their mix, weights, reward, objective,
    length, reference, gate."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    steps: Count = 100
    prompts: Count = 4  # questions a step
    group: int = Field(default=8, ge=2)  # G answers a question
    mix: KindNumbers = Field(
        default_factory=lambda: dict.fromkeys(KINDS, 1.0)
    )  # shares of the questions drawn
    weights: KindNumbers = Field(default_factory=lambda: dict(KIND_WEIGHTS))  # P9; the paper's
    reward: dict[RewardPart, float] = Field(default_factory=_critic_alone)
    objective: ObjectiveConfig = ObjectiveConfig()
    temperature: Positive = 1.0
    max_new_tokens: Count = 256
    reset_reference: bool = (
        False  # true: KL is measured from where this stage starts, not from the fine-tuned model
    )
    gate: GateConfig = GateConfig()
    train: Annotated[TrainConfig, _unless_said(schedule="constant")] = TrainConfig(
        schedule="constant"
    )

    @model_validator(mode="after")
    def _something_is_asked_and_rewarded(self) -> StageConfig:
        if not any(self.mix.values()):
            raise ValueError("mix: every kind has share 0; give one a share above 0")
        if not any(self.reward.values()):
            raise ValueError("reward: every part has weight 0; give one a weight")
        return self


class StrategyConfig(Config):
    """A column of the result table: the rounds that lead to it, and the strategy they start
    from."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    start: str = "sft"
    stages: tuple[StageConfig, ...] = Field(min_length=1)


class ProbeConfig(Config):
    """How the model is asked what it knows."""

    block: Annotated[int, Field(ge=3)] = 6  # questions and answers crossed with each other
    samples: Annotated[int, Field(ge=0)] = 0  # answers sampled besides; 0: probabilities only
    max_new_tokens: Count = 96  # of a sampled answer


class SelectConfig(Config):
    """What goes into the weights [P13].

    **Reading:** the paper gives the principle only; every number here and in `UpdateConfig` is
    ours.
    """

    weights: KindNumbers = Field(default_factory=lambda: dict(KIND_WEIGHTS))
    rare_share: Share = 0.5  # demand below this share of the median demand is rare
    known_above: Share = 0.6  # at and above it a record counts as known
    bits_per_parameter: Positive = 0.1  # about 2 is the known ceiling; usable is far smaller
    bits_per_token: Positive = 6.0  # to store an answer; 5.6 measured, see docs/memory.md


class UpdateConfig(Config):
    """How probes after training are read [P14]."""

    learned_gain: Share = 0.1  # a record is learned only if its probe rose by this as well
    forgotten_below: Share = 0.4  # what was in the weights and falls below it is forgotten
    promote_after: Count = (
        2  # probes that a changed record must stand unchanged before it may return
    )


class RecallConfig(Config):
    """When the store is asked at answer time."""

    passages: Count = 2
    min_cover: Share = 0.4  # of the question's weight of words that a passage must hold
    max_passage_units: Count = 160  # words, Chinese characters, Tibetan syllables


class MemoryConfig(Config):
    """What is trained into the weights, what is kept in a store, and when the store is asked.

    past: a former run's folder, or a memory's in it, whose ledger and store are carried on; `model`
          is then what that run trained. A run's newest memory is taken.
    """

    past: str = ""
    probe: ProbeConfig = ProbeConfig()
    select: SelectConfig = SelectConfig()
    update: UpdateConfig = UpdateConfig()
    recall: RecallConfig = RecallConfig()

    @model_validator(mode="after")
    def _forgotten_is_below_known(self) -> MemoryConfig:
        if self.update.forgotten_below > self.select.known_above:
            raise ValueError(
                "update.forgotten_below is above select.known_above: a record would be known and "
                "forgotten at once; lower it"
            )
        return self


class EndpointConfig(Config):
    """A model behind an OpenAI-compatible endpoint, and how it is asked.

    price_in, price_out: of a million tokens; max_cost: of all replies in the run's store.
    """

    model: str = ""
    base_url: str = ""  # default is the client's own
    key_env: str = "OPENAI_API_KEY"  # the environment variable that holds the key
    concurrency: Count = 4
    timeout_s: Positive = 60.0  # for a whole reply
    retries: int = Field(default=3, ge=0)
    requests_per_minute: int = Field(default=0, ge=0)  # 0: no limit
    price_in: NotNegative = 0.0
    price_out: NotNegative = 0.0
    max_cost: NotNegative = 0.0  # 0: no limit
    request: dict[str, Any] = {}  # laid over each request; null leaves a key out


_JUDGE_READS: Mapping[str, Collection[str]] = {
    **dict.fromkeys(("offline", "likeness", "local"), ("model",)),
    "openai": (*EndpointConfig.model_fields, "prompt", "structured", "rotate", "repeats"),
    "recorded": ("file",),
    "panel": ("members",),
}


class JudgeConfig(EndpointConfig):
    """Who judges; see docs/benchmark.md for what each one sees.

    model: of `openai` the endpoint's; of `offline`, `local` and `likeness` the language model whose
           probabilities or states are read (default: the recipe's model).
    """

    name: Literal[
        "offline",
        "rules",
        "reference",
        "likeness",
        "local",
        "openai",
        "critic",
        "recorded",
        "panel",
    ] = "offline"
    prompt: str = "judge"
    structured: bool = False  # openai: bind the reply to a JSON schema, where the endpoint can
    rotate: bool = True  # openai: another dimension first in every question and repeat
    repeats: Count = 1  # openai: verdicts on each answer, averaged
    file: str = ""  # recorded: verdicts in JSON Lines, of people or of an earlier run
    members: tuple[JudgeConfig, ...] = ()  # panel: their scores are averaged
    max_unscored: Share = 0.2  # above it the benchmark fails rather than hide what is missing

    @model_validator(mode="after")
    def _each_has_what_it_reads(self) -> JudgeConfig:
        if self.repeats > 1 and self.name != "openai":
            raise ValueError(f"repeats: {self.name} says the same every time; leave it at 1")
        if (self.name == "recorded") != bool(self.file):
            raise ValueError("file: the judge `recorded` needs one, and no other reads one")
        if (self.name == "panel") != (len(self.members) > 1):
            raise ValueError("members: a panel has at least two, and no other judge has any")
        if any(member.name == "panel" for member in self.members):
            raise ValueError("members: a panel is not made of panels; list its judges")
        if any(member.max_unscored != self._default("max_unscored") for member in self.members):
            raise ValueError("members: max_unscored is the panel's own; set it beside `members`")
        read = {"name", "max_unscored", *_JUDGE_READS.get(self.name, ())}
        for name in type(self).model_fields:
            if name not in read and getattr(self, name) != self._default(name):
                where = "; set it for its members" if self.name == "panel" else ""
                raise ValueError(f"{name}: the judge `{self.name}` does not read it{where}")
        return self

    def _default(self, name: str) -> Any:
        return type(self).model_fields[name].default


class BaselineConfig(EndpointConfig):
    """A model from elsewhere that answers the same questions: a column beside the strategies.

    In a recipe a string is enough: a model's name, hub id, folder or GGUF file, or
    `MODEL @ http://host/v1` for one behind an endpoint.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    endpoint: bool = False  # asked over the network; true wherever base_url is set

    @model_validator(mode="before")
    @classmethod
    def _one_line_is_enough(cls, value: Any) -> Any:
        if isinstance(value, str):
            model, _, url = (part.strip() for part in value.rpartition(" @ "))
            value = {"model": model, "base_url": url} if model else {"model": url}
        if isinstance(value, Mapping) and isinstance(value.get("model"), str):
            last = value["model"].rstrip("/").rpartition("/")[2].removesuffix(".gguf")
            name = re.sub(r"[^a-z0-9.]+", "-", last.lower()).strip("-.")
            remote = bool(value.get("base_url"))
            return {"name": name, **value, "endpoint": bool(value.get("endpoint")) or remote}
        return value

    @model_validator(mode="after")
    def _there_is_a_model(self) -> BaselineConfig:
        if not self.model:
            raise ValueError("model: name the model that answers")
        return self


class BenchmarkConfig(Config):
    """Which strategies are compared, on how many answers, and by whom."""

    strategies: tuple[str, ...] = ()  # empty: base, sft and all in the recipe, and the last +recall
    items_per_kind: int = Field(default=0, ge=0)  # 0: all
    samples: Count = 1  # answers sampled per question
    temperature: NotNegative = 0.7
    max_new_tokens: Count = 256
    prompt: str = "answer"
    judge: JudgeConfig = JudgeConfig()
    baselines: tuple[BaselineConfig, ...] = ()  # models that answer beside the strategies
    store: str = ""  # file of answers and verdicts already paid for; default: the run's own

    @model_validator(mode="after")
    def _samples_differ(self) -> BenchmarkConfig:
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(
                f"samples: {self.samples} answers at temperature 0 are all the same; set "
                "temperature above 0 or samples to 1"
            )
        return self


class ReportConfig(Config):
    """What the page shows."""

    title: str = ""
    resamples: Count = 4000  # of the bootstrap
    examples: Count = 3
    paper_columns: bool = False  # the paper's own Table 3 beside ours
    people: tuple[str, ...] = ()  # files of people's scores, as items.html exports them


class Recipe(Config):
    """A whole run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=1, ge=0)
    model: str = "smollm2-135m"
    language: LanguageCode = "en"  # of the instructions the model answers under
    out: str = ""  # default: runs/NAME
    engine: EngineConfig = EngineConfig()
    corpus: CorpusConfig = CorpusConfig()
    answer_prompt: str = "answer"  # the instruction under which the policy is trained and tested
    finetune: FinetuneConfig = FinetuneConfig()
    critic: CriticConfig = CriticConfig()
    scalar: Annotated[CriticConfig, _unless_said(critique_weight=0.0)] = CriticConfig(
        critique_weight=0.0
    )  # the scorer without critique, for the `grpo` column
    strategies: tuple[StrategyConfig, ...] = ()
    memory: MemoryConfig | None = None  # null: everything is trained, nothing is looked up
    benchmark: BenchmarkConfig = BenchmarkConfig()
    report: ReportConfig = ReportConfig()

    @property
    def folder(self) -> Path:
        """Where the run's artefacts stand."""
        return Path(self.out or f"runs/{self.name}")

    @model_validator(mode="after")
    def _names_lead_somewhere(self) -> Recipe:
        known = ["base", "sft"]
        rounds: dict[str, str] = {}
        for strategy in self.strategies:
            if strategy.name in known:
                raise ValueError(f"strategies: the name '{strategy.name}' is taken; choose another")
            if strategy.start not in known or strategy.start == "base":
                hint = did_you_mean(strategy.start, known[1:])
                raise ValueError(
                    f"strategies.{strategy.name}.start: '{strategy.start}' is neither sft nor a "
                    f"strategy above{hint}"
                )
            names = [stage.name for stage in strategy.stages]
            if len(set(names)) < len(names):
                raise ValueError(
                    f"strategies.{strategy.name}: two stages share a name; give each its own"
                )
            for stage in names:
                other = rounds.setdefault(f"{strategy.name}-{stage}", strategy.name)
                if other != strategy.name:
                    raise ValueError(
                        f"strategies.{strategy.name}: its stage '{stage}' and one of '{other}' are "
                        f"both called {strategy.name}-{stage}; rename one"
                    )
            known.append(strategy.name)
        if self.memory is not None:
            known += [name + RECALL for name in known]
        for name in self.benchmark.strategies:
            if name not in known:
                hint = did_you_mean(name, known)
                if self.memory is None and name.removesuffix(RECALL) in known:
                    hint = "; a column that looks things up needs the part `memory: {}`"
                raise ValueError(f"benchmark.strategies: no strategy '{name}'{hint}")
        for baseline in self.benchmark.baselines:
            if baseline.name in known:
                raise ValueError(
                    f"benchmark.baselines: the name '{baseline.name}' is taken; give it another "
                    "with the key name"
                )
            known.append(baseline.name)
        return self

    def strategy_names(self) -> tuple[str, ...]:
        """The columns of the result table, in order; `NAME+recall` answers with the memory."""
        if self.benchmark.strategies:
            return self.benchmark.strategies
        names = ["base", "sft", *(strategy.name for strategy in self.strategies)]
        return tuple(names if self.memory is None else [*names, names[-1] + RECALL])


def load_recipe(
    path: Path | str, overlays: Sequence[Path | str] = (), settings: Sequence[str] = ()
) -> Recipe:
    """Read a recipe, lay the overlays over it, apply the `a.b=c` settings, and check everything.

    A recipe that begins with `extends: OTHER.yaml` is laid over that one, which stands beside it.
    Mappings are merged key by key, lists are replaced; `strategies.memory.…` in a setting names a
    list entry by its name, `strategies.0.…` by its place. Paths of files and models to be read are
    relative to the recipe's folder when they exist there, and to the working folder otherwise.

    raises: ConfigError with every fault, a line each, as `file: key: what is wrong`; the file is
            the one that says it, or the setting.
    """
    sources = _extended(Path(path), ())
    sources += [(str(overlay), _read(Path(overlay))) for overlay in overlays]
    tree: dict[str, Any] = {}
    for _, source in sources:
        tree = _merge(tree, source)
    faults: list[str] = []
    for setting in settings:
        fault = _set(tree, setting)
        if fault:
            faults.append(fault)
    tree = _anchor(tree, Path(path).resolve().parent)
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        for entry in _own_faults(error):
            places = _named_places(entry["loc"], tree)
            faults.append(
                f"{_origin(entry['loc'], places, sources, settings)}: {_fault(entry, places)}"
            )
        raise ConfigError("\n".join(faults)) from None
    if faults:
        raise ConfigError("\n".join(faults))
    return recipe


class _Loader(yaml.SafeLoader):
    """YAML without objects, in which a key that stands twice is an error, not a silent choice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key '{key.value}' stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return node


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: a recipe is a mapping of keys to values, this is a {type(tree).__name__}"
        )
    return tree


def _extended(path: Path, heirs: tuple[Path, ...]) -> list[tuple[str, dict[str, Any]]]:
    """Read a recipe and those that it extends, the furthest first."""
    if path.resolve() in heirs:
        raise ConfigError(f"{path}: extends: the recipe extends itself")
    tree = _read(path)
    parent = tree.pop("extends", None)
    if parent is None:
        return [(str(path), tree)]
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: extends: name one recipe file, this is {parent!r}")
    return [*_extended(path.parent / parent, (*heirs, path.resolve())), (str(path), tree)]


def _merge(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: _merge(below.get(key), value) for key, value in above.items()}}


def _set(tree: dict[str, Any], setting: str) -> str:
    """Apply one `a.b=c`; return the fault, or an empty string."""
    path, equals, text = setting.partition("=")
    if not equals or not path:
        return f"--set {setting}: write it as key=value, for example seed=2 or benchmark.samples=4"
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return f"--set {setting}: '{text}' is not a YAML value; quote it"
    place: Any = tree
    keys = path.split(".")
    for number, key in enumerate(keys):
        last = number == len(keys) - 1
        if isinstance(place, list):
            found = next(
                (
                    i
                    for i, entry in enumerate(place)
                    if isinstance(entry, dict) and entry.get("name") == key
                ),
                None,
            )
            index = (
                found
                if found is not None
                else int(key)
                if key.isdigit() and int(key) < len(place)
                else None
            )
            if index is None:
                return f"--set {setting}: no entry '{key}' in {'.'.join(keys[:number])}"
            if last:
                place[index] = value
            place = place[index]
        elif isinstance(place, dict):
            if last:
                place[key] = value
            elif not isinstance(place.get(key), dict | list):
                place[key] = {}
            place = place[key]
        else:
            return f"--set {setting}: {'.'.join(keys[:number])} is a value and has no key '{key}'"
    return ""


_PATHS = (
    "model",
    "corpus.records.*",
    "corpus.rankings.*",
    "corpus.benchmark.*",
    "answer_prompt",
    *(
        f"{scorer}.{key}"
        for scorer in ("critic", "scalar")
        for key in ("prompt", "expand_prompt", "expand.model", "expand.checker")
    ),
    "memory.past",
    "benchmark.prompt",
    "benchmark.store",
    *(
        f"benchmark.judge.{key}"
        for member in ("", "members.*.")
        for key in (f"{member}file", f"{member}model", f"{member}prompt")
    ),
    "benchmark.baselines.*",
    "benchmark.baselines.*.model",
    "report.people.*",
)
"""What may name a file or folder to be read; `*` is every entry of a list, or its one string."""


def _anchor(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make absolute what a recipe names and what stands beside it; leave all else as it is."""

    def found(value: str) -> str:
        if (folder / value).exists():
            return str(folder / value)
        pattern = os.path.join(glob.escape(str(folder)), value)
        matches = glob.has_magic(value) and any(glob.iglob(pattern, recursive=True))
        return pattern if matches else value

    def beside(value: Any, steps: Sequence[str]) -> Any:
        if not steps:
            known = isinstance(value, str) and value not in ("", "starter")
            return found(value) if known else value
        step, rest = steps[0], steps[1:]
        if step == "*":
            entries = [value] if isinstance(value, str) else value
            return [beside(v, rest) for v in entries] if isinstance(entries, list) else value
        if isinstance(value, Mapping) and step in value and not named(step, value):
            return {**value, step: beside(value[step], rest)}
        return value

    def named(key: str, value: Mapping[str, Any]) -> bool:
        """Say whether a key holds a name and no path: of a model that an endpoint knows, or of a
        prompt that ships."""
        if key.endswith("prompt"):
            return not str(value[key]).endswith(".md")
        asked = value.get("base_url") or value.get("endpoint")
        openai = "openai" in (value.get("name"), value.get("writer"))
        return key in ("model", "checker") and bool(asked or openai)

    for path in _PATHS:
        tree = beside(tree, path.split("."))
    return tree


def _own_faults(error: ValidationError) -> list[ErrorDetails]:
    """Leave out what only follows from another fault, as a list short of its one bad entry."""
    entries = error.errors()
    return [
        entry
        for entry in entries
        if entry["type"] != "too_short"
        or not any(
            other["loc"][: len(entry["loc"])] == entry["loc"] for other in entries if other != entry
        )
    ]


def _origin(
    loc: Sequence[str | int],
    places: Sequence[str],
    sources: Sequence[tuple[str, dict[str, Any]]],
    settings: Sequence[str],
) -> str:
    """Say which setting or file wrote the value at a place: the last one that speaks of it."""
    numbered = [str(key) for key in loc]
    for setting in reversed(settings):
        keys = setting.partition("=")[0].split(".")
        if any(keys[: len(path)] == path[: len(keys)] for path in (list(places), numbered)):
            return f"--set {setting}"
    for file, tree in sources[::-1]:
        here: Any = tree
        try:
            for key in loc:
                here = here[key]
        except (KeyError, IndexError, TypeError):
            continue
        return file
    return sources[0][0]


_WANTED = {"model_type": "must be a mapping of keys to values", "tuple_type": "must be a list"}


def _fault(entry: ErrorDetails, places: Sequence[str]) -> str:
    place = ".".join(places)
    if entry["type"] == "extra_forbidden":
        return f"{place}: unknown key{did_you_mean(str(entry['loc'][-1]), _siblings(entry['loc']))}"
    if entry["loc"][-1:] == ("[key]",):
        wanted = str(entry.get("ctx", {}).get("expected", ""))
        known = re.findall(r"'([^']+)'", wanted)
        hint = did_you_mean(str(entry["input"]), known)
        return f"{'.'.join(places[:-1])}: unknown key; it must be one of {', '.join(known)}{hint}"
    message = _WANTED.get(entry["type"]) or entry["msg"].removeprefix("Value error, ")
    shown = entry.get("input")
    detail = (
        f" (it is {shown!r})"
        if isinstance(shown, str | int | float | bool)
        and "it is" not in message
        and f"'{shown}'" not in message
        else ""
    )
    return f"{place}: {message}{detail}" if place else message


def _named_places(loc: Sequence[str | int], tree: Any) -> list[str]:
    """Write a list entry's place as its name where it has one."""
    places: list[str] = []
    here = tree
    for key in loc:
        try:
            here = here[key]
        except (KeyError, IndexError, TypeError):
            here = None
        name = here.get("name") if isinstance(key, int) and isinstance(here, dict) else None
        places.append(str(name if name is not None else key))
    return places


def _siblings(loc: Sequence[str | int]) -> list[str]:
    """The known keys at the place where an unknown one was found."""
    model: Any = Recipe
    for key in loc[:-1]:
        if isinstance(key, int):
            continue
        field = (
            model.model_fields.get(str(key))
            if isinstance(model, type) and issubclass(model, Config)
            else None
        )
        if field is None:
            return []
        model = _config_in(field.annotation)
        if model is None:
            return []
    return list(model.model_fields)


def _config_in(annotation: Any) -> type[Config] | None:
    """The Config class that an annotation holds: itself, or within a tuple or a union."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _config_in(part)
        if found is not None:
            return found
    return None
