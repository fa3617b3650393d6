"""Push a policy, a critic, a released dataset or a report to the Hugging Face Hub, and fetch it.

What is pushed is first written as a folder by itself, and only what stands in that folder goes out.
Withheld answers never do: a corpus is pushed only as the release that leaves them out, and a report
whose page shows them goes without its page.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Protocol

import yaml

from drenpa.core.artefacts import (
    MANIFEST,
    Artefact,
    check_files,
    open_artefact,
    refuse_existing,
    whole_folder,
    write_text,
)
from drenpa.core.errors import ArtefactError, ConfigError
from drenpa.core.records import Verdict
from drenpa.engine.models import Dtype

RepoType = Literal["model", "dataset"]
CARD, CHECKSUMS = "README.md", "SHA256SUMS"
CRITIC_FILES = ("critic.json", "head.safetensors", "accuracy.json", "model")
REPORT_TABLES = ("table.json", "table.md", "table.csv", "table.tex", "overall.json", "figures")
REPORT_PAGE = ("index.html", "examples.json")
MODEL_FILES = ("config.json", "adapter_config.json")
MODEL_PARTS = (
    *("config*.json", "generation_config.json", "tokenizer*", "special_tokens_map.json"),
    *("added_tokens.json", "*.safetensors", "*.safetensors.index.json", "chat_template*"),
    *("vocab*", "merges.txt", "adapter_*", "critic.json", "accuracy.json", CARD, "LICENSE*"),
)
"""What of a model's folder goes out; anything else in it may be the user's own."""


@dataclass(frozen=True)
class Parcel:
    """A folder that is ready to go out, and what was left out of it and why."""

    folder: Path
    repo_type: RepoType
    left_out: tuple[str, ...] = ()

    @property
    def files(self) -> dict[str, int]:
        """Every file's name and size in bytes."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in found}


class Hub(Protocol):
    """What is asked of the hub; `huggingface_hub.HfApi` does it."""

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> object:
        """Make a repository, or leave the one that is there as it is."""
        ...

    def upload_folder(
        self, *, repo_id: str, folder_path: str, repo_type: str, commit_message: str
    ) -> object:
        """Put a folder's files into a repository."""
        ...

    def snapshot_download(
        self, repo_id: str, *, repo_type: str, revision: str | None, local_dir: str
    ) -> str:
        """Fetch a repository's files into a folder."""
        ...


def push(
    place: Path,
    repo: str,
    *,
    hub: Hub | None = None,
    base: str = "",
    adapter: bool = False,
    dtype: Dtype = "float32",
    public: bool = False,
) -> tuple[str, ...]:
    """Push an artefact or a released dataset to a repository, made if it is not there.

    base, adapter, dtype: as in `parcel`.
    public:  whether a new repository is; one that is there already stays as it is.
    returns: line by line what went out, and what did not.
    raises:  ConfigError without a token; ArtefactError when the hub refuses, and as `parcel`.
    """
    asked = hub or _logged_in()
    with parcel(place, base=base, adapter=adapter, dtype=dtype) as ready:
        try:
            asked.create_repo(repo, repo_type=ready.repo_type, private=not public, exist_ok=True)
            asked.upload_folder(
                repo_id=repo,
                folder_path=str(ready.folder),
                repo_type=ready.repo_type,
                commit_message=f"drenpa: {place.name}",
            )
        except Exception as error:  # errors of the hub's library, of HTTP and of the network alike
            raise ArtefactError(f"{repo}: was not pushed ({_told(error)})") from error
        return tuple(listing(ready, repo))


def pull(
    repo: str,
    folder: Path,
    *,
    repo_type: RepoType = "model",
    revision: str | None = None,
    hub: Hub | None = None,
) -> Path:
    """Fetch what was pushed into a new folder.

    A critic's folder is what `load_critic` takes, a policy's what `load_policy` takes. It gets its
    name when all of it is there.

    raises: ArtefactError when the folder is there already or the hub refuses.
    """
    refuse_existing(folder)
    if hub is None:
        from huggingface_hub import HfApi

        hub = HfApi()
    with whole_folder(folder) as part:
        try:
            hub.snapshot_download(repo, repo_type=repo_type, revision=revision, local_dir=str(part))
        except Exception as error:  # errors of the hub's library, of HTTP and of the network alike
            raise ArtefactError(f"{repo}: was not fetched ({_told(error)})") from error
        shutil.rmtree(part / ".cache", ignore_errors=True)
    return folder


