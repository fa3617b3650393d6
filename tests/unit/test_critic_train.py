"""Training the critic: what a step holds, what is learned, and what a run leaves behind."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from tests.killed import killed_after_call

from drenpa.config import CriticConfig, EngineConfig, LoraConfig, TrainConfig
from drenpa.core.artefacts import Plan, run_plan, write_rows
from drenpa.core.errors import ConfigError, DataError
from drenpa.core.records import Candidate, Ranking, Record
from drenpa.critic import train as critic_train
from drenpa.critic.examples import read_examples
from drenpa.critic.lots import draw_lots, lots_of
from drenpa.critic.score import load_critic
from drenpa.critic.train import measure, plan_train_critic, train_critic
from drenpa.engine.loop import Trainee

# peft asks transformers for a property that is going away.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

ENGINE = EngineConfig(device="cpu", dtype="float32", tracker="none")
WORDS = ("sun", "moon", "rain", "snow", "wind", "fire", "salt", "gold")


def config(**changes):
    train = {
        "learning_rate": 1e-2,
        "schedule": "constant",
        "micro_batch": 2,
        "checkpoint_every": 3,
        "max_length": 500,
        "lora": LoraConfig(rank=4),
    }
    train |= changes.pop("train", {})
    settings = {"epochs": 1, "batch": 3, "max_critique_tokens": 12} | changes
    return CriticConfig(train=TrainConfig(**train), **settings)


def corpus_of(root, rankings, records=None):
    records = records or [
        Record(id=word, kind="foundation", question=f"Say {word}?", answer=word) for word in WORDS
    ]

    def work(folder):
        write_rows(folder / "records.parquet", records)
        write_rows(folder / "rankings.parquet", rankings)
        return {}

    return run_plan(Plan("corpus", "corpus", root, {}, {}, (), work))


def ranking(word, split="train", **changes):
    candidates = (
        Candidate(id="a", answer=word, rank=1, note="right", critique="Good."),
        Candidate(id="b", answer="hmm", rank=2, note="vague", critique="Thin."),
        Candidate(id="c", answer=word[::-1], rank=3, note="wrong", critique=""),
    )
    return Ranking(
        **{"id": f"{word}-r", "record": word, "candidates": candidates, "split": split} | changes
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    rows = [ranking(word, "train" if n < 5 else "held_out") for n, word in enumerate(WORDS)]
    return corpus_of(tmp_path_factory.mktemp("corpus"), rows)


@pytest.fixture
def training(corpus, tiny_folder, tmp_path):
    """A run that is prepared and not begun, of the given config."""

    def make(settings=None, **engine):
        settings = settings or config()
        made = []
        plan = plan_train_critic(
            corpus,
            tiny_folder(),
            settings,
            root=tmp_path,
            engine=ENGINE.model_copy(update=engine),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(critic_train._Training, "run", lambda self: made.append(self) or {})
            plan.work(tmp_path / "work")
        return made[0]

    return make


def gradients(run, config_):
    """The whole step's loss and gradients under a config that differs in its micro-batches."""
    run.config = config_
    trainee = Trainee(run.model, run.loss, run.engine)
    trainee.zero_grad()
    total = 0.0
    for micro in run.stream(0).micro_batches:
        result = trainee(micro)
        result.loss.backward()
        total += result.loss.item()
    return total, [p.grad.clone() for p in trainee.parameters() if p.grad is not None]


