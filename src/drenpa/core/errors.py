"""The errors of drenpa. Each message names the place, the value and the remedy, and comes before
the expensive work."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DrenpaError(Exception):
    """Something the user can repair; the command line prints it without a traceback."""


class ConfigError(DrenpaError):
    """A recipe or an override is wrong; the message lists every fault found, a line each."""


class DataError(DrenpaError):
    """A file of the user's does not hold what it must; the message names file, line and field."""

    def __init__(self, faults: str | Iterable[str]) -> None:
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(self.faults))


class ArtefactError(DrenpaError):
    """A folder is not the artefact that was asked for, or is damaged, or cannot be written."""


class ModelError(DrenpaError):
    """A model or tokenizer cannot be found, verified, loaded or used for what was asked."""


class PromptError(DrenpaError):
    """A prompt has a slot that was not filled, or was given a value for a slot that it lacks."""


class ShapeError(DrenpaError, ValueError):
    """A tensor does not have the axes that its name promises."""


class ScoringError(DrenpaError):
    """Too much of what was to be scored could not be; going on would hide it."""


class TrainingError(DrenpaError):
    """Training met a loss, reward or gradient that is not a number, or a gate that did not hold."""


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say which byte of a line is not UTF-8, and what to do."""
    return (
        f"not UTF-8 (byte 0x{error.object[error.start]:02x} at byte {error.start + 1} of the "
        "line); save the file as UTF-8"
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest known word, or an empty string.

    >>> did_you_mean("kl_coeff", ["kl_coef", "clip"])
    "; did you mean 'kl_coef'?"
    >>> did_you_mean("zzz", ["kl_coef"])
    ''
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