@contextmanager
def parcel(
    place: Path, *, base: str = "", adapter: bool = False, dtype: Dtype = "float32"
) -> Iterator[Parcel]:
    """Write what would go out into a folder that lasts as long as the block.

    base:    the repository of the fine-tuned model: an adapter and a critic go over it and are
             worth nothing without it.
    adapter: a policy's adapter alone instead of a merged model.
    dtype:   of merged weights.
    raises:  ArtefactError when the place is nothing that can be pushed, or was altered;
             ConfigError without a base where one is needed.
    """
    with tempfile.TemporaryDirectory(prefix="drenpa-push-") as scratch:
        target = Path(scratch) / "parcel"
        if (place / MANIFEST).is_file():
            yield _artefact(open_artefact(place), target, base, adapter, dtype)
        elif (place / CHECKSUMS).is_file():
            yield _release(place, target)
        elif any((place / name).is_file() for name in MODEL_FILES) and (place / CARD).is_file():
            yield _model(place, target)
        else:
            raise ArtefactError(
                f"{place}: is neither an artefact nor a folder that `drenpa export` or "
                "`drenpa release` wrote; nothing else is pushed"
            )


def _model(place: Path, target: Path) -> Parcel:
    """A model's folder: the files that models have, and no link, which may lead anywhere."""
    target.mkdir()
    left = []
    for path in sorted(place.iterdir()):
        if path.is_symlink():
            left.append(f"{path.name}: a link")
        elif path.is_file() and any(fnmatchcase(path.name, part) for part in MODEL_PARTS):
            shutil.copyfile(path, target / path.name)
        else:
            left.append(f"{path.name}: no file of a model's")
    return Parcel(target, "model", tuple(left))


def _artefact(artefact: Artefact, target: Path, base: str, adapter: bool, dtype: Dtype) -> Parcel:
    if artefact.kind == "policy":
        from drenpa.export import export_policy

        if adapter and not base:
            raise ConfigError(
                f"{artefact.path}: an adapter alone needs the repository of the fine-tuned model "
                "that it goes over; push that one first and name it with --base"
            )
        form: Literal["adapter", "merged"] = "adapter" if adapter else "merged"
        export_policy(artefact, target, form, dtype=dtype, base=base)
        return Parcel(target, "model")
    if artefact.kind in ("critic", "report"):
        check_files(artefact)
    if artefact.kind == "critic":
        return _critic(artefact, target, base)
    if artefact.kind == "report":
        return _report(artefact, target)
    if artefact.kind == "corpus":
        raise ArtefactError(
            f"{artefact.path}: a corpus holds the answers of its test questions; write a release, "
            "which leaves them out, and push that folder"
        )
    raise ArtefactError(
        f"{artefact.path}: is a {artefact.kind}; policies, critics, reports and released datasets "
        "can be pushed"
    )


def _critic(artefact: Artefact, target: Path, base: str) -> Parcel:
    """A critic's weights and settings, over a backbone that the hub has."""
    from drenpa.card import critic_card

    if not base:
        raise ConfigError(
            f"{artefact.path}: a critic needs the repository of the fine-tuned model that it goes "
            "over; push that one first and name it with --base"
        )
    target.mkdir()
    left = _copy(artefact.path, target, CRITIC_FILES)
    for file, key in (
        (target / "critic.json", "backbone"),
        (target / "model" / "adapter_config.json", "base_model_name_or_path"),
    ):
        if file.is_file():
            entries = json.loads(file.read_text(encoding="utf-8"))
            write_text(file, json.dumps(entries | {key: base}, indent=2, ensure_ascii=False))
    (target / "model" / CARD).unlink(missing_ok=True)  # peft's own, with nothing filled in
    write_text(target / CARD, critic_card(artefact, base))
    return Parcel(target, "model", tuple(f"{name}: of the training only" for name in left))


