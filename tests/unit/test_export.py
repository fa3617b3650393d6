from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from tests.tiny import CHATML
from transformers import AutoModelForCausalLM, AutoTokenizer

from drenpa.card import Weights, model_card, tell_story
from drenpa.config import EngineConfig, LoraConfig
from drenpa.core.artefacts import (
    Artefact,
    Plan,
    as_input,
    file_input,
    point,
    run_plan,
    write_rows,
    write_text,
)
from drenpa.core.errors import ArtefactError, ModelError
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.records import Record
from drenpa.engine.adapters import add_adapter, load_backbone, save_adapter
from drenpa.engine.policy import load_policy
from drenpa.export import _tell_transformers_4, export_policy

# peft asks transformers for a property that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)

ENGINE = EngineConfig(device="cpu", dtype="float32")
INSTRUCTION = "Answer briefly."
QUESTION = "What is a hive?"
STAGE = {
    "reward": {"critic": 1.0, "finished": 0.0},
    "weights": {"foundation": 4.0, "connection": 1.0},
    "objective": {"margin_weight": 0.5, "kl_coef": 0.001},
    "prompts": 4,
    "group": 8,
    "train": {"learning_rate": 5e-7},
}


def artefact(
    root: Path,
    kind: Any,
    name: str,
    work: Callable[[Path], Mapping[str, Any]],
    *,
    config: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Mapping[str, str]] | None = None,
) -> Artefact:
    return run_plan(Plan(kind, name, root, config or {}, inputs or {}, (), work))