def stir(run):
    """Move adapter and head away from their start, where many gradients are zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in run.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def test_micro_batches_change_neither_the_loss_nor_the_gradient(training):
    run = training()
    stir(run)
    whole = gradients(run, config(train={"micro_batch": 9}))
    parts = gradients(run, config(train={"micro_batch": 1}))
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    assert len(whole[1]) > 2
    for part, all_ in zip(parts[1], whole[1], strict=True):
        assert (part - all_).norm() <= 1e-4 * all_.norm() + 1e-9


def test_the_loss_is_that_of_each_row_by_itself(training):
    """P3 once more, row by row through transformers' own forward pass and its own cross-entropy."""
    run = training()
    stir(run)
    (micro,) = run.stream(0).micro_batches[:1]
    found = run.loss(run.model, micro)
    nats, tokens, pairs = 0.0, 0, []
    for lesson in micro.lessons:
        scores = []
        for suffix, taught in zip(lesson.group.suffixes, lesson.taught, strict=True):
            ids = torch.tensor([[*lesson.group.prefix, *suffix]])
            labels = ids.clone()
            labels[0, : ids.shape[1] - taught] = -100
            with torch.no_grad():
                out = run.model.model(ids, labels=labels, output_hidden_states=True)
            nats += out.loss.item() * taught
            tokens += taught
            weight = run.model.head.weight[0].detach()
            scores.append((weight @ out.hidden_states[-1][0, -1]).item())
        pairs += [
            math.log1p(math.exp(scores[j] - scores[i]))
            for i in range(3)
            for j in range(3)
            if lesson.ranks[i] < lesson.ranks[j]
        ]
    expected = nats / micro.tokens + sum(pairs) / micro.pairs
    assert tokens > 0
    assert found.loss.item() == pytest.approx(expected, rel=1e-4)


def test_every_epoch_takes_every_training_question_once_in_another_order(training):
    run = training()
    epochs = []
    for epoch in range(2):
        steps = [run.stream(epoch * 2 + n) for n in range(2)]  # 5 questions, 3 a step
        prefixes = [
            lesson.group.prefix
            for step in steps
            for micro in step.micro_batches
            for lesson in micro.lessons
        ]
        epochs.append(prefixes)
    known = {run.layout.ask(f"Say {word}?").prefix for word in WORDS[:5]}
    assert set(epochs[0]) == set(epochs[1]) == known
    assert len(epochs[0]) == 5
    assert epochs[0] != epochs[1]


def test_true_critiques_are_taught_and_a_note_stands_in_for_a_missing_one(training):
    run = training()
    lesson = run.lesson(0, 0)
    texts = [
        run.layout.chat.decode(suffix[-taught:-1])
        for suffix, taught in zip(lesson.group.suffixes, lesson.taught, strict=True)
    ]
    assert texts == ["Good.", "Thin.", "wrong"]
    assert all(suffix[-1] == run.layout.end_id for suffix in lesson.group.suffixes)


def test_of_a_critique_that_is_cut_no_end_is_taught_and_the_score_is_read_at_one(training):
    run = training(config(max_critique_tokens=3))
    stir(run)
    lesson = run.lesson(0, 0)
    whole = [run.layout.chat.text(text) for text in run.train_set[0].critiques]
    assert lesson.cut == tuple(len(ids) > 3 for ids in whole) == (True, True, True)
    assert lesson.taught == (3, 3, 3)
    for suffix, ids in zip(lesson.group.suffixes, whole, strict=True):
        assert suffix[-4:] == (*ids[:3], run.layout.end_id)
    reading = run.model.read([lesson.group])
    taught_NT = critic_train._taught(reading.states.mask_NT, lesson.taught, lesson.cut)
    lengths = reading.states.mask_NT.sum(dim=1).tolist()
    for row, length in zip(taught_NT, lengths, strict=True):
        assert row.nonzero().flatten().tolist() == [length - 4, length - 3, length - 2]
    example = run.train_set[0]
    given = [[ids[:3] for ids in whole]]
    again = run.critic.reread([example.question], [example.answers], given)[0]
    assert reading.scores_N.tolist() == pytest.approx(again, abs=1e-5)


