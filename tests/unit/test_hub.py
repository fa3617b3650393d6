"""Pushing and fetching against a fake hub; what lies there is opened with the real libraries."""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from huggingface_hub import DatasetCard, HfApi, ModelCard
from tests.hub_fake import FakeHub
from tests.recorded_bench import PRIVATE, recorded_corpus
from tests.unit.test_critic_score import make_critic, save_critic
from tests.unit.test_export import ENGINE, Run, drenpa_answer
from tests.verdict_rows import verdict
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from drenpa.adapters.hub import Hub, parcel, pull, push
from drenpa.card import critic_card
from drenpa.cli import app
from drenpa.config import CorpusConfig, ReportConfig
from drenpa.core.artefacts import Artefact, Plan, run_plan, write_rows
from drenpa.core.errors import ArtefactError, ConfigError
from drenpa.core.knowledge import KINDS
from drenpa.core.records import Record
from drenpa.corpus.curate import curate
from drenpa.corpus.facts import ReleaseFacts
from drenpa.corpus.release import write_release
from drenpa.critic.score import load_critic
from drenpa.export import export_policy
from drenpa.report.build import write_report

# peft asks transformers for a property that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
REPO = "me/thing"
FACTS = ReleaseFacts(
    name="Bees", license="cc-by-4.0", description="Of bees.", contact="me", limits="Few."
)


@pytest.fixture
def hub(tmp_path: Path) -> FakeHub:
    return FakeHub(tmp_path / "hub")


@pytest.fixture
def run(tmp_path: Path, tiny_folder: Callable[..., Path]) -> Run:
    return Run(tmp_path / "run", tiny_folder())


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_the_fake_hub_is_asked_as_the_real_one_could_be() -> None:
    for name in ("create_repo", "upload_folder", "snapshot_download"):
        asked = inspect.signature(getattr(Hub, name)).parameters
        real = inspect.signature(getattr(HfApi, name)).parameters
        assert set(asked) <= set(real), name
        assert set(asked) == set(inspect.signature(getattr(FakeHub, name)).parameters)


def test_a_pushed_policy_is_what_transformers_loads(run: Run, hub: FakeHub, tmp_path: Path) -> None:
    push(run.policy.path, REPO, hub=hub)
    lying = hub.root / REPO
    model = AutoModelForCausalLM.from_pretrained(lying)
    assert model.config.model_type == "llama"
    assert AutoTokenizer.from_pretrained(lying).chat_template
    assert ModelCard.load(lying / "README.md").data.pipeline_tag == "text-generation"
    fetched = pull(REPO, tmp_path / "fetched", hub=hub)
    assert drenpa_answer(fetched) == drenpa_answer(run.policy)


def test_a_new_repository_is_private_unless_it_is_asked_to_be_public(
    run: Run, hub: FakeHub
) -> None:
    push(run.finetuned.path, "me/kept", hub=hub)
    push(run.finetuned.path, "me/shown", hub=hub, public=True)
    push(run.finetuned.path, "me/kept", hub=hub, public=True)
    assert {repo: entry["private"] for repo, entry in hub.repos.items()} == {
        "me/kept": True,
        "me/shown": False,
    }


def test_a_pushed_adapter_names_its_base_on_the_hub(run: Run, hub: FakeHub) -> None:
    push(run.policy.path, REPO, hub=hub, adapter=True, base="me/finetuned")
    lying = hub.root / REPO
    stored = json.loads((lying / "adapter_config.json").read_text())
    assert stored["base_model_name_or_path"] == "me/finetuned"
    assert not list(lying.glob("model*.safetensors"))
    with pytest.raises(ConfigError, match="name it with --base"):
        push(run.policy.path, REPO, hub=hub, adapter=True)


@pytest.fixture
def critic(tmp_path: Path, tiny_folder: Callable[..., Path]) -> Artefact:
    def work(folder: Path) -> dict[str, Any]:
        save_critic(make_critic(tiny_folder()), folder / "saved", tiny_folder())
        for path in (folder / "saved").iterdir():
            path.rename(folder / path.name)
        (folder / "saved").rmdir()
        (folder / "critiques.jsonl").write_text('{"critique": "of a held-out answer"}\n')
        return {"accuracy": {"own": {"accuracy": 0.81, "pairs": 11}}, "used": "own"}

    return run_plan(Plan("critic", "critic", tmp_path / "run", {}, {}, (), work))


