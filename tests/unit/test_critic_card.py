"""The critic's card: each check sees what it is there to see, and only that."""

from __future__ import annotations

import json
import math

import pytest
from tests.critic_fakes import FakeCritic

from drenpa.commands.critic_trial import card_text, make_card, write_card
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.text import copy_ratio, loop_ratio, script_ratio
from drenpa.critic.attacks import BREAKS, DRESSINGS, language_of
from drenpa.critic.card import card
from drenpa.critic.pairs import Pair
from drenpa.critic.score import UNSCORED

ANSWER = (
    "A morpheme is the smallest part of a word that means something. "
    "The word unhappy has two of them, un and happy, and each adds its own meaning to the whole."
)
QUESTIONS = {
    "en": "What is a morpheme?",
    "zh": "什么是语素？",
    "bo": "ཚིག་གི་ཆ་ཤས་ཆུང་ཤོས་ཅི་ཡིན།",
}
ANSWERS = {
    "en": ANSWER,
    "zh": "语素是最小的有意义的语言单位。“不高兴”有两个语素。",
    "bo": "དོན་ཡོད་པའི་ཚིག་གི་ཆ་ཤས་ཆུང་ཤོས་ཡིན།",
}


def changed(attacks, name, language="en"):
    (attack,) = [attack for attack in attacks if attack.name == name]
    return attack.apply(QUESTIONS[language], ANSWERS[language])


@pytest.mark.parametrize("language", ["en", "zh", "bo"])
@pytest.mark.parametrize("attack", DRESSINGS, ids=lambda attack: attack.name)
def test_a_dressing_leaves_every_word_of_the_answer_and_adds_in_the_questions_language(
    attack, language
):
    dressed = attack.apply(QUESTIONS[language], ANSWERS[language])
    assert len(dressed) > len(ANSWERS[language])
    bare = dressed.replace("**", "").replace("- ", "").replace("\n", " ").replace(" ", "")
    assert ANSWERS[language].replace(" ", "") in bare
    assert script_ratio(dressed, language) > 0.95


@pytest.mark.parametrize("language", ["en", "zh", "bo"])
def test_each_break_breaks_what_it_says(language):
    question, answer = QUESTIONS[language], ANSWERS[language]
    assert changed(BREAKS, "question as answer", language) == question
    looped = changed(BREAKS, "loop", language)
    assert loop_ratio(looped) > 0.6
    assert answer.startswith(looped[:5])
    assert script_ratio(changed(BREAKS, "wrong language", language), language) == 0.0
    other = changed(BREAKS, "off topic", language)
    assert script_ratio(other, language) == 1.0
    assert copy_ratio(other, answer) == 0.0


def test_the_language_is_that_of_most_letters():
    assert [language_of(text) for text in QUESTIONS.values()] == ["en", "zh", "bo"]
    assert language_of("123") == "en"


@pytest.fixture
def pairs():
    return [
        Pair(
            question=f"What is {n}?",
            answer_a=f"It is {n}, as everyone knows who has looked into it." + " Yes." * n,
            answer_b=f"{n} is wrong.",
            preferred="a",
        )
        for n in range(12)
    ]


def found(told, name):
    (check,) = [check for check in told["checks"] if check["name"] == name]
    return check


def by_truth(question, answer, critique):
    return float("wrong" not in answer and "It is" in answer)


def test_a_critic_that_looks_at_the_matter_withstands_everything_but_what_keeps_the_matter(pairs):
    told = card(FakeCritic(lambda q, a, s: "so", by_truth), pairs, samples=2)
    for attack in DRESSINGS:
        check = found(told, attack.name)
        assert (check["told"]["accuracy"], check["told"]["pairs"]) == (1.0, 12)
        assert check["more"]["share of worse answers that gain"] == 0.0
    for name in ("question as answer", "wrong language", "off topic"):
        assert found(told, name)["told"]["accuracy"] == 1.0
    # The loop begins like the better answer, and this critic only looks for how it begins.
    assert found(told, "loop")["told"]["accuracy"] == 0.5


def test_a_critic_that_counts_letters_falls_for_length_in_every_form(pairs):
    told = card(FakeCritic(lambda q, a, s: "so", lambda q, a, c: float(len(a))), pairs, samples=2)
    assert found(told, "longer is better")["told"]["accuracy"] == 1.0
    assert found(told, "shorter is better")["told"]["pairs"] == 0
    slope = found(told, "shorter is better")["more"]["rank correlation of score and length"]
    assert slope > 0.9
    assert found(told, "longer")["told"]["accuracy"] == 0.0
    assert found(told, "flattery")["more"]["share of worse answers that gain"] == 1.0


def test_the_correlation_of_score_and_length_does_not_ask_which_answer_is_called_a():
    words = [(9, 4), (12, 10), (7, 6), (20, 3), (8, 5), (15, 9)]  # the better one's first
    turned = [
        [
            Pair(question=f"q{n}", answer_a="w " * a, answer_b="w " * b, preferred=side)
            for n, (better, worse) in enumerate(words)
            for a, b, side in [
                (worse, better, "b") if n % every == every - 1 else (better, worse, "a")
            ]
        ]
        for every in (99, 2)
    ]

    def likes_length_somewhat(question, answer, critique):
        return len(answer) + 9.0 * (len(answer) % 5)

    critic = FakeCritic(lambda q, a, s: "so", likes_length_somewhat)
    slopes = [
        found(card(critic, pairs, samples=1), "shorter is better")["more"] for pairs in turned
    ]
    assert slopes[0] == slopes[1]
    assert -1 < slopes[0]["rank correlation of score and length"] < 1


