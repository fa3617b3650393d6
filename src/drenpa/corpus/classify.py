"""Suggest which of the four kinds a record is of: first by rules that say why, then by a small
model trained on what people decided.

A suggestion stays a suggestion until people decide, and always carries where it came from. The
rules read tags, question words and phrases in English, Chinese and Tibetan; the model is
multinomial naive Bayes over units and pairs of units, trained in milliseconds and the same every
time. It takes any set of labels, so it can be tried on other data.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drenpa.core.errors import DataError
from drenpa.core.knowledge import KINDS
from drenpa.core.records import Record
from drenpa.core.text import units

Floats = NDArray[np.float64]
Source = Literal["rules", "model"]

_STRONG, _WEAK = 2.0, 1.0


class _Phrases:
    """Phrases that speak for a kind, by script: only those a text can hold are looked for in it."""

    def __init__(self, latin: str, chinese: str, tibetan: str) -> None:
        """latin: each begins a word."""
        self._scripts = (
            (re.compile("[a-z]"), re.compile(rf"\b(?:{latin})")),
            (re.compile("[\u4e00-\u9fff]"), re.compile(chinese)),
            (re.compile("[\u0f40-\u0fbc]"), re.compile(tibetan)),
        )

    def found_in(self, text: str) -> set[str]:
        """Return the phrases in a case-folded text."""
        return {
            match.group().strip()
            for needs, pattern in self._scripts
            if needs.search(text) is not None
            for match in pattern.finditer(text)
        }


_PHRASES: Mapping[str, Mapping[float, _Phrases]] = {
    "foundation": {
        _STRONG: _Phrases(
            r"gramma|syntax|verbs?\b|nouns?\b|adjectives?\b|sentences?\b|vowels?\b|"
            r"syllables?\b|consonants?\b|alphabet|word order\b|spell(ing|ed)?\b|punctuation",
            "语法|词语|句子|拼音|汉字|标点",
            "བརྡ་སྤྲོད|ཡི་གེ|དབྱངས|གསལ་བྱེད|ཚེག|མིང་ཚིག|བྱ་ཚིག|སྒྲ",
        ),
        _WEAK: _Phrases(
            r"what is an?\b|what does .* mean\b|defin(e|ition)|causes?\b|because\b|"
            r"difference between\b",
            "什么是|原因|定义|区别|因果",
            "གང་ཡིན|ཅི་ཡིན|དོན་དག|རྒྱུ་རྐྱེན",
        ),
    },
    "profession": {
        _STRONG: _Phrases(
            r"first aid\b|patients?\b|injur|burns?\b|dos(e|age)|contract\b|code\b|python\b|"
            r"git\b|invoice|customer|database|emergenc|fire extinguish|safety\b|crops?\b",
            "急救|病人|患者|伤口|代码|合同|客户|施肥|发票|药",
            "སྨན|ནད་པ|རྨ|ཉེན|ལས་ཀ|རྩིས་ཁྲ",
        ),
        _WEAK: _Phrases(
            r"how (do|should|can) (i|you|we)\b|steps?\b|procedure|should (i|you|a)\b|"
            r"checklist",
            "怎么办|步骤|如何处理|应该怎样",
            "ཇི་ལྟར་བྱེད|གང་འདྲ་བྱེད|བྱེད་དགོས",
        ),
    },
    "metacognition": {
        _STRONG: _Phrases(
            r"bias(es|ed)?\b|memori[sz]e|remember(ing)?\b|study(ing)?\b|"
            r"learn(ing|er|ers)?\b|emotion|anger|anxi|procrastinat|habits?\b|attention\b|"
            r"overconfiden|motivat|mistakes?\b",
            "学习|复习|记忆|情绪|偏见|注意力|拖延|焦虑",
            "སློབ་སྦྱོང|དྲན|སེམས|འཇིགས|ཁོང་ཁྲོ",
        ),
        _WEAK: _Phrases(
            r"myself\b|yourself\b|my own\b|feel(ing)?s?\b|think(ing)?\b",
            "自己|反思|思考",
            "རང་ཉིད|བསམ",
        ),
    },
    "connection": {
        _STRONG: _Phrases(
            r"analog|metaphor|in common\b|like an?\b|similar(ity)? (between|to)\b|resembl|"
            r"compared? (to|with)\b|patterns?\b|connect(s|ed|ion)?\b|parallel",
            "类比|比喻|相似|共同点|好比|联系|规律",
            "དཔེ|འདྲ་བ|མཚུངས|འབྲེལ་བ|ཐུན་མོང",
        ),
        _WEAK: _Phrases(
            r"how is .* like\b|both\b|across\b|alike\b",
            "像|如同",
            "གཉིས་ཀ",
        ),
    },
}
_READ_OF_ANSWER = 600  # characters
_SMOOTHING = 0.5


@dataclass(frozen=True)
class Suggestion:
    """A label that nobody has decided yet.

    label:       "" where nothing speaks for any.
    probability: of the label, from 0 to 1; from rules it is the label's share of the points.
    source:      who says so.
    reasons:     what it rests on, strongest first, fit to be shown.
    """

    label: str
    probability: float
    source: Source
    reasons: tuple[str, ...]


def suggest_kind(
    question: str,
    answer: str = "",
    tags: Sequence[str] = (),
    *,
    breadcrumbs: Sequence[str] = (),
    headings: Sequence[str] = (),
) -> Suggestion:
    """Suggest a kind by rules: a tag or breadcrumb that names a kind decides, then phrases.

    What the question, the tags and the breadcrumbs say counts twice, headings and answer once.
    answer:  its beginning only; a long text mentions something of everything.
    breadcrumbs, headings: of the page that it stands on.

    >>> suggest_kind("How is memory like a library?").label
    'connection'
    >>> suggest_kind("Hm?").label
    ''
    """
    for what, names in (("tag", tags), ("breadcrumb", breadcrumbs)):
        for name in names:
            if name.casefold() in KINDS:
                return Suggestion(name.casefold(), 1.0, "rules", (f"the {what} {name}",))
    points: dict[str, float] = {}
    reasons: list[tuple[float, str]] = []
    for place, text, weight in (
        ("question", question, 2.0),
        ("tags", " ; ".join(tags), 2.0),
        ("breadcrumbs", " ; ".join(breadcrumbs), 2.0),
        ("headings", " ; ".join(headings), 1.0),
        ("answer", answer[:_READ_OF_ANSWER], 1.0),
    ):
        folded = text.casefold()
        for kind, by_strength in _PHRASES.items() if folded else ():
            for strength, phrases in by_strength.items():
                for phrase in sorted(phrases.found_in(folded)):
                    points[kind] = points.get(kind, 0.0) + weight * strength
                    told = f"{kind}: '{phrase}' in the {place}"
                    reasons.append((-weight * strength, told))
    if not points:
        return Suggestion("", 0.0, "rules", ("no rule applies",))
    best = max((kind for kind in KINDS if kind in points), key=lambda kind: points[kind])
    shown = tuple(told for _, told in sorted(reasons) if told.startswith(best))
    return Suggestion(best, points[best] / sum(points.values()), "rules", shown)


@dataclass(frozen=True)
class Classifier:
    """Naive Bayes, trained.

    labels:    in alphabetical order.
    terms:     term → its column.
    weights_LV: log-probability of each term given the label; priors_L: of the labels.
    """

    labels: tuple[str, ...]
    terms: Mapping[str, int]
    weights_LV: Floats
    priors_L: Floats

    def probabilities(self, text: str) -> dict[str, float]:
        """Return each label's probability.

        The terms of a text are far from independent, so the evidence is divided by the square root
        of the text's length in terms; without that nearly every probability would be 0 or 1.
        """
        counts = Counter(term for term in _terms(text) if term in self.terms)
        evidence_L = np.zeros(len(self.labels))
        for term, count in counts.items():
            evidence_L += count * self.weights_LV[:, self.terms[term]]
        total = sum(counts.values())
        scores_L = self.priors_L + evidence_L / math.sqrt(max(1, total))
        shares_L = np.exp(scores_L - scores_L.max())
        return dict(zip(self.labels, (shares_L / shares_L.sum()).tolist(), strict=True))

    def suggest(self, text: str, *, reasons: int = 3) -> Suggestion:
        """Return the likeliest label, with the terms that speak most for it against the others."""
        shares = self.probabilities(text)
        label = max(shares, key=lambda name: (shares[name], name))
        row = self.labels.index(label)
        terms = sorted({term for term in _terms(text) if term in self.terms})
        others_V = np.delete(self.weights_LV, row, axis=0).mean(axis=0)
        gains = {
            term: float(self.weights_LV[row, self.terms[term]] - others_V[self.terms[term]])
            for term in terms
        }
        strongest = sorted(gains, key=lambda term: (-gains[term], term))[:reasons]
        told = tuple(f"'{term}' speaks for {label}" for term in strongest if gains[term] > 0)
        return Suggestion(label, shares[label], "model", told)


def train_classifier(texts: Sequence[str], labels: Sequence[str]) -> Classifier:
    """Train naive Bayes on labelled texts, such as questions with answers and people's kinds.

    raises: DataError unless there are two labels and as many labels as texts.
    """
    names = tuple(sorted(set(labels)))
    if len(names) < 2 or len(texts) != len(labels):
        raise DataError(
            f"a classifier needs texts of two labels or more and a label for each text; "
            f"there are {len(texts)} texts, {len(labels)} labels, {len(names)} of them different"
        )
    documents = [_terms(text) for text in texts]
    frequency = Counter(term for document in documents for term in set(document))
    vocabulary = sorted(term for term, count in frequency.items() if count > 1)
    terms = {term: column for column, term in enumerate(vocabulary)}
    counts_LV = np.zeros((len(names), len(terms)))
    for document, label in zip(documents, labels, strict=True):
        for term in document:
            if term in terms:
                counts_LV[names.index(label), terms[term]] += 1
    smooth_LV = counts_LV + _SMOOTHING
    sizes = Counter(labels)
    return Classifier(
        labels=names,
        terms=terms,
        weights_LV=np.log(smooth_LV) - np.log(smooth_LV.sum(axis=1, keepdims=True)),
        priors_L=np.log([sizes[name] / len(labels) for name in names]),
    )


@dataclass(frozen=True)
class Bin:
    """Suggestions of about the same probability: how many, the mean probability, and what share
    of them came true."""

    n: int
    claimed: float
    right: float


@dataclass(frozen=True)
class Evaluation:
    """How suggestions agree with people's labels.

    confusion:   person's label → suggested label → count.
    f1:          of each label; macro_f1 is their mean.
    calibration: mean over ten bins of |probability − accuracy|, weighted by the bins' counts; NaN
                 where no probabilities were given.
    bins:        those of the ten that hold any, least sure first.
    """

    n: int
    accuracy: float
    f1: Mapping[str, float]
    macro_f1: float
    confusion: Mapping[str, Mapping[str, int]]
    calibration: float
    bins: tuple[Bin, ...] = ()


def evaluate(
    labels: Sequence[str], suggested: Sequence[str], probabilities: Sequence[float] = ()
) -> Evaluation:
    """Compare suggested with people's labels; a suggestion of "" is wrong, not left out."""
    names = sorted(set(labels))
    confusion = {name: Counter[str]() for name in names}
    for label, suggestion in zip(labels, suggested, strict=True):
        confusion[label][suggestion] += 1
    f1 = {}
    for name in names:
        hits = confusion[name][name]
        total = sum(confusion[name].values()) + sum(row[name] for row in confusion.values())
        f1[name] = 2 * hits / total if total else 0.0
    right = [label == suggestion for label, suggestion in zip(labels, suggested, strict=True)]
    bins = _bins(right, probabilities)
    gaps = sum(found.n * abs(found.claimed - found.right) for found in bins)
    return Evaluation(
        n=len(labels),
        accuracy=sum(right) / len(right) if right else math.nan,
        f1=f1,
        macro_f1=sum(f1.values()) / len(f1) if f1 else math.nan,
        confusion={name: dict(row) for name, row in confusion.items()},
        calibration=gaps / len(right) if bins else math.nan,
        bins=bins,
    )