def test_how_many_critiques_are_cut_is_told_by_language(corpus, tiny_folder, tmp_path):
    settings = config(max_critique_tokens=3)
    summary = train_critic(corpus, tiny_folder(), settings, root=tmp_path, engine=ENGINE).summary
    assert summary["critiques_cut"] == 15
    (warning,) = summary["warnings"]
    assert warning.startswith("15 of 15 critiques in en cut")
    assert "critic.max_critique_tokens (3)" in warning


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_own_critiques_are_read_in_their_share_and_never_taught(training, share):
    run = training(config(own_epochs=1, own_share=share))
    lessons = [run.lesson(n, 1) for n in range(5)]
    own = 0
    for number, lesson in enumerate(lessons):
        written = run.own_critiques(1)[number]
        assert {k for k, taught in enumerate(lesson.taught) if taught == 0} == set(written)
        for place, ids in written.items():
            own += 1
            cue = run.layout.read(
                run.layout.ask(run.train_set[number].question), run.train_set[number].answers[place]
            )
            assert lesson.group.suffixes[place] == (*cue.ids, *ids, run.layout.end_id)
    assert {0.0: own == 0, 0.5: 3 <= own <= 12, 1.0: own == 15}[share]
    assert run.lesson(0, 0).taught == run.lesson(0, 0).taught != (0, 0, 0)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_critiques_is_kept_from_the_head_before_the_own_epochs(training, share):
    run = training(config(own_epochs=1, own_share=0.0, bare_share=share))
    bare = 0
    for number in range(5):
        lesson = run.lesson(number, 0)
        asked = run.layout.ask(run.train_set[number].question)
        for place, answer in enumerate(run.train_set[number].answers):
            if lesson.taught[place] == 0:
                bare += 1
                ids = run.layout.read(asked, answer).ids
                assert lesson.group.suffixes[place] == (*ids, run.layout.end_id)
        assert all(run.lesson(number, 1).taught)
    assert {0.0: bare == 0, 0.5: 3 <= bare <= 12, 1.0: bare == 15}[share]


def test_rankings_that_stand_apart_teach_the_head_alone_and_the_others_writing_alone(training):
    run = training(config(epochs=2, own_epochs=3, own_share=1.0, apart_share=0.4, batch=2))
    apart = {run.layout.ask(run.train_set[n].question).prefix for n in run.schedule.apart}
    assert len(apart) == 2
    # Two epochs of 3 taught rankings, 2 a step, then three of the 2 that stand apart.
    assert run.schedule.steps == 2 * 2 + 3
    for step in range(run.schedule.steps):
        lessons = [x for micro in run.stream(step).micro_batches for x in micro.lessons]
        scored = [x for x in lessons if x.group.prefix in apart]
        taught = [x for x in lessons if x.group.prefix not in apart]
        assert len(scored) == (0 if step < 4 else 2)
        assert all(x.ranks == (1, 2, 3) and x.taught == (0, 0, 0) for x in scored)
        assert taught
        assert all(x.ranks == (1, 1, 1) and all(x.taught) for x in taught)


def test_of_a_step_without_pairs_no_accuracy_is_told(training):
    run = training(config(own_epochs=1, own_share=1.0, apart_share=0.4, batch=5))
    told = [run.loss(run.model, run.stream(step).micro_batches[0]).metrics for step in (0, 1)]
    assert set(told[0]) == {"critique_loss"}
    assert set(told[1]) == {"critique_loss", "score_loss", "pair_accuracy"}


def test_the_head_reads_what_the_critic_writes_of_rankings_that_stand_apart(training):
    run = training(config(own_epochs=1, own_share=1.0, apart_share=0.4))
    written = run.own_critiques(1)
    assert [n for n, row in enumerate(written) if row] == list(run.schedule.apart)
    for number in run.schedule.apart:
        suffixes = run.lesson(number, 1).group.suffixes
        for place, ids in written[number].items():
            assert suffixes[place][-len(ids) - 1 :] == (*ids, run.layout.end_id)


def test_the_scalar_scorer_learns_from_every_ranking_whatever_stands_apart(training):
    run = training(config(own_epochs=1, apart_share=0.4, critique_weight=0.0))
    assert not run.schedule.apart
    assert run.schedule.steps == 2


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_a_share_apart_that_leaves_nothing_to_one_side_is_refused(training, share):
    with pytest.raises(ConfigError, match="apart_share"):
        training(config(own_epochs=1, apart_share=share))


