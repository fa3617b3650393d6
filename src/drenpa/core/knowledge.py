"""The four kinds of knowledge that deserve a place in the weights, and what is said about a piece
of knowledge.

Source: METHOD of the paper, section on internal memory; the starting weights are the paper's (4 : 3
        : 2 : 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["foundation", "profession", "metacognition", "connection"]
Stability = Literal["timeless", "slow", "volatile", "personal"]
Dimension = Literal["relevance", "safety", "quality", "satisfaction", "richness"]
Language = Literal["en", "zh", "bo"]

KINDS: tuple[Kind, ...] = get_args(Kind)
STABILITIES: tuple[Stability, ...] = get_args(Stability)
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
PROMPT_LANGUAGES: tuple[Language, ...] = get_args(Language)


@dataclass(frozen=True)
class KindFacts:
    """A kind's starting weight in training, its names, and one sentence on what belongs to it."""

    weight: float
    names: Mapping[str, str]
    meaning: str


KIND_FACTS: Mapping[Kind, KindFacts] = {
    "foundation": KindFacts(
        4.0,
        {"en": "foundation", "zh": "基础认知", "bo": "རྨང་གཞིའི་ཤེས་བྱ།"},
        "How the language is built, basic concepts, general grammar, templates of reasoning.",
    ),
    "profession": KindFacts(
        3.0,
        {"en": "profession", "zh": "专业知识", "bo": "ཆེད་ལས་ཤེས་བྱ།"},
        "Professional knowledge in daily use: standard answers, key instructions, decisions.",
    ),
    "metacognition": KindFacts(
        2.0,
        {"en": "metacognition", "zh": "元认知", "bo": "རང་སེམས་རྟོག་པའི་ཤེས་བྱ།"},
        "Thinking about thinking: learning strategies, emotion, one's own biases; function words.",
    ),
    "connection": KindFacts(
        1.0,
        {"en": "connection", "zh": "跨域联结", "bo": "ཕན་ཚུན་འབྲེལ་བའི་ཤེས་བྱ།"},
        "Links across fields: analogy, metaphor, pattern recognition, chains of concepts.",
    ),
}

KIND_WEIGHTS: Mapping[Kind, float] = {kind: facts.weight for kind, facts in KIND_FACTS.items()}
"""The weight of each kind at the start of training [P9]; a stage may set others."""