def cross_validate(
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    groups: Sequence[str] = (),
    folds: int = 5,
    seed: int = 1,
) -> Evaluation:
    """Evaluate the classifier on texts that it was not trained on.

    groups: texts of one group (a source) are never on both sides; none: each stands alone.
    """
    members: dict[str, list[int]] = {}
    for place in range(len(texts)):
        members.setdefault(groups[place] if groups else str(place), []).append(place)
    order = random.Random(seed).sample(sorted(members), len(members))
    parts: list[list[int]] = [[] for _ in range(folds)]
    for name in sorted(order, key=lambda name: -len(members[name])):
        min(parts, key=len).extend(members[name])
    suggested = [""] * len(texts)
    sure = [0.0] * len(texts)
    for part in filter(None, parts):
        rest = sorted(set(range(len(texts))) - set(part))
        classifier = train_classifier([texts[p] for p in rest], [labels[p] for p in rest])
        for place in part:
            suggestion = classifier.suggest(texts[place])
            suggested[place], sure[place] = suggestion.label, suggestion.probability
    return evaluate(labels, suggested, sure)


def text_of(record: Record) -> str:
    """Return what of a record is classified: question, answer and tags."""
    return "\n".join([record.question, record.answer or "", *record.tags])


def _terms(text: str) -> list[str]:
    """Units and pairs of neighbouring units."""
    pieces = units(text)
    return pieces + [f"{first} {second}" for first, second in itertools.pairwise(pieces)]


def _bins(right: Sequence[bool], probabilities: Sequence[float]) -> tuple[Bin, ...]:
    """Suggestions by tenths of probability; none where no probabilities were given."""
    bins: dict[int, list[tuple[bool, float]]] = {}
    for hit, probability in zip(right if probabilities else (), probabilities, strict=True):
        bins.setdefault(min(9, int(probability * 10)), []).append((hit, probability))
    return tuple(
        Bin(
            n=len(entries),
            claimed=sum(share for _, share in entries) / len(entries),
            right=sum(hit for hit, _ in entries) / len(entries),
        )
        for _, entries in sorted(bins.items())
    )