def test_foils_are_read_criticised_and_taught_like_other_answers(training):
    run = training(config(own_epochs=1, own_share=1.0, foils=2))
    lesson = run.lesson(0, 0)
    assert lesson.ranks == (1, 2, 3, 3, 3)
    assert all(lesson.taught)
    assert run.lesson(0, 0) == lesson
    assert {len(row) for row in run.own_critiques(1)} == {5}
    assert run.example(0, 0) != run.example(0, 1)
    assert run.lesson(0, 1).taught == (0,) * 5


def test_a_critic_keeps_to_what_its_backbone_can_read(training):
    run = training(config(train={"max_length": 100_000}))
    assert run.settings.max_length == run.layout.max_length < 100_000


def test_the_share_of_own_critiques_moves_from_the_first_own_epoch_to_the_last(training):
    run = training(config(own_epochs=3, own_share=(0.2, 0.8)))
    assert [run.own_share(epoch) for epoch in (1, 2, 3)] == pytest.approx([0.2, 0.5, 0.8])
    assert training(config(own_epochs=1, own_share=(0.2, 0.8))).own_share(1) == 0.2


def test_watched_questions_are_never_trained_on(training):
    run = training(config(watch_share=0.4))
    assert len(run.watched) == 2
    assert len(run.train_set) == 3
    assert not {e.id for e in run.watched} & {e.id for e in run.train_set}
    assert {e.id for e in run.watched} == {e.id for e in training(run.config).watched}


@pytest.mark.parametrize("share", ["watch_share", "apart_share"])
def test_all_rankings_of_a_question_fall_under_one_lot(tmp_path, tiny_folder, share):
    rows = [ranking(word, id=f"{word}-{n}") for word in WORDS for n in (1, 2)]
    corpus = corpus_of(tmp_path, rows)
    lots = lots_of(corpus, config(own_epochs=1, **{share: 0.5}), seed=1)
    drawn = lots.watched or lots.apart
    assert len(drawn) == 8
    assert {name[:-2] for name in drawn if name.endswith("-1")} == {
        name[:-2] for name in drawn if name.endswith("-2")
    }
    assert lots == lots_of(corpus, config(own_epochs=1, **{share: 0.5}), seed=1)
    assert lots != lots_of(corpus, config(own_epochs=1, **{share: 0.5}), seed=2)


def test_what_is_watched_and_what_stands_apart_tells_better_from_worse():
    rankings = [(f"{n}", f"Q{n}?", (1, 1) if n < 4 else (1, 2)) for n in range(12)]
    for seed in range(5):
        lots = draw_lots(rankings, config(own_epochs=1, watch_share=0.25, apart_share=1.0), seed)
        assert len(lots.watched) == 2
        assert lots.watched | lots.apart == {f"{n}" for n in range(4, 12)}
        assert not lots.watched & lots.apart


def test_a_share_that_leaves_no_pair_to_train_on_is_refused(tmp_path, tiny_folder):
    """Three questions with an order and three without: the share takes the three away."""
    rows = [
        ranking(
            word, candidates=[c.model_copy(update={"rank": 1}) for c in ranking(word).candidates]
        )
        if n < 3
        else ranking(word)
        for n, word in enumerate(WORDS[:6])
    ]
    plan = plan_train_critic(
        corpus_of(tmp_path, rows),
        tiny_folder(),
        config(watch_share=0.9),
        root=tmp_path,
        engine=ENGINE,
    )
    with pytest.raises(
        ConfigError, match=r"watch_share: 0\.9 .* leaves 0 rankings .* and 3 to watch"
    ):
        run_plan(plan)


def test_a_share_that_leaves_nothing_to_train_on_or_to_watch_is_refused(training):
    for share in (1.0, 0.01):
        with pytest.raises(ConfigError, match="watch_share"):
            training(config(watch_share=share))


def test_a_watched_run_ends_early_and_says_which_epoch_it_kept(corpus, tiny_folder, tmp_path):
    settings = config(epochs=1, own_epochs=6, watch_share=0.4, refresh_gap=1.0, patience=9)
    artefact = train_critic(corpus, tiny_folder(), settings, root=tmp_path, engine=ENGINE)
    assert artefact.summary["epochs"] == 1  # no gap is above 1
    assert artefact.summary["epoch_kept"] == 1
    assert artefact.summary["watched"] == 2
    line = json.loads((artefact.path / "epochs.jsonl").read_text())
    sources = {"gold", "own", "none", "shuffled"}
    assert set(line) == sources | {"epoch", "gap", "use", "all_pairs"}
    assert set(line["all_pairs"]) == sources