class Run:
    """A finished run over a tiny random model: corpus, fine-tuned model, critic, one RL stage."""

    def __init__(self, root: Path, model: Path, *, scale: float = 0.2) -> None:
        self.root = root
        self.corpus = artefact(root, "corpus", "corpus", self._corpus)
        self.finetuned = artefact(
            root,
            "policy",
            "finetune",
            lambda folder: self._whole(model, folder),
            config={"model": str(model), "answer_prompt": INSTRUCTION, "seed": 3},
            inputs={"corpus": as_input(self.corpus), "model": file_input(model)},
        )
        self.critic = artefact(root, "critic", "critic", self._critic)
        self.policy = artefact(
            root,
            "policy",
            "reinforce-memory-main",
            lambda folder: self._adapter(folder, scale),
            config={
                "stage": STAGE,
                "strategy": "memory",
                "instruction": INSTRUCTION,
                "seed": 3,
            },
            inputs={
                "backbone": as_input(self.finetuned),
                "start": as_input(self.finetuned),
                "corpus": as_input(self.corpus),
                "critic": as_input(self.critic),
            },
        )

    @staticmethod
    def _corpus(folder: Path) -> Mapping[str, Any]:
        write_rows(
            folder / "records.parquet",
            [Record(id="r", kind="foundation", question=QUESTION, answer="A box of bees.")],
        )
        counts = {"total": 1, "kind": {"foundation": 1}, "language": {"en": 1}}
        return {
            "records": counts,
            "benchmark": {"total": 7, "kind": {"connection": 7}, "language": {"en": 7}},
            "rankings": {"train": {"total": 5, "pairs": 30}, "held_out": {"total": 2, "pairs": 11}},
        }

    @staticmethod
    def _whole(model: Path, folder: Path) -> Mapping[str, Any]:
        network, tokenizer = load_backbone(model, ENGINE)
        network.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        return {"steps": 11}

    @staticmethod
    def _critic(folder: Path) -> Mapping[str, Any]:
        write_text(folder / "critic.json", "{}")
        return {"accuracy": {"own": {"accuracy": 0.81, "pairs": 11}}, "used": "own"}

    def _adapter(self, folder: Path, scale: float) -> Mapping[str, Any]:
        base = self.finetuned.path / "model"
        network, tokenizer = load_backbone(base, ENGINE)
        network = add_adapter(network, LoraConfig(rank=2), "policy", seed=1)
        chance = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if "lora_B" in name:
                    weight.copy_(torch.randn(weight.shape, generator=chance) * scale)
        save_adapter(network, "policy", folder / "model", base=base)
        tokenizer.save_pretrained(folder / "model")
        return {"steps": 25}

    def report(
        self,
        policy: Artefact,
        judge: str = "offline/tiny",
        more: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Artefact:
        """A report with one table over this policy and the base model, at the run's stable name.

        more: what else the verdicts were made from.
        """
        verdicts = artefact(
            self.root,
            "verdicts",
            "benchmark-memory",
            lambda _folder: {"judge": judge, "judge_card": "It sees form better than truth."},
            config={"strategy": "memory", "model": "tiny"},
            inputs={"corpus": as_input(self.corpus), "policy": as_input(policy), **(more or {})},
        )
        cells = [
            {
                "strategy": strategy,
                "model": "tiny",
                "kind": "foundation",
                "dimension": dimension,
                "percent": percent,
                "n": 40,
                "unscored": 2,
                "low": percent - 6,
                "high": percent + 6,
            }
            for strategy, percent in (("base", 41.25), ("grpo", 99.0), ("memory", 55.5))
            for dimension in (*DIMENSIONS, "mean")
        ]

        def work(folder: Path) -> Mapping[str, Any]:
            write_text(folder / "table.json", json.dumps(cells))
            return {"cautions": ["Only 10 questions a kind."]}

        report = artefact(
            self.root, "report", "tiny", work, inputs={"verdicts 000": as_input(verdicts)}
        )
        point(self.root / "report", report.path)
        return report


@pytest.fixture
def run(tmp_path: Path, tiny_folder: Callable[..., Path]) -> Run:
    return Run(tmp_path / "run", tiny_folder())


def plain_answer(model: Any, tokenizer: Any) -> str:
    """What transformers alone says, greedily."""
    messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": QUESTION}]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        output = model.eval().generate(**inputs, max_new_tokens=24, do_sample=False)
    answer = output[0, inputs["input_ids"].shape[1] :]
    return str(tokenizer.decode(answer, skip_special_tokens=True)).strip()


def drenpa_answer(place: Artefact | Path) -> str:
    policy = load_policy(place, engine=ENGINE, instruction=INSTRUCTION)
    return policy.answer(QUESTION, max_new_tokens=24)


def test_a_merged_folder_answers_the_same_in_plain_transformers(run: Run, tmp_path: Path) -> None:
    folder = export_policy(run.policy.path, tmp_path / "out" / "merged")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    answer = plain_answer(model, AutoTokenizer.from_pretrained(folder))
    assert answer == drenpa_answer(run.policy)
    assert answer != drenpa_answer(run.finetuned)  # the adapter is heard
    assert drenpa_answer(folder) == answer
    assert not (folder / "adapter_config.json").exists()
    assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}


