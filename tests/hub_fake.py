"""A hub that is a folder: it keeps what was pushed, and says what it was asked."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class FakeHub:
    """Satisfies `adapters.hub.Hub`; refuses everything where it was given a refusal."""

    root: Path
    refusal: Exception | None = None
    repos: dict[str, dict[str, Any]] = field(default_factory=dict)

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> object:
        self._may()
        if repo_id in self.repos and not exist_ok:
            raise OSError(f"409: {repo_id} exists")
        return self.repos.setdefault(repo_id, {"repo_type": repo_type, "private": private})

    def upload_folder(
        self, *, repo_id: str, folder_path: str, repo_type: str, commit_message: str
    ) -> object:
        self._may()
        assert self.repos[repo_id]["repo_type"] == repo_type
        return shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def snapshot_download(
        self, repo_id: str, *, repo_type: str, revision: str | None, local_dir: str
    ) -> str:
        self._may()
        if self.repos.get(repo_id, {}).get("repo_type") != repo_type:
            raise OSError(f"404: no {repo_type} {repo_id}")
        shutil.copytree(self.root / repo_id, local_dir, dirs_exist_ok=True)
        return local_dir

    def _may(self) -> None:
        if self.refusal is not None:
            raise self.refusal