def test_a_pushed_critic_scores_as_the_one_that_was_pushed(
    critic: Artefact, hub: FakeHub, tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    told = push(critic.path, REPO, hub=hub, base="me/finetuned")
    folder = pull(REPO, tmp_path / "fetched", hub=hub)
    for file, key in (
        ("critic.json", "backbone"),
        ("model/adapter_config.json", "base_model_name_or_path"),
    ):
        assert json.loads((folder / file).read_text())[key] == "me/finetuned"
    assert str(tiny_folder()).encode() not in everything(folder)
    assert "  left out: critiques.jsonl: of the training only" in told
    assert ModelCard.load(folder / "README.md").data.base_model == "me/finetuned"
    assert "| own (used) | 81.0% | 11 |" in (folder / "README.md").read_text()
    settings = json.loads((folder / "critic.json").read_text())
    (folder / "critic.json").write_text(json.dumps(settings | {"backbone": str(tiny_folder())}))
    asked = (["What is rain?"], [["Water.", "Stone."]])
    before = load_critic(critic, engine=ENGINE).score(*asked)
    assert load_critic(folder, engine=ENGINE).score(*asked) == before
    assert before.rewards[0][0] != before.rewards[0][1]


def test_what_was_altered_since_it_was_made_is_not_pushed(
    critic: Artefact, hub: FakeHub, tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    finetuned = Run(tmp_path / "other", tiny_folder()).finetuned
    report = report_of(tmp_path / "reports", "")
    for made, name in (
        (critic, "head.safetensors"),
        (finetuned, "model/model.safetensors"),
        (report, "table.csv"),
    ):
        (made.path / name).write_bytes((made.path / name).read_bytes()[:-1])
        with pytest.raises(ArtefactError, match=f"{name}: is not the file that was made; remove"):
            push(made.path, REPO, base="me/finetuned", hub=hub)
    assert hub.repos == {}


def test_a_critic_without_a_base_is_refused(critic: Artefact, hub: FakeHub) -> None:
    with pytest.raises(ConfigError, match="name it with --base"):
        push(critic.path, REPO, hub=hub)
    assert hub.repos == {}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return curate(CorpusConfig(), root=tmp_path_factory.mktemp("runs"))


@pytest.fixture
def release(corpus: Artefact, tmp_path: Path) -> Path:
    write_release(corpus, tmp_path / "release", tmp_path / "answers.jsonl", FACTS)
    return tmp_path / "release"


def test_a_released_dataset_goes_out_without_its_answers(
    corpus: Artefact, release: Path, hub: FakeHub
) -> None:
    push(release, REPO, hub=hub)
    lying = hub.root / REPO
    assert hub.repos[REPO]["repo_type"] == "dataset"
    assert everything(lying) == everything(release)
    texts = [str(pyarrow.parquet.read_table(p).to_pylist()) for p in lying.rglob("*.parquet")]
    withheld = [item.answer for item in corpus.rows("benchmark", Record) if item.answer]
    assert len(withheld) > 100
    assert not [answer for answer in withheld if any(answer in text for text in texts)]
    assert DatasetCard.load(lying / "README.md").data.license == "cc-by-4.0"


def test_an_answer_that_was_put_into_a_release_goes_nowhere(release: Path, hub: FakeHub) -> None:
    (release / "answers.jsonl").write_text(PRIVATE)
    with pytest.raises(ArtefactError, match=r"answers\.jsonl: is no part of the release"):
        push(release, REPO, hub=hub)
    (release / "answers.jsonl").unlink()
    test = release / "data" / "test.parquet"
    table = pyarrow.parquet.read_table(test)
    rows = [row | {"answer": PRIVATE} for row in table.to_pylist()]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=table.schema), test)
    with pytest.raises(ArtefactError, match="is not the file that was released"):
        push(release, REPO, hub=hub)
    sums = release / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if "test.parquet" not in line]
    digest = hashlib.sha256(test.read_bytes()).hexdigest()
    sums.write_text("\n".join([*lines, f"{digest}  data/test.parquet"]) + "\n")
    with pytest.raises(ArtefactError, match="must be there and hold no answer"):
        push(release, REPO, hub=hub)
    assert hub.repos == {}


def test_a_corpus_is_never_pushed(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="write a release"):
        push(recorded_corpus(tmp_path / "run").path, REPO, hub=hub)
    with pytest.raises(ArtefactError, match="nothing else is pushed"):
        push(tmp_path, REPO, hub=hub)
    assert hub.repos == {}


def report_of(root: Path, reference: str) -> Artefact:
    rows = [
        verdict(strategy, f"{kind}-{n}", n % 3, kind=kind, reference=reference)
        for strategy in ("base", "sft")
        for kind in KINDS
        for n in range(3)
    ]

    def work(folder: Path) -> dict[str, Any]:
        write_rows(folder / "verdicts.parquet", rows)
        return {"judge": rows[0].judge, "judge_card": "It throws dice."}

    made = run_plan(Plan("verdicts", "benchmark", root, {}, {}, (), work))
    return write_report([made], {}, ReportConfig(resamples=50), root=root)