def _report(artefact: Artefact, target: Path) -> Parcel:
    """A report's tables and figures; its page only where the benchmark has no references."""
    target.mkdir()
    secret = _shows_answers(artefact)
    names = REPORT_TABLES if secret else (*REPORT_TABLES, *REPORT_PAGE)
    left = _copy(artefact.path, target, names)
    told = tuple(
        f"{name}: shows answers of the benchmark" if name in REPORT_PAGE else f"{name}: not shown"
        for name in left
    )
    write_text(target / CARD, _report_card(artefact, target, secret))
    return Parcel(target, "dataset", told)


def _shows_answers(report: Artefact) -> bool:
    """Whether the page may show a reference of the benchmark; what cannot be looked up may."""
    for name in report.inputs:
        try:
            verdicts = open_artefact(report.input_path(name))
            if verdicts.kind == "verdicts" and any(
                row.reference for row in verdicts.rows("verdicts", Verdict)
            ):
                return True
        except ArtefactError:
            return True
    return False


def _report_card(artefact: Artefact, folder: Path, without_page: bool) -> str:
    head = {
        "pretty_name": artefact.name,
        "tags": ["drenpa", "evaluation"],
        "configs": [{"config_name": "cells", "data_files": "table.csv"}],
    }
    table = (folder / "table.md").read_text(encoding="utf-8") if _has(folder, "table.md") else ""
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n",
        f"# {artefact.name}\n",
        f"A report of drenpa {artefact.version}, made {artefact.created[:10]}. `table.csv` and "
        "`table.json` hold every cell with its interval.\n",
        *(f"- {line}" for line in artefact.summary.get("cautions", ())),
        "",
        table,
    ]
    if without_page:
        lines.append("The page with examples is not here: it shows answers of the benchmark.\n")
    return "\n".join(lines)


def _release(place: Path, target: Path) -> Parcel:
    """A released dataset, exactly the files that its checksums name, and no answer in its test."""
    import pyarrow.parquet

    listed: dict[str, str] = {}
    lines = (place / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        digest, between, name = line.partition("  ")
        if line.strip() and not between:
            raise ArtefactError(
                f"{place / CHECKSUMS}:{number}: no checksum and name; write the release anew"
            )
        if line.strip():
            listed[name] = digest
    present = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    strange = sorted(present - {*listed, CHECKSUMS})
    if strange:
        raise ArtefactError(f"{place / strange[0]}: is no part of the release; take it out")
    for name, digest in listed.items():
        path = place / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ArtefactError(f"{path}: is not the file that was released; write it anew")
    test = place / "data" / "test.parquet"
    answers = pyarrow.parquet.read_table(test, columns=["answer"]) if test.is_file() else None
    if answers is None or answers.column("answer").null_count < len(answers):
        raise ArtefactError(f"{test}: must be there and hold no answer; write the release anew")
    shutil.copytree(place, target)
    return Parcel(target, "dataset")


def _copy(source: Path, target: Path, names: Sequence[str]) -> list[str]:
    """Copy what is named; return what else there is, the manifest apart."""
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        elif (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    others = {path.name for path in source.iterdir()} - {*names, MANIFEST}
    return sorted(others)


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _logged_in() -> Hub:
    from huggingface_hub import HfApi, get_token

    if not get_token():
        raise ConfigError(
            "no token for the hub; run `hf auth login`, or put one that may write into HF_TOKEN"
        )
    api: Hub = HfApi()
    return api


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def listing(ready: Parcel, repo: str) -> Iterator[str]:
    """Say line by line what goes out, and what does not."""
    files: Mapping[str, Any] = ready.files
    yield f"{repo} ({ready.repo_type}): {len(files)} files, {sum(files.values()):,} bytes"
    for name, size in files.items():
        yield f"  {size:>13,}  {name}"
    for line in ready.left_out:
        yield f"  left out: {line}"
