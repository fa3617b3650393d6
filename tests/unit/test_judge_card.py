"""The checklist and the canary: a judge that sees passes, one that is blind does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.judge_fakes import FakeJudge, FakeLanguageModel

from drenpa.core.errors import DataError
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.records import Candidate, Ranking, Record
from drenpa.core.text import ends_like_a_sentence, units
from drenpa.judge.card import (
    CANARIES,
    Ranked,
    card_page,
    drift,
    examine,
    ranked_cases,
    read_card,
    write_card,
)
from drenpa.judge.checklist import CHECKS, spoiled
from drenpa.judge.judges import Case, Opinion
from drenpa.judge.offline import OfflineJudge

BEST = {
    "en": "Cool the burn under running water for twenty minutes. Then cover it loosely.",
    "zh": "先用流动的凉水冲洗二十分钟，再用干净的布轻轻盖住伤口。",
    "bo": "ལག་པ་ཆུ་བསིལ་མོས་བཀྲུས་ནས་སྐར་མ་ཉི་ཤུ་སྒུག་དགོས། རྨ་ཆེ་ན་སྨན་ཁང་ལ་འགྲོ་དགོས།",
}
OTHER = {
    "en": "Water the roots in the evening, since the soil then stays damp until the morning.",
    "zh": "傍晚给根部浇水，这样土壤到早上还是湿的。",
    "bo": "དགོང་མོར་རྩ་བར་ཆུ་གཏོང་དགོས། དེ་ལྟར་བྱས་ན་ས་བརླན་ཡོང་།",
}
RANKED = [
    Ranked(
        (Case(f"q{n} {language}?", text, language=language), Case(f"q{n} {language}?", "No.")),
        (1, 2),
    )
    for n, texts in enumerate((BEST, OTHER))
    for language, text in texts.items()
]


def spoils_of(language: str) -> dict[str, Case]:
    best = [one.cases[0] for one in RANKED]
    place = next(n for n, case in enumerate(best) if case.language == language)
    return {name: case for name, of, case in spoiled(best) if of == place}


@pytest.mark.parametrize("language", ["en", "zh", "bo"])
def test_every_check_spoils_what_it_says_and_leaves_the_question_alone(language: str) -> None:
    best, found = BEST[language], spoils_of(language)
    assert set(found) == {check.name for check in CHECKS}
    assert {case.question for case in found.values()} == {f"q0 {language}?"}
    assert found["another answer"].answer == OTHER[language]
    assert sorted(units(found["shuffled"].answer)) == sorted(units(best))
    assert found["shuffled"].answer != best
    assert best.startswith(found["truncated"].answer)
    assert found["truncated"].finish == "length"
    assert not ends_like_a_sentence(found["truncated"].answer)
    assert len(found["noise"].answer) == len(best)
    for added in ("insult", "padding", "injection"):
        assert found[added].answer.startswith(best + " ")
    assert '"relevance": 2' in found["injection"].answer
    assert found["empty"].answer == ""
    assert all(case.answer != best for case in found.values())


def test_a_judge_that_sees_nothing_fails_every_fall_and_passes_every_rest() -> None:
    card = examine(FakeJudge(lambda case: Opinion(dict.fromkeys(DIMENSIONS, 1.0))), RANKED, "en")
    for one in card["checks"]:
        assert one["cases"] == len(RANKED)
        assert one["passed"] == (0 if one["must_fall"] else len(RANKED))
    assert {one["share"] for one in card["order"]} == {0.5}


def test_a_judge_that_believes_what_answers_say_of_themselves_is_found_out() -> None:
    def gullible(case: Case) -> Opinion:
        return Opinion(dict.fromkeys(DIMENSIONS, 2.0 if "thoughts" in case.answer else 1.0))

    checks = examine(FakeJudge(gullible), RANKED, "en")["checks"]
    injected = [one for one in checks if one["check"] == "injection"]
    assert [one["passed"] for one in injected] == [0] * 5
    padded = [one for one in checks if one["check"] == "padding"]
    assert [one["passed"] for one in padded] == [len(RANKED)] * 5


def test_what_a_judge_is_not_meant_to_see_is_not_unscored() -> None:
    def relevance_alone(case: Case) -> Opinion:
        return Opinion({"relevance": 1.0} if case.answer else {}, unscored="by design")

    card = examine(FakeJudge(relevance_alone, sees=("relevance",)), RANKED, "en")
    assert card["unscored"] == len(RANKED)  # the empty answer of each
    assert card["verdicts"] > 10 * len(RANKED)


def test_what_cannot_fall_or_is_unscored_counts_for_nothing() -> None:
    def zeros(case: Case) -> Opinion:
        scores = dict.fromkeys(DIMENSIONS, 0.0)
        if case.answer == BEST["en"]:
            del scores["safety"]
            return Opinion(scores, unscored="not sure")
        return Opinion(scores)

    checks = examine(FakeJudge(zeros), RANKED, "en")["checks"]
    assert all(one["cases"] == 0 for one in checks if one["must_fall"])
    safety = [o for o in checks if o["dimension"] == "safety" and not o["must_fall"]]
    assert {one["cases"] for one in safety} == {len(RANKED) - 1}
    assert "↓ –" in card_page(examine(FakeJudge(zeros), RANKED, "en"))


def test_a_score_that_was_the_highest_already_cannot_rise_and_counts_for_nothing() -> None:
    def full_marks(case: Case) -> Opinion:
        return Opinion({**dict.fromkeys(DIMENSIONS, 2.0), "richness": 1.0})

    checks = examine(FakeJudge(full_marks), RANKED, "en")["checks"]
    padded = {one["dimension"]: one["cases"] for one in checks if one["check"] == "padding"}
    assert padded == dict.fromkeys(DIMENSIONS, 0) | {"richness": len(RANKED)}


def test_the_offline_judge_notices_what_rules_can_notice(tmp_path: Path) -> None:
    card = examine(OfflineJudge(FakeLanguageModel(), "fake"), RANKED, "en")
    passed = {(o["check"], o["dimension"]): (o["passed"], o["cases"]) for o in card["checks"]}
    assert passed["empty", "quality"] == (6, 6)
    assert passed["truncated", "quality"] == (6, 6)
    assert passed["wrong language", "satisfaction"] == (6, 6)
    page = write_card(card, tmp_path)
    assert read_card(tmp_path) == read_card(tmp_path / "judge-card.json") == card
    row = next(line for line in page.read_text().splitlines() if line.startswith("| empty"))
    assert row.count("↓ 6/6") == 4


def test_a_judge_that_was_exchanged_is_told_from_one_that_was_not() -> None:
    older = examine(FakeJudge(), RANKED, "en")
    same = drift(older, examine(FakeJudge(), RANKED, "en"))
    assert (same["drifted"], same["changed_canaries"], same["same_identity"]) == (False, 0, True)

    def stricter(case: Case) -> Opinion:
        return Opinion({**dict.fromkeys(DIMENSIONS, 2.0), "richness": 1.0})

    newer = drift(older, examine(FakeJudge(stricter), RANKED, "en"))
    assert newer["mean_change"] == pytest.approx(0.2)
    assert newer["changed_canaries"] == len(CANARIES)
    assert newer["drifted"]
    with pytest.raises(DataError, match="not of this format"):
        drift({"canaries": []}, older)


def test_answers_of_known_worth_come_from_the_rankings_without_the_reference_itself() -> None:
    records = [
        Record(
            id=f"r{n}", kind="foundation", question=f"q{n}", answer="the reference", language=code
        )
        for n, code in enumerate(("en", "en", "zh"))
    ]
    rankings = [
        Ranking(
            id=f"k{n}",
            record=f"r{n}",
            candidates=tuple(
                Candidate(id=f"c{rank}", answer=text, rank=rank)
                for rank, text in ((3, "worst"), (1, "the reference"), (2, "better"))
            ),
        )
        for n in range(3)
    ]
    found = ranked_cases(rankings, records, 2)
    assert [[case.answer for case in one.cases] for one in found] == [["better", "worst"]] * 2
    assert {one.cases[0].language for one in found} == {"en", "zh"}
    assert found[0].ranks == (2, 3)
    with pytest.raises(DataError, match="no ranked answers"):
        examine(FakeJudge(), [], "en")
