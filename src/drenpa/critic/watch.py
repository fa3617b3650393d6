"""What is decided between a critic's epochs, by questions that training never sees.

The held-out questions tell in the end how good the critic is, so nothing may be chosen by them.
`watch_share` keeps some of the training questions apart instead: after every epoch the critic is
put to them with people's, its own, no and shuffled critiques; the gap decides whether another epoch
on its own critiques is worth it, and the accuracy which epoch's weights are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from drenpa.core.artefacts import SCRATCH, append_line, journal_lines
from drenpa.critic.accuracy import METERS, Source

EPOCHS = "epochs.jsonl"


class EpochWatch:
    """Looks at a critic after each epoch, once: what was seen stands in `epochs.jsonl`.

    look:        measures the critic as it is now; what `accuracy_table` gives.
    weights:     what training changes, by name, for the best epoch to be kept.
    used:        the source that the critic works with.
    epochs:      after how many the epochs on its own critiques begin.
    refresh_gap: these are run only while gold − own is above it; None runs them all.
    patience:    so many epochs without a better accuracy end the training; None never does.
    """

    def __init__(
        self,
        look: Callable[[], Mapping[str, Any]],
        weights: Callable[[], Mapping[str, Tensor]],
        folder: Path,
        *,
        used: Source,
        epochs: int,
        refresh_gap: float | None = None,
        patience: int | None = None,
    ) -> None:
        self._look = look
        self._weights = weights
        self._folder = folder
        self._used = used
        self._epochs = epochs
        self._refresh_gap = refresh_gap
        self._patience = patience

    def goes_on(self, done: int) -> bool:
        """Say, after `done` epochs, whether there is reason for another."""
        seen = self.seen(done)
        if self._patience is not None and done - self.best(done) >= self._patience:
            return False
        gap = seen.get("gap")
        bound = self._refresh_gap
        return not (done >= self._epochs and bound is not None and gap is not None and gap <= bound)

    def seen(self, done: int) -> dict[str, Any]:
        """Return what the critic reached after `done` epochs; look, if that was not done yet."""
        entries = {entry["epoch"]: entry for entry in journal_lines(self._folder / EPOCHS)}
        if done not in entries:
            table = self._look()
            entry: dict[str, Any] = {"epoch": done, **_figures(table)}
            for heading in ("by_kind", "by_language"):
                parts = table.get(heading, {})
                if len(parts) > 1:  # one part alone is the whole
                    entry[heading] = {part: _figures(found) for part, found in parts.items()}
            entries[done] = entry
            leads = self._patience is not None and _best([*entries.values()], self._used) == done
            if leads:  # its weights before its line, or a best epoch could not come back
                self._keep(done)
            append_line(self._folder / EPOCHS, entry)
            if leads:
                self._drop_all_but(done)
        return entries[done]

    def best(self, done: int) -> int:
        """Return which of the first `done` epochs was the most accurate; of equals the first."""
        entries = [e for e in journal_lines(self._folder / EPOCHS) if e["epoch"] <= done]
        best = _best(entries, self._used)
        return done if best is None else best

    def take_best(self, done: int) -> int:
        """Put the best epoch's weights back, if training went on behind it; return that epoch."""
        from safetensors.torch import load_file

        self.seen(done)
        best = done if self._patience is None else self.best(done)
        if best != done:
            kept = load_file(self._file(best))
            for name, weight in self._weights().items():
                weight.data.copy_(kept[name])
        return best

    def _keep(self, epoch: int) -> None:
        from safetensors.torch import save_file

        tensors = {name: w.detach().cpu().contiguous() for name, w in self._weights().items()}
        part = self._file(epoch).with_suffix(".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, part)
        part.replace(self._file(epoch))

    def _drop_all_but(self, epoch: int) -> None:
        for other in self._file(epoch).parent.glob("best-*.safetensors"):
            if other != self._file(epoch):
                other.unlink()

    def _file(self, epoch: int) -> Path:
        return self._folder / SCRATCH / f"best-{epoch:04}.safetensors"


def _best(entries: Sequence[Mapping[str, Any]], used: Source) -> int | None:
    """Return the most accurate epoch, of equals the first; None where no accuracy is known."""
    reached = {e["epoch"]: e[used] for e in entries if e[used] is not None}
    return max(reached, key=lambda epoch: (reached[epoch], -epoch), default=None)


def _figures(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return each source's pair accuracy, gap and use, and the share of questions all right.

    Gap and use are those of the pairs that both sides have scored, as everywhere else: people may
    have criticised some answers only.
    """
    accuracy = {s: table[s]["accuracy"] for s in get_args(Source) if s in table}
    figures: dict[str, Any] = dict(accuracy)
    figures |= {name: table.get(name, {}).get("difference") for name in METERS}
    return figures | {"all_pairs": {s: table[s]["all_pairs"] for s in accuracy}}