def test_a_report_whose_benchmark_has_references_goes_without_its_page(
    hub: FakeHub, tmp_path: Path
) -> None:
    report = report_of(tmp_path / "run", PRIVATE)
    assert PRIVATE.encode() in everything(report.path)
    told = push(report.path, REPO, hub=hub)
    lying = hub.root / REPO
    assert PRIVATE.encode() not in everything(lying)
    assert (lying / "table.csv").is_file()
    assert list((lying / "figures").iterdir())
    assert not (lying / "index.html").exists()
    assert "  left out: index.html: shows answers of the benchmark" in told
    card = DatasetCard.load(lying / "README.md")
    assert card.data.to_dict()["configs"][0]["data_files"] == "table.csv"
    assert "foundation" in card.text


def test_a_report_without_references_goes_with_its_page(hub: FakeHub, tmp_path: Path) -> None:
    push(report_of(tmp_path / "run", "").path, REPO, hub=hub)
    assert (hub.root / REPO / "index.html").is_file()


def test_a_report_whose_verdicts_are_gone_goes_without_its_page(
    hub: FakeHub, tmp_path: Path
) -> None:
    report = report_of(tmp_path / "run", "")
    moved = report.path.rename(tmp_path / "alone")
    shutil.rmtree(tmp_path / "run")
    push(moved, REPO, hub=hub)
    assert not (hub.root / REPO / "index.html").exists()


def test_a_dry_run_asks_the_hub_nothing_and_leaves_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    done = CliRunner().invoke(app, ["push", str(run.policy.path), REPO, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("me/thing (model): ")
    assert "  model.safetensors\n" in done.stdout
    with parcel(run.policy.path) as ready:
        assert ready.files["model.safetensors"] > 1000
    assert not ready.folder.exists()


def test_without_a_token_the_push_says_how_to_get_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match="hf auth login"):
        push(run.policy.path, REPO)


def test_a_refusal_names_the_repository_and_leaves_no_half_folder(
    run: Run, hub: FakeHub, tmp_path: Path
) -> None:
    hub.refusal = OSError("403 Forbidden")
    with pytest.raises(ArtefactError, match=r"me/thing: was not pushed .*403"):
        push(run.finetuned.path, REPO, hub=hub)
    with pytest.raises(ArtefactError, match=r"me/thing: was not fetched .*403"):
        pull(REPO, tmp_path / "new", hub=hub)
    assert not (tmp_path / "new").exists()


def test_a_fetch_that_is_broken_off_leaves_nothing_that_looks_whole(
    run: Run, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(run.policy.path, REPO, hub=hub)

    def broken_off(repo_id: str, *, local_dir: str, **_asked: Any) -> str:
        shutil.copy(hub.root / repo_id / "config.json", local_dir)
        raise KeyboardInterrupt

    monkeypatch.setattr(hub, "snapshot_download", broken_off)
    with pytest.raises(KeyboardInterrupt):
        pull(REPO, tmp_path / "new" / "model", hub=hub)
    assert not [*(tmp_path / "new").iterdir()]


def test_nothing_that_is_there_is_fetched_over(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is there already"):
        pull(REPO, tmp_path, hub=hub)


def test_an_exported_folder_goes_out_as_it_is(run: Run, hub: FakeHub, tmp_path: Path) -> None:
    folder = export_policy(run.policy, tmp_path / "out")
    push(folder, REPO, hub=hub)
    assert everything(hub.root / REPO) == everything(folder)


def test_of_an_exported_folder_only_a_models_files_go_out(
    run: Run, hub: FakeHub, tmp_path: Path
) -> None:
    folder = export_policy(run.policy, tmp_path / "out")
    whole = everything(folder)
    for name in (".env", "private.json", "notes.md"):
        (folder / name).write_text(PRIVATE)
    (folder / "logs").mkdir()
    (folder / "logs" / "config.json").write_text(PRIVATE)
    (folder / "tokenizer_link").symlink_to("/etc/hostname")
    told = push(folder, REPO, hub=hub)
    assert everything(hub.root / REPO) == whole
    assert told[-5:] == (
        "  left out: .env: no file of a model's",
        "  left out: logs: no file of a model's",
        "  left out: notes.md: no file of a model's",
        "  left out: private.json: no file of a model's",
        "  left out: tokenizer_link: a link",
    )


def test_a_checksum_file_may_have_blank_lines_and_no_others(release: Path, hub: FakeHub) -> None:
    sums = release / "SHA256SUMS"
    sums.write_text(sums.read_text() + "\n")
    push(release, REPO, hub=hub)
    sums.write_text("garbled\n" + sums.read_text())
    with pytest.raises(ArtefactError, match="SHA256SUMS:1: no checksum and name"):
        push(release, REPO, hub=hub)


def test_a_critics_card_claims_nothing_that_was_not_measured(tmp_path: Path) -> None:
    made = run_plan(Plan("critic", "critic", tmp_path, {}, {}, (), lambda _folder: {}))
    card = critic_card(made, "me/finetuned")
    assert "It was not measured." in card
    assert "%" not in card
    assert str(tmp_path) not in card
