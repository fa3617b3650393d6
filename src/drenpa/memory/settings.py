"""What the memory rooms may be told; the paper gives the principle only, so every number is ours.

**Reading:** all of P13 and P14's thresholds.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from drenpa.config import Config, Count, KindNumbers, Positive, Share
from drenpa.core.knowledge import KIND_WEIGHTS


class ProbeConfig(Config):
    """How the model is asked what it knows."""

    block: Annotated[int, Field(ge=3)] = 6  # questions and answers crossed with each other
    samples: Annotated[int, Field(ge=0)] = 0  # answers sampled besides; 0: probabilities only
    max_new_tokens: Count = 96  # of a sampled answer


class SelectConfig(Config):
    """What goes into the weights [P13]."""

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
    """The memory room's part of a recipe."""

    probe: ProbeConfig = ProbeConfig()
    select: SelectConfig = SelectConfig()
    update: UpdateConfig = UpdateConfig()

    @model_validator(mode="after")
    def _forgotten_is_below_known(self) -> MemoryConfig:
        if self.update.forgotten_below > self.select.known_above:
            raise ValueError(
                "update.forgotten_below is above select.known_above: a record would be known and "
                "forgotten at once; lower it"
            )
        return self
