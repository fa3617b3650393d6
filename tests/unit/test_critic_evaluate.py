"""A critic put to people's pairs: what counts, what a tie is, and what each critique changes."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError
from rich.console import Console
from tests.critic_fakes import FakeCritic

from drenpa.commands.critic_trial import drawn, print_evaluation, read_pairs, write_evaluation
from drenpa.core.errors import DataError
from drenpa.core.records import Candidate, Ranking
from drenpa.critic.evaluate import evaluation, score_pairs
from drenpa.critic.pairs import Pair, pairs_in_rankings


def pair(question, better, worse, **more):
    return Pair(
        **{"question": question, "answer_a": better, "answer_b": worse, "preferred": "a"} | more
    )


def says_good(question, answer, _):
    return "good" if answer.startswith("right") else "bad"


def believes(question, answer, critique):
    """Reads the critique alone."""
    return {"good": 1.0, "bad": -1.0}.get(critique, 0.0)


@pytest.fixture
def pairs():
    return [pair(f"q{n}", f"right {n}", f"wrong {n}") for n in range(12)]


def test_a_critic_that_believes_good_critiques_is_right_with_them_and_wrong_with_them_changed_round(
    pairs,
):
    told = evaluation(FakeCritic(says_good, believes), pairs)
    assert told["own"]["accuracy"] == 1.0
    assert told["none"]["accuracy"] == 0.5  # all scores are equal
    assert told["shuffled"]["accuracy"] == 0.0
    assert told["use"]["difference"] == 1.0
    assert (told["pairs"], told["decided"], told["groups"], told["used"]) == (12, 12, 12, "own")
    assert "gold" not in told


def test_gold_is_told_where_both_answers_have_a_critique_of_peoples(pairs):
    judged = [
        p.model_copy(update={"critique_a": "bad", "critique_b": "good"}) if n < 3 else p
        for n, p in enumerate(pairs)
    ]
    judged[3] = judged[3].model_copy(update={"critique_a": "good"})
    told = evaluation(FakeCritic(says_good, believes), judged)
    assert (told["gold"]["pairs"], told["gold"]["accuracy"]) == (3, 0.0)
    # On the three pairs that have both: gold is always wrong, own always right.
    assert (told["gap"]["difference"], told["gap"]["pairs"]) == (-1.0, 3)


def test_the_second_answer_may_be_the_better_one(pairs):
    turned = [
        Pair(question=p.question, answer_a=p.answer_b, answer_b=p.answer_a, preferred="b")
        for p in pairs
    ]
    assert evaluation(FakeCritic(says_good, believes), turned)["own"]["accuracy"] == 1.0


def test_a_tie_is_no_pair_to_get_right_but_should_stand_nearer():
    def finds(question, answer, critique):
        return float(answer)

    pairs = [
        pair("q1", "9", "1"),
        pair("q2", "3", "4"),
        pair("q3", "5", "7", preferred="tie"),
        pair("q4", "5", "5", preferred="tie"),
    ]
    told = evaluation(FakeCritic(says_good, finds), pairs)
    assert (told["own"]["pairs"], told["own"]["accuracy"]) == (2, 0.5)
    # Ties are 2 and 0 apart, decided pairs 8 and 1: nearer in 3 of the 4 comparisons.
    assert told["ties"] == {"pairs": 2, "nearer": 0.75}


def test_an_answer_is_criticised_once_however_many_pairs_it_stands_in():
    critic = FakeCritic(says_good, believes)
    score_pairs(critic, [pair("q", "right", "wrong"), pair("q", "right", "worse")])
    assert sorted(critic.written) == [("q", "right"), ("q", "worse"), ("q", "wrong")]


def test_groups_are_drawn_together_whatever_their_questions(pairs):
    grouped = [p.model_copy(update={"group": f"g{n % 3}"}) for n, p in enumerate(pairs)]
    told = evaluation(FakeCritic(says_good, believes), grouped)
    assert told["own"]["questions"] == told["groups"] == 3


def test_a_scorer_that_writes_nothing_is_measured_as_it_is_used(pairs):
    critic = FakeCritic(says_good, lambda q, a, c: float(a.startswith("right")), writes=False)
    told = evaluation(critic, pairs)
    assert told["used"] == "none"
    assert told["none"]["accuracy"] == 1.0
    assert "own" not in told
    assert critic.written == []


def test_what_could_not_be_scored_is_counted_and_not_judged(pairs):
    def finds(question, answer, critique):
        return math.nan if answer == "wrong 3" else believes(question, answer, critique)

    told = evaluation(FakeCritic(says_good, finds), pairs)
    assert (told["own"]["pairs"], told["own"]["unscored"]) == (11, 1)


def test_the_longer_answer_is_told_beside_the_critic(pairs):
    longer = [pair(p.question, p.answer_a + " and more", p.answer_b) for p in pairs]
    assert evaluation(FakeCritic(says_good, believes), longer)["longer"]["accuracy"] == 1.0


def test_one_text_is_not_preferred_to_itself():
    with pytest.raises(ValidationError, match="write tie"):
        pair("q", "same", "same")
    assert pair("q", "same", "same", preferred="tie").decided is False


def test_rankings_become_pairs_the_furthest_apart_first_and_equal_ranks_none():
    ranks = (("a", 1, "why a", ""), ("b", 2, "", "Thin."), ("c", 2, "", ""), ("d", 3, "", ""))
    ranking = Ranking(
        id="k",
        record="r",
        candidates=tuple(
            Candidate(id=name, answer=name, rank=rank, note=note, critique=critique)
            for name, rank, note, critique in ranks
        ),
    )
    elsewhere = ranking.model_copy(update={"id": "l", "record": "gone"})
    pairs = pairs_in_rankings([ranking, elsewhere], {"r": "q?"})
    assert (pairs[0].better, pairs[0].worse) == ("a", "d")
    assert len(pairs) == 5  # of six, b and c are equal
    first = next(p for p in pairs if p.worse == "b")
    assert (first.critique_a, first.critique_b) == ("why a", "Thin.")


def test_a_wrong_file_is_told_line_by_line_and_field_by_field(tmp_path):
    good = {"question": "q", "answer_a": "x", "answer_b": "y", "preferred": "a"}
    rows = [good, good | {"preferred": "A"}, {"question": "q", "answer_a": "x"}, good | {"x": 1}]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError) as told:
        read_pairs(file)
    text = str(told.value)
    assert f"{file}:2: field 'preferred'" in text
    assert f"{file}:3: field 'answer_b': missing" in text
    assert f"{file}:3: field 'preferred': missing" in text
    assert f"{file}:4: field 'x': unknown" in text
    assert f"{file}:1" not in text


def test_the_same_pairs_come_from_json_lines_csv_and_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [
        {"question": "q, or not?", "answer_a": "x", "answer_b": "y", "preferred": "b", "group": "g"}
    ]
    (tmp_path / "p.jsonl").write_text(json.dumps(rows[0]), encoding="utf-8")
    (tmp_path / "p.csv").write_text(
        'question,answer_a,answer_b,preferred,group\n"q, or not?",x,y,b,g\n', encoding="utf-8"
    )
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "p.parquet")
    found = [read_pairs(tmp_path / f"p.{suffix}") for suffix in ("jsonl", "csv", "parquet")]
    assert found[0] == found[1] == found[2] == [Pair(**rows[0])]


def test_questions_are_drawn_whole_and_always_alike(pairs):
    several = [*pairs, *(pair(p.question, p.answer_a, "else") for p in pairs)]
    few = drawn(several, 5)
    assert few == drawn(several, 5)
    assert len({p.question for p in few}) == 5
    assert len(few) == 10
    assert drawn(several, 0) == several


def test_what_is_printed_and_written_is_what_was_found(pairs, tmp_path, capsys):
    told = {"critic": "c", "file": "f", **evaluation(FakeCritic(says_good, believes), pairs)}
    print_evaluation(told, Console(width=120))
    shown = capsys.readouterr().out
    assert "use: its own − changed round: +100.0 points" in shown
    assert "100.0 %" in shown
    write_evaluation(told, tmp_path)
    assert json.loads((tmp_path / "eval.json").read_text(encoding="utf-8")) == told
    assert "<svg" in (tmp_path / "reliability.svg").read_text(encoding="utf-8")