def test_a_worse_answer_without_a_score_is_not_one_that_gains_nothing():
    pairs = [
        Pair(question=question, answer_a="aaaa aaaa", answer_b="b", preferred="a")
        for question in ("fits", "too long")
    ]

    def counts(question, answer, critique):
        return math.nan if question == "too long" else float(len(answer))

    told = card(FakeCritic(lambda q, a, s: "so", counts), pairs, samples=1)
    assert found(told, "flattery")["more"]["share of worse answers that gain"] == 1.0


def test_a_critique_that_the_limit_cut_is_not_whole(pairs):
    def long_about_the_wrong(question, answer, seed):
        return "bad" * 9 if "wrong" in answer else "fine"

    critic = FakeCritic(long_about_the_wrong, by_truth, limit=12)
    rows = {row["tokens"]: row for row in card(critic, pairs, samples=1)["budget"]}
    assert [rows[n]["whole"] for n in (4, 8, 12)] == [0.5, 0.5, 0.5]


def test_an_answer_that_got_no_critique_is_none_that_ended_by_itself(pairs):
    class Silent(FakeCritic):
        """A fake that cannot read one question."""

        def write(self, questions, answers, **options):
            rows = super().write(questions, answers, **options)
            return [
                [UNSCORED] * len(row) if question == "What is 0?" else row
                for question, row in zip(questions, rows, strict=True)
            ]

    critic = Silent(lambda q, a, s: "far too long", by_truth, limit=8)
    rows = card(critic, pairs, samples=1)["budget"]
    assert [row.get("whole") for row in rows] == [None, 0.0, 0.0]


def test_a_critic_that_obeys_the_answer_is_seen_by_the_injection_alone(pairs):
    def obeys(question, answer, critique):
        return 9.0 if "full marks" in answer else by_truth(question, answer, critique)

    told = card(FakeCritic(lambda q, a, s: "so", obeys), pairs, samples=2)
    assert found(told, "asks for full marks")["told"]["accuracy"] == 0.0
    assert found(told, "brings its own critique")["told"]["accuracy"] == 1.0


def test_averaging_helps_where_samples_err_apart_and_not_where_they_agree(pairs):
    def guesses(question, answer, seed):
        # Of three samples, one is wrong about each pair: another one each time.
        number = int(question.split()[2].rstrip("?"))
        honest = number % 3 != seed
        return "good" if ("wrong" in answer) != honest else "bad"

    def reads(question, answer, critique):
        return 1.0 if critique == "good" else 0.0

    told = card(FakeCritic(guesses, reads), pairs, samples=3)["consistency"]
    assert told["single"]["accuracy"] == pytest.approx(2 / 3)
    assert told["mean"]["accuracy"] == 1.0
    assert told["mean_minus_single"]["difference"] == pytest.approx(1 / 3)
    sure = card(FakeCritic(lambda q, a, s: "so", by_truth), pairs, samples=3)["consistency"]
    assert sure["mean_minus_single"]["difference"] == 0.0
    assert sure["within"] == 0.0


def test_a_critique_cut_short_is_read_as_far_as_it_goes(pairs):
    def verdict_last(question, answer, seed):
        return "I have thought about it: " + ("bad" if "wrong" in answer else "fine")

    critic = FakeCritic(verdict_last, lambda q, a, c: float(c.endswith("fine")), limit=30)
    rows = {row["tokens"]: row for row in card(critic, pairs, samples=2)["budget"]}
    assert sorted(rows) == [0, 4, 8, 16, 30]
    assert [rows[n]["accuracy"] for n in (0, 16, 30)] == [0.5, 0.5, 1.0]
    assert (rows[16]["whole"], rows[30]["whole"]) == (0.0, 1.0)


def test_a_scorer_without_critiques_has_a_card_without_them(pairs, tmp_path):
    told = card(FakeCritic(lambda q, a, s: "", by_truth, writes=False), pairs)
    assert told["used"] == "none"
    assert "consistency" not in told
    text = card_text({"critic": "runs/x/scalar", "from": "a file", **told})
    assert "with no critique" in text
    assert "Several critiques" not in text


def test_the_card_is_written_for_people_and_for_programs(pairs, tmp_path):
    critic = FakeCritic(lambda q, a, s: "so", by_truth)
    told = {"critic": "runs/x/critic", "from": "a file", **card(critic, pairs, samples=2)}
    write_card(told, tmp_path)
    assert json.loads((tmp_path / "card.json").read_text(encoding="utf-8")) == told
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    for check in told["checks"]:
        assert f"| {check['name']} |" in text
    assert "None" not in text
    assert "nan" not in text


def test_a_card_needs_pairs_that_people_decided(tmp_path):
    with pytest.raises(ArtefactError, match="--pairs"):
        make_card(tmp_path)
    file = tmp_path / "ties.jsonl"
    row = {"question": "q", "answer_a": "x", "answer_b": "y", "preferred": "tie"}
    file.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(DataError, match="tie"):
        make_card(tmp_path, pairs=file)
