"""Suggestions say why, are never taken for decisions, and are measured where nobody trained."""

import csv
import math
import os
from pathlib import Path

import pytest

from drenpa.core.errors import DataError
from drenpa.corpus.classify import (
    cross_validate,
    evaluate,
    suggest_kind,
    text_of,
    train_classifier,
)
from drenpa.corpus.intake import read_records, source_files
from drenpa.corpus.language import identify_language

SHARED = Path(os.environ.get("DRENPA_SHARED", Path(__file__).parents[3] / "shared" / "data"))
TEXTS = ["snow falls cold", "cold snow and ice", "sun shines hot", "hot sun and sand"] * 3
LABELS = ["winter", "winter", "summer", "summer"] * 3


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("What is a verb?", "foundation"),
        ("Which first aid steps help a patient with burns?", "profession"),
        ("How can I notice my own bias while learning?", "metacognition"),
        ("What do a river and a story have in common?", "connection"),
        ("什么是动词，句子里有什么语法作用？", "foundation"),
        ("复习时注意力不集中怎么办？", "metacognition"),
        ("དབྱངས་དང་གསལ་བྱེད་ཀྱི་ཡི་གེ་གང་ཡིན།", "foundation"),
    ],
)
def test_the_rules_read_three_languages(question, kind):
    suggestion = suggest_kind(question)
    assert suggestion.label == kind
    assert suggestion.source == "rules"
    assert 0 < suggestion.probability <= 1
    assert all(reason.startswith(kind) for reason in suggestion.reasons)


def test_a_reason_quotes_what_it_rests_on():
    suggestion = suggest_kind("Is memory a metaphor?", "It is like a library.")
    assert suggestion.reasons == (
        "connection: 'metaphor' in the question",
        "connection: 'like a' in the answer",
    )


def test_a_tag_that_names_a_kind_decides_and_nothing_gives_no_label():
    assert suggest_kind("What is a verb?", tags=("Profession",)).label == "profession"
    nothing = suggest_kind("Hm?")
    assert (nothing.label, nothing.probability) == ("", 0.0)


def test_a_trained_classifier_tells_the_labels_apart_and_says_why():
    classifier = train_classifier(TEXTS, LABELS)
    suggestion = classifier.suggest("deep snow")
    assert (suggestion.label, suggestion.source) == ("winter", "model")
    assert suggestion.reasons == ("'snow' speaks for winter",)
    shares = classifier.probabilities("a text of unknown terms")
    assert shares == {"summer": pytest.approx(0.5), "winter": pytest.approx(0.5)}


def test_probabilities_are_naive_bayes_worked_by_hand():
    # terms met twice or more: a (2 in x), b (2 in y); smoothing 0.5, two labels of two texts each
    # p(a|x) = (2 + .5)/(2 + 1) = 5/6, p(a|y) = .5/3 = 1/6; priors equal, one term, so √1
    classifier = train_classifier(["a", "a", "b", "b"], ["x", "x", "y", "y"])
    assert classifier.probabilities("a") == {"x": pytest.approx(5 / 6), "y": pytest.approx(1 / 6)}


def test_one_label_is_too_few_to_train_on():
    with pytest.raises(DataError, match="two labels or more"):
        train_classifier(["a", "b"], ["x", "x"])


def test_an_evaluation_worked_by_hand():
    # x: 2 right of 3, and 1 false: F1 = 4/6; y: 1 right of 2, 1 false: F1 = 2/4; "" is wrong
    result = evaluate(["x", "x", "x", "y", "y"], ["x", "x", "y", "y", "x"])
    assert result.accuracy == pytest.approx(0.6)
    assert result.f1 == {"x": pytest.approx(2 / 3), "y": pytest.approx(1 / 2)}
    assert result.macro_f1 == pytest.approx(7 / 12)
    assert result.confusion == {"x": {"x": 2, "y": 1}, "y": {"y": 1, "x": 1}}
    assert math.isnan(result.calibration)
    assert evaluate(["x", "y"], ["", "y"]).accuracy == 0.5


def test_calibration_is_the_gap_between_what_is_claimed_and_what_comes_true():
    # one bin of .9: claimed .9, half right: gap .4; all the weight lies there
    assert evaluate(list("xy"), list("xx"), [0.9, 0.9]).calibration == pytest.approx(0.4)


def test_cross_validation_predicts_every_text_and_never_splits_a_group():
    assert cross_validate(TEXTS, LABELS, folds=3).accuracy == 1.0
    # a group's term is met nowhere else, and of the labels left the other one is the commoner
    texts = ["p", "p", "q", "q", "r", "r", "s", "s"]
    labels = ["hot"] * 2 + ["cold"] * 4 + ["hot"] * 2
    result = cross_validate(texts, labels, groups=texts, folds=4)
    assert result.confusion["hot"] == {"cold": 4}


def test_the_kinds_of_the_starter_corpus_can_be_learned_across_sources():
    records = [row for path in source_files(["starter"], "records") for row in read_records(path)]
    result = cross_validate(
        [text_of(record.model_copy(update={"tags": ()})) for record in records],
        [record.kind for record in records],
        groups=[record.source for record in records],
    )
    assert result.n == len(records)
    assert result.macro_f1 > 0.45  # chance is 0.25


def rows(language, part):
    path = SHARED / "tibetan" / "sib200" / f"{language}.{part}.tsv"
    if not path.is_file():
        pytest.skip(f"{path} is absent; set DRENPA_SHARED to the folder of shared data")
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize(
    ("file", "language", "least"),
    [
        ("bod_Tibt", "bo", 203),
        ("dzo_Tibt", "dz", 198),
        ("zho_Hans", "zh", 202),
        ("eng_Latn", "en", 204),
    ],
)
def test_languages_are_told_apart_on_the_test_part_of_sib200(file, language, least):
    found = [identify_language(row["text"]) for row in rows(file, "test")]
    assert found.count(language) >= least


def test_topics_of_tibetan_sentences_can_be_learned():
    train, test = rows("bod_Tibt", "train"), rows("bod_Tibt", "test")
    classifier = train_classifier(
        [row["text"] for row in train], [row["category"] for row in train]
    )
    suggested = [classifier.suggest(row["text"]).label for row in test]
    assert evaluate([row["category"] for row in test], suggested).macro_f1 > 0.6