def test_own_critiques_of_an_epoch_outlive_the_weights_that_wrote_them(training):
    settings = config(own_epochs=1)
    first = training(settings).own_critiques(1)
    later = training(settings)
    stir(later)
    assert later.own_critiques(1) == first
    assert later.own_critiques(2) != first
    assert any(ids for row in first for ids in row.values())


def test_a_scalar_scorer_reads_no_critiques_and_learns_none(training):
    run = training(config(critique_weight=0.0, own_epochs=3))
    lesson = run.lesson(0, 0)
    assert lesson.taught == (0, 0, 0)
    asked = run.layout.ask(run.train_set[0].question)
    expected = (*run.layout.read(asked, run.train_set[0].answers[0]).ids, run.layout.end_id)
    assert lesson.group.suffixes[0] == expected
    told = run.loss(run.model, run.stream(0).micro_batches[0]).metrics
    assert set(told) == {"score_loss", "pair_accuracy"}


def test_a_critic_learns_an_order_that_can_be_learned(corpus, tiny_folder, tmp_path):
    settings = config(epochs=30, train={"schedule": "cosine"})
    artefact = train_critic(corpus, tiny_folder(), settings, root=tmp_path, engine=ENGINE)
    table = json.loads((artefact.path / "accuracy.json").read_text(encoding="utf-8"))
    # The true critiques give the order away on questions it has never seen.
    assert table["gold"]["accuracy"] > 0.8
    assert table["gold"]["pairs"] == table["own"]["pairs"] == 9
    metrics = (artefact.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    first, last = json.loads(metrics[0]), json.loads(metrics[-1])
    assert first["score_loss"] == pytest.approx(math.log(2), abs=1e-6)  # the head starts at zero
    assert last["score_loss"] < 0.3
    assert last["critique_loss"] < first["critique_loss"] - 1
    assert last["pair_accuracy"] > 0.9


def test_an_artefact_holds_all_that_scoring_needs(corpus, tiny_folder, tmp_path):
    artefact = train_critic(
        corpus, tiny_folder(), config(own_epochs=1), root=tmp_path, engine=ENGINE, seed=2
    )
    assert artefact.kind == "critic"
    names = {path.name for path in artefact.path.iterdir()}
    assert names >= {"model", "head.safetensors", "critic.json", "accuracy.json", "metrics.jsonl"}
    assert "scratch" not in names
    lines = (artefact.path / "critiques.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 9
    assert {row["question"] for row in rows} == {f"Say {word}?" for word in WORDS[5:]}
    critic = load_critic(artefact, engine=ENGINE)
    scores = critic.score([rows[0]["question"]], [[row["answer"] for row in rows[:3]]])
    assert scores.rewards[0] == pytest.approx([row["score"] for row in rows[:3]], abs=1e-5)
    assert list(scores.critiques[0]) == [row["own"] for row in rows[:3]]
    assert artefact.summary["critiques"] == {"given": 16, "note": 8}
    assert artefact.summary["questions"] == 5
    assert set(artefact.summary["accuracy"]) == {"gold", "own", "none", "shuffled"}


def test_shuffled_critiques_are_each_others_within_a_question(training):
    run = training()
    stir(run)
    written, scores = measure(run.critic, run.held_out, seed=1)
    assert len(written) == 3
    questions = [e.question for e in run.held_out]
    answers = [e.answers for e in run.held_out]
    turns = [
        run.critic.reread(
            questions, answers, [[row[(n + turn) % 3].ids for n in range(3)] for row in written]
        )
        for turn in (1, 2)
    ]
    for number, row in enumerate(scores["shuffled"]):
        assert any(row == pytest.approx(turn[number], abs=1e-5) for turn in turns)


def test_an_answer_without_a_true_critique_has_no_gold_score(tiny_folder, tmp_path):
    rows = [ranking(word, "train" if n < 5 else "held_out") for n, word in enumerate(WORDS)]
    bare = rows[5].candidates[0].model_copy(update={"note": "", "critique": ""})
    rows[5] = rows[5].model_copy(update={"candidates": (bare, *rows[5].candidates[1:])})
    corpus = corpus_of(tmp_path / "c", rows)
    artefact = train_critic(corpus, tiny_folder(), config(), root=tmp_path, engine=ENGINE)
    table = json.loads((artefact.path / "accuracy.json").read_text(encoding="utf-8"))
    assert (table["gold"]["pairs"], table["gold"]["unscored"]) == (7, 2)
    assert (table["own"]["pairs"], table["own"]["unscored"]) == (9, 0)


def test_a_question_is_never_both_trained_on_and_measured(tmp_path):
    rows = [ranking("sun"), ranking("moon"), ranking("sun", "held_out", id="sun-2")]
    corpus = corpus_of(tmp_path, rows)
    critiques = {(row.id, c.id): "" for row in rows for c in row.candidates}
    with pytest.raises(DataError, match="sun-2"):
        read_examples(corpus, critiques)


def test_rankings_that_teach_nothing_or_of_no_record_are_refused(tmp_path):
    flat = ranking("sun")
    flat = flat.model_copy(
        update={"candidates": tuple(c.model_copy(update={"rank": 1}) for c in flat.candidates)}
    )
    with pytest.raises(DataError, match="better from a worse"):
        read_examples(corpus_of(tmp_path / "a", [flat]), {("sun-r", c): "" for c in "abc"})
    lost = ranking("sun", record="nobody")
    with pytest.raises(DataError, match="'nobody'"):
        read_examples(corpus_of(tmp_path / "b", [lost]), {("sun-r", c): "" for c in "abc"})


def test_what_cannot_be_trained_is_told_before_anything_is_loaded(corpus, tiny_folder, tmp_path):
    def plan(**changes):
        plan_train_critic(corpus, tiny_folder(), config(**changes), root=tmp_path, engine=ENGINE)

    with pytest.raises(ConfigError, match=r"train\.lora"):
        plan(train={"lora": None})
    with pytest.raises(ConfigError, match="both 0"):
        plan(critique_weight=0, score_weight=0)


def test_a_limit_that_no_question_fits_is_an_error_and_a_long_question_is_counted(
    corpus, tiny_folder, tmp_path
):
    short = config(train={"max_length": 40})
    with pytest.raises(ConfigError, match="max_length"):
        train_critic(corpus, tiny_folder(), short, root=tmp_path, engine=ENGINE)


RUN = """
import sys
from pathlib import Path
from tests.unit.test_critic_train import ENGINE, config
from drenpa.core.artefacts import open_artefact
from drenpa.critic.train import train_critic
corpus, model, root = sys.argv[1:]
settings = config(epochs=2, own_epochs=2, batch=1)
print(train_critic(open_artefact(corpus), model, settings, root=Path(root), engine=ENGINE).path)
"""


def test_a_run_killed_in_its_own_epochs_ends_with_the_weights_of_an_unbroken_one(
    corpus, tiny_folder, tmp_path
):
    settings = config(epochs=2, own_epochs=2, batch=1)
    whole = train_critic(
        corpus, str(tiny_folder()), settings, root=tmp_path / "whole", engine=ENGINE
    )
    broken = tmp_path / "broken"
    arguments = (corpus.path, tiny_folder(), broken)
    killed_after_call(RUN, *arguments, module="drenpa.engine.loop", name="append_line", count=13)
    (partial,) = broken.glob("critic-*.partial")
    assert list(partial.glob("scratch/checkpoint-*"))
    resumed = train_critic(corpus, str(tiny_folder()), settings, root=broken, engine=ENGINE).path
    for name in ("head.safetensors", "model/adapter_model.safetensors"):
        found, expected = load_file(resumed / name), load_file(whole.path / name)
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            assert torch.equal(found[key], tensor), key
    assert (resumed / "accuracy.json").read_text() == (whole.path / "accuracy.json").read_text()
