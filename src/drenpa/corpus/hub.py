"""Data files of a Hugging Face dataset, downloaded once and read as files.

A name is `hf://datasets/OWNER/NAME`, with `@REVISION` and `/PATTERN` where wanted, as that hub's
own tools write it. Only data files are fetched, never code.
"""

from __future__ import annotations

import re
from pathlib import Path

from drenpa.core.errors import DataError
from drenpa.corpus.formats import SUFFIXES

HUB = "hf://"
_NAME = re.compile(
    r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/\s]+))?(?:/(?P<pattern>\S+))?"
)


def dataset_files(name: str) -> list[Path]:
    """Return the dataset's data files, or those that its pattern names, in order; fetch what is
    not in the cache.

    raises: DataError when the name is none, the hub refuses or cannot be reached, or no data file
            matches.

    >>> dataset_files("hf://owner/name")
    Traceback (most recent call last):
    drenpa.core.errors.DataError: hf://owner/name: not a dataset; write hf://datasets/OWNER/NAME
    """
    from huggingface_hub import snapshot_download

    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(f"{name}: not a dataset; write hf://datasets/OWNER/NAME")
    patterns = [match["pattern"]] if match["pattern"] else [f"*{suffix}" for suffix in SUFFIXES]
    try:
        folder = snapshot_download(
            match["repo"],
            repo_type="dataset",
            revision=match["revision"],
            allow_patterns=patterns,
        )
    except Exception as error:  # errors of the hub's library, of HTTP and of the disk alike
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{name}: cannot be fetched ({what})") from error
    wanted = match["pattern"] or "**/*"
    found = [
        path
        for path in sorted(Path(folder).glob(wanted))
        if path.is_file() and path.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise DataError(f"{name}: holds no file of {', '.join(SUFFIXES)} that this names")
    return found
