"""Fine-tuning: what is learned, from what, and what is left behind."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny_run import tiny_rows, write_lines

from drenpa.config import CorpusConfig, EngineConfig, FinetuneConfig, LoraConfig, TrainConfig
from drenpa.core.artefacts import Plan, journal_lines, run_plan, write_rows
from drenpa.core.errors import DataError
from drenpa.core.prompts import load_prompt
from drenpa.core.records import Ranking, Record
from drenpa.corpus.curate import curate
from drenpa.engine.adapters import load_backbone
from drenpa.engine.chat import Chat, Message
from drenpa.engine.policy import load_policy
from drenpa.finetune.train import fine_tune, plan_finetune

ENGINE = EngineConfig(device="cpu", dtype="float32", tracker="none")
BF16 = EngineConfig(device="cpu", dtype="bfloat16", tracker="none")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    files = {
        role: (str(write_lines(folder / f"{role}.jsonl", rows)),)
        for role, rows in tiny_rows().items()
    }
    return curate(CorpusConfig(**files, held_out=0.5), root=folder, seed=1)


@pytest.fixture
def model(tiny_folder):
    return tiny_folder("llama", max_position_embeddings=1024)


def config(**changes):
    train = {"learning_rate": 0.01, "lora": LoraConfig(rank=2), "schedule": "constant"}
    train |= changes.pop("train", {})
    return FinetuneConfig(**{"epochs": 1, "batch": 4, **changes}, train=TrainConfig(**train))


def run(corpus, model, root, **changes):
    engine = changes.pop("engine", ENGINE)
    return fine_tune(corpus, config(**changes), model=str(model), engine=engine, root=root)


def weights(artefact):
    return load_file(artefact.path / "model" / "model.safetensors")


def losses(artefact):
    return [line["loss"] for line in journal_lines(artefact.path / "metrics.jsonl")]


def test_the_first_loss_is_the_mean_over_the_assistants_tokens_alone(corpus, model, tmp_path):
    artefact = run(corpus, model, tmp_path, batch=100, critique_share=0.0)

    # By hand: each row through the whole model, and only the answer's tokens and its end counted.
    network, tokenizer = load_backbone(model, ENGINE)
    chat = Chat(tokenizer)
    instruction = load_prompt("answer", "en").text
    held_out = {r.record for r in corpus.rows("rankings", Ranking) if r.split == "held_out"}
    total, count = 0.0, 0
    for record in corpus.rows("records", Record):
        if record.id in held_out:
            continue
        given = chat.prompt([Message("system", instruction), Message("user", record.question)])
        said = (*chat.text(record.answer), chat.end_id)
        ids = torch.tensor([[*given, *said]])
        with torch.no_grad():
            logprobs = network(input_ids=ids).logits[0].log_softmax(-1)
        for place in range(len(given), ids.shape[1]):
            total -= float(logprobs[place - 1, ids[0, place]])
            count += 1
    (line,) = journal_lines(artefact.path / "metrics.jsonl")
    assert line["tokens"] == count
    assert line["loss"] == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("lora", [LoraConfig(rank=2), None], ids=["adapter", "whole"])
def test_the_size_of_micro_batches_changes_neither_losses_nor_weights(
    corpus, model, tmp_path, lora
):
    one, five = (
        run(corpus, model, tmp_path / str(size), train={"micro_batch": size, "lora": lora})
        for size in (1, 5)
    )

    assert losses(one) == pytest.approx(losses(five), rel=1e-4)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(five)[name], rtol=1e-2, atol=2e-4)


@pytest.mark.parametrize("lora", [LoraConfig(rank=4), None], ids=["adapter", "whole"])
def test_what_is_taught_is_learned(corpus, model, tmp_path, lora):
    artefact = run(corpus, model, tmp_path, epochs=12, train={"learning_rate": 0.02, "lora": lora})

    told = losses(artefact)
    assert sum(told[-3:]) < 0.9 * sum(told[:3])
    assert artefact.summary["last_loss"] == told[-1]
    assert artefact.summary["steps"] == len(told)


def test_a_recomputed_forward_pass_changes_nothing(corpus, model, tmp_path):
    kept, recomputed = (
        run(corpus, model, tmp_path / str(again), train={"gradient_checkpointing": again})
        for again in (False, True)
    )

    assert losses(kept) == pytest.approx(losses(recomputed), rel=1e-5)


def test_the_result_is_an_ordinary_folder_that_answers_the_same(corpus, model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    artefact = run(corpus, model, tmp_path)
    folder = artefact.path / "model"
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    policy = load_policy(artefact, engine=ENGINE, instruction="Be brief.")
    ids = torch.tensor([policy.prompt_ids("Why?")])

    said = plain.generate(ids, do_sample=False, max_new_tokens=5, pad_token_id=0)[0, ids.shape[1] :]
    text = tokenizer.decode(said, skip_special_tokens=True).strip()

    assert policy.answer("Why?", max_new_tokens=5) == text
    assert not any("lora" in name for name in weights(artefact))


def test_a_merged_folder_is_kept_in_the_precision_of_the_engine(corpus, model, tmp_path):
    artefact = run(corpus, model, tmp_path, engine=BF16)

    assert {tensor.dtype for tensor in weights(artefact).values()} == {torch.bfloat16}
    before = load_file(model / "model.safetensors")
    after = weights(artefact)
    assert any((after[n].float() != before[n].bfloat16().float()).any() for n in after)


def test_whole_weights_keep_an_update_that_bfloat16_would_lose(corpus, model, tmp_path):
    rate = {"lora": None, "learning_rate": 1e-6}
    artefact = run(corpus, model, tmp_path, engine=BF16, train=rate)

    before = load_file(model / "model.safetensors")
    for name, after in weights(artefact).items():
        assert after.dtype == torch.float32
        moved = (after - before[name]).abs()
        assert 0 < moved.max() < 1e-4  # from the weights as they stand in the file


@pytest.mark.parametrize(("share", "critiques"), [(0.0, 0), (0.5, 6), (1.0, 12)])
def test_critiques_take_part_in_their_share(corpus, model, tmp_path, share, critiques):
    # Eight questions, one of two of each kind held out: four rankings of three answers are left.
    artefact = run(corpus, model, tmp_path, critique_share=share, batch=100)

    expected = {"instruction": 4} | ({"critique": critiques} if critiques else {})
    assert artefact.summary["samples"] == expected
    assert artefact.summary["held_out"] == 4


def test_what_a_critic_must_not_have_learned_is_left_out(corpus, model, tmp_path):
    trained = [r.id for r in corpus.rows("rankings", Ranking) if r.split == "train"]
    artefact = fine_tune(
        corpus,
        config(batch=100),
        model=str(model),
        engine=ENGINE,
        root=tmp_path,
        watched=trained[:1],
        apart=trained[1:3],
    )

    # A watched question's answer and critiques, and the critiques of those that stand apart.
    assert artefact.summary["samples"] == {"instruction": 3, "critique": 3}
    assert artefact.summary["watched"] == 1
    assert artefact.config["apart"] == sorted(trained[1:3])


@pytest.mark.parametrize("how", ["held_out", "watched"])
def test_a_measured_question_is_not_learned_from_another_record_of_it(corpus, model, tmp_path, how):
    """Two annotators' records of one question: only the first is ranked."""
    rankings = corpus.rows("rankings", Ranking)
    split = {"held_out": "held_out", "watched": "train"}[how]
    one = next(r for r in rankings if r.split == split)
    records = corpus.rows("records", Record)
    first = next(record for record in records if record.id == one.record)
    again = first.model_copy(update={"id": "again", "question": f" {first.question.upper()}"})

    def work(folder):
        write_rows(folder / "records.parquet", [*records, again])
        write_rows(folder / "rankings.parquet", rankings)
        return {}

    doubled = run_plan(Plan("corpus", "corpus", tmp_path, {}, {}, (), work))
    settings = {"model": str(model), "engine": ENGINE, "root": tmp_path}
    settings |= {"watched": [one.id]} if how == "watched" else {}
    alone, both = (fine_tune(c, config(batch=100), **settings) for c in (corpus, doubled))

    assert both.summary["samples"] == alone.summary["samples"]
    assert both.summary[how] == alone.summary[how] + 1


def test_a_limit_beyond_the_models_context_is_the_context(corpus, tiny_folder, tmp_path):
    narrow = tiny_folder("llama", max_position_embeddings=256)

    with pytest.raises(DataError, match="no row of it fits into 256 tokens"):
        run(corpus, narrow, tmp_path, train={"max_length": 4096})


def test_its_key_depends_on_what_can_change_the_weights(corpus, model, tmp_path):
    def key(**changes):
        settings = {"model": str(model), "engine": ENGINE, "root": tmp_path, "seed": 1}
        settings |= {k: changes.pop(k) for k in list(changes) if k in ("seed", "engine")}
        return plan_finetune(corpus, config(**changes), **settings).key

    assert key() == key()
    keys = {key(), key(seed=2), key(engine=BF16), key(batch=8), key(train={"lora": None})}
    assert len(keys) == 5
    logged = EngineConfig(device="cpu", dtype="float32", tracker="tensorboard")
    assert key(engine=logged) == key()