def test_an_adapter_folder_answers_the_same_in_plain_peft(run: Run, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    folder = export_policy(run.policy.path, tmp_path / "adapter", form="adapter")
    model = AutoPeftModelForCausalLM.from_pretrained(folder)
    answer = plain_answer(model, AutoTokenizer.from_pretrained(folder))
    assert answer == drenpa_answer(run.policy) != drenpa_answer(run.finetuned)
    assert not list(folder.glob("model*.safetensors"))


def test_an_adapter_may_name_another_base(run: Run, tmp_path: Path) -> None:
    folder = export_policy(run.policy, tmp_path / "a", form="adapter", base="me/finetuned")
    stored = json.loads((folder / "adapter_config.json").read_text())
    assert stored["base_model_name_or_path"] == "me/finetuned"
    assert "`me/finetuned`" in (folder / "README.md").read_text()


def test_a_whole_model_is_exported_byte_for_byte(run: Run, tmp_path: Path) -> None:
    folder = export_policy(run.finetuned.path, tmp_path / "sft")
    name = "model.safetensors"
    assert (folder / name).read_bytes() == (run.finetuned.path / "model" / name).read_bytes()


def test_a_whole_model_has_no_adapter_to_export(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="has no adapter; leave out --adapter"):
        export_policy(run.finetuned.path, tmp_path / "out", form="adapter")


def test_rounding_to_bfloat16_is_counted_in_the_card(
    tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    """A faint adapter is lost in bfloat16, a strong one is not: the card must tell which."""
    kept = {}
    for name, scale in (("faint", 1e-7), ("strong", 1.0)):
        run = Run(tmp_path / name, tiny_folder(), scale=scale)
        folder = export_policy(run.policy, tmp_path / f"{name}-out", dtype="bfloat16")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        assert {weight.dtype for weight in model.state_dict().values()} == {torch.bfloat16}
        base = AutoModelForCausalLM.from_pretrained(run.finetuned.path / "model", dtype="auto")
        before = base.bfloat16().state_dict()
        moved = [
            (weight != before[key])
            for key, weight in model.state_dict().items()
            if "_proj" in key  # the matrices that the adapter changes
        ]
        share = float(torch.cat([part.flatten() for part in moved]).float().mean())
        card = (folder / "README.md").read_text()
        assert f"{share:.1%} still differ" in card
        kept[name] = share
    assert kept["faint"] < 0.05
    assert kept["strong"] > 0.9


def test_the_card_tells_where_the_policy_comes_from(run: Run, tmp_path: Path) -> None:
    card = (export_policy(run.policy.path, tmp_path / "out") / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    entries = yaml.safe_load(front)
    assert "base_model" not in entries  # a folder of this machine is no name on the hub
    assert f"begun from `{Path(run.finetuned.config['model']).name}`" in text
    assert entries["language"] == ["en"]
    assert "license" not in entries
    for part in (
        "strategy `memory`",
        INSTRUCTION,
        "| finetune | fine-tuned on instructions and critiques | 3 | 11 |",
        "| reinforce-memory-main | reinforced; reward: critic 1; kind weights: foundation 4, "
        "connection 1; margin weight 0.5; KL coefficient 0.001; 4 questions with 8 answers each a "
        "step; learning rate 5e-07 | 3 | 25 |",
        "put 81% of 11 held-out pairs",
        "Training records: 1 (foundation 1)",
        "Benchmark items: 7 (connection 7)",
        "Rankings held out: 2, 11 pairs",
        "No benchmark of this policy",
        "No person has judged",
        "Licence: not recorded",
    ):
        assert part in text


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_the_code_in_the_card_runs_and_gives_the_policys_answer(
    run: Run, tmp_path: Path, form: Any
) -> None:
    folder = export_policy(run.policy, tmp_path / "out", form)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace("Your question", QUESTION).replace("256", "24")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == drenpa_answer(run.policy)


NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
)


@pytest.mark.parametrize("form", ["merged", "adapter"])
@pytest.mark.parametrize("template", [None, NO_SYSTEM])
def test_the_code_in_the_card_asks_as_drenpa_did_whatever_the_template(
    tmp_path: Path, tiny_folder: Callable[..., Path], form: Any, template: str | None
) -> None:
    run = Run(tmp_path / "run", tiny_folder(template=template))
    folder = export_policy(run.policy, tmp_path / "out", form)
    page = (folder / "README.md").read_text()
    assert ("given as the system message" in page) == (template is None)
    code = page.split("```python\n")[1].split("```")[0].replace("Your question", QUESTION)
    told: dict[str, Any] = {}
    exec(code.split("inputs =")[0].replace('"."', repr(str(folder))), told)
    asked = told["tokenizer"].apply_chat_template(
        told["messages"], add_generation_prompt=True, return_dict=False
    )
    policy = load_policy(run.policy, engine=ENGINE, instruction=INSTRUCTION)
    assert tuple(asked) == policy.prompt_ids(QUESTION)


def test_the_share_of_a_head_that_is_turned_is_said_in_the_words_of_transformers_4(
    tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    run = Run(tmp_path / "run", tiny_folder())
    folder = export_policy(run.finetuned, tmp_path / "out")
    config = folder / "config.json"
    rope = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 77.0, "partial_rotary_factor": 0.5}
    config.write_text(json.dumps({"rope_parameters": rope}))
    _tell_transformers_4(folder)
    stored = json.loads(config.read_text())
    assert (stored["rope_theta"], stored["partial_rotary_factor"]) == (77.0, 0.5)
    assert stored["rope_scaling"] == {"rope_type": "yarn", "factor": 2.0}
    assert stored["rope_parameters"] == rope


def test_what_transformers_4_would_take_a_default_for_is_said_in_its_words(
    tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 77.0}
    run = Run(tmp_path / "run", tiny_folder(rope_parameters=rope))
    folder = export_policy(run.policy, tmp_path / "out")
    stored = json.loads((folder / "config.json").read_text())
    assert stored["rope_parameters"]["rope_theta"] == stored["rope_theta"] == 77.0
    assert stored["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}
    kind = json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"]
    assert kind == "PreTrainedTokenizerFast"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.rope_parameters == rope
    answer = plain_answer(model, AutoTokenizer.from_pretrained(folder))
    assert answer == drenpa_answer(run.policy)


def test_no_path_of_this_machine_stands_in_a_merged_folder(run: Run, tmp_path: Path) -> None:
    folder = export_policy(run.policy, tmp_path / "out")
    for file in folder.glob("*"):
        assert str(tmp_path).encode() not in file.read_bytes(), file.name


def test_the_licence_of_the_first_model_is_told(
    tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    from tests.tiny import save_tiny_folder

    model = save_tiny_folder(tmp_path / "licensed")
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    run = Run(tmp_path / "run", model)
    card = (export_policy(run.policy, tmp_path / "out") / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "apache-2.0"


@pytest.mark.parametrize(
    ("source", "place", "told"),
    [
        ("models/qwen-ours", "/home/me/models/qwen-ours", None),
        ("models/qwen-ours", "/data/elsewhere/qwen", None),
        ("models/q.gguf", "/home/me/.cache/drenpa/models/q-0123", None),
        ("Qwen/Qwen2.5-0.5B", "/c/hub/models--Qwen--Qwen2.5-0.5B/snapshots/1", "Qwen/Qwen2.5-0.5B"),
        ("smollm2-135m", "/home/me/.cache/drenpa/models/smollm2-135m", "smollm2-135m"),
    ],
)
def test_only_what_came_from_the_hub_is_named_as_there(
    tmp_path: Path, source: str, place: str, told: str | None
) -> None:
    policy = artefact(
        *(tmp_path, "policy", "finetune", lambda _folder: {}),
        config={"model": source},
        inputs={"model": {"path": place, "digest": "d"}},
    )
    weights = Weights("merged", "float32", "", "")
    _, front, text = model_card(tell_story(policy), weights).split("---\n", 2)
    assert yaml.safe_load(front).get("base_model") == told
    assert f"begun from `{told or Path(source).name}`" in text


def test_figures_of_a_column_that_looked_things_up_are_not_the_policys(
    run: Run, tmp_path: Path
) -> None:
    recalled = run.report(run.policy, more={"memory": as_input(run.corpus)})
    assert tell_story(run.policy).judged is None
    with pytest.raises(ArtefactError, match="has no verdicts on"):
        tell_story(run.policy, recalled.path)


def test_the_report_beside_a_policy_gives_the_card_its_figures(run: Run, tmp_path: Path) -> None:
    run.report(run.policy)
    card = (export_policy(run.policy, tmp_path / "out") / "README.md").read_text()
    five = " | ".join(["55.5"] * 5)
    assert f"| foundation | memory | {five} | 55.5 [50, 62] | 40 | 2 |" in card
    assert "| foundation | base | 41.2" in card
    assert "| foundation | grpo |" not in card  # another strategy's column
    assert "The judge was `offline/tiny`. It sees form better than truth." in card
    assert "Only 10 questions a kind." in card
    assert "No person has judged" in card


def test_a_report_on_another_policy_gives_no_figures(run: Run, tmp_path: Path) -> None:
    report = run.report(run.finetuned)
    card = (export_policy(run.policy, tmp_path / "out") / "README.md").read_text()
    assert "No benchmark of this policy" in card
    with pytest.raises(ArtefactError, match="has no verdicts on reinforce-memory-main"):
        export_policy(run.policy, tmp_path / "asked", report=report.path)


def test_a_judgement_by_people_is_not_denied(run: Run, tmp_path: Path) -> None:
    run.report(run.policy, judge="human/panel")
    card = (export_policy(run.policy, tmp_path / "out") / "README.md").read_text()
    assert "No person has judged" not in card


def test_nothing_is_overwritten(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "notes.txt").write_text("precious")
    with pytest.raises(ArtefactError, match="is there already"):
        export_policy(run.policy, target)
    assert [file.name for file in target.iterdir()] == ["notes.txt"]


def test_an_export_that_fails_leaves_nothing(run: Run, tmp_path: Path) -> None:
    def work(folder: Path) -> Mapping[str, Any]:
        run._adapter(folder, 0.2)
        (folder / "model" / "adapter_model.safetensors").write_bytes(b"broken")
        return {"steps": 25}

    inputs = {"backbone": as_input(run.finetuned), "start": as_input(run.finetuned)}
    broken = artefact(run.root, "policy", "broken", work, config=run.policy.config, inputs=inputs)
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: is damaged"):
        export_policy(broken, tmp_path / "out" / "x")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("form", ["merged", "adapter"])
@pytest.mark.parametrize("cut", [0, 1])
def test_weights_that_were_altered_since_are_not_exported(
    run: Run, tmp_path: Path, form: Literal["merged", "adapter"], cut: int
) -> None:
    damage(run.policy.path / "model" / "adapter_model.safetensors", cut)
    with pytest.raises(
        ArtefactError, match=r"adapter_model\.safetensors: is not the file that was"
    ):
        export_policy(run.policy, tmp_path / "out" / "x", form)
    assert not (tmp_path / "out").exists()


def test_altered_weights_of_the_fine_tuned_model_are_not_exported(run: Run, tmp_path: Path) -> None:
    damage(run.finetuned.path / "model" / "model.safetensors", 0)
    for policy in (run.finetuned, run.policy):
        with pytest.raises(
            ArtefactError, match=r"/model\.safetensors: is not the file that was made"
        ):
            export_policy(policy, tmp_path / "out")


def test_weights_that_were_cut_short_are_named_by_whoever_loads_them(run: Run) -> None:
    damage(run.policy.path / "model" / "adapter_model.safetensors", 1)
    with pytest.raises(
        ArtefactError, match=r"adapter_model\.safetensors: is not the file that was"
    ):
        load_policy(run.policy, engine=ENGINE)
    damage(run.finetuned.path / "model" / "model.safetensors", 1)
    with pytest.raises(ArtefactError, match=r"/model\.safetensors: is not the file that was made"):
        load_policy(run.finetuned, engine=ENGINE)


def damage(file: Path, cut: int) -> None:
    """Turn a file's last byte round, or cut it off."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content[:-1] if cut else content)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_a_clear_error(run: Run, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(ArtefactError, match="cannot be written"):
        export_policy(run.policy, locked / "out")


def test_a_parent_that_is_a_file_is_a_clear_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtefactError, match="cannot be written"):
        export_policy(run.policy, tmp_path / "file" / "out")


def test_only_a_policy_is_exported(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is a corpus, but a policy is needed"):
        export_policy(run.corpus.path, tmp_path / "out")
    with pytest.raises(ArtefactError, match="does not exist"):
        export_policy(tmp_path / "nothing", tmp_path / "out")
