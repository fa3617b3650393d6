"""The withheld answers score predictions and are not given away by it."""

import datetime
import json
import multiprocessing

import pytest

from drenpa.core.errors import DataError
from drenpa.core.records import Record
from drenpa.corpus.hidden import Guard, HiddenScore, score_hidden, tellable, unit_f1
from drenpa.corpus.withheld import private_canary, write_private

KEY = b"sixteen secret bytes"
DAY = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)
KINDS = ["foundation", "connection"]
ITEMS = [
    Record(
        id=f"t{number:02}",
        kind=KINDS[number % 2],
        question=f"What is the name of pass {number}?",
        answer=f"Pass {number} is called Dolma.",
    )
    for number in range(40)
]


@pytest.fixture
def private(tmp_path):
    path = tmp_path / "private.jsonl"
    write_private(path, KEY, "Passes 1.0.0", ITEMS)
    return path


@pytest.fixture
def submit(private, tmp_path):
    """Score predictions, given as id → answer; what is not given is right."""

    def submitted(
        wrong=(), *, submitter="team", hours=0, guard=None, drop=(), **more
    ) -> HiddenScore:
        answers = {item.id: item.answer for item in ITEMS if item.id not in drop}
        answers |= dict(wrong) | more
        path = tmp_path / "predictions.jsonl"
        lines = [json.dumps({"id": name, "answer": text}) for name, text in answers.items()]
        path.write_text("\n".join(lines))
        now = DAY + datetime.timedelta(hours=hours)
        return score_hidden(path, private, submitter=submitter, guard=guard, now=now)

    return submitted


def wrong(first, last, word="nothing"):
    return {f"t{number:02}": word for number in range(first, last)}


def test_units_in_common_make_the_f1():
    assert unit_f1("a b c d", "a b x") == pytest.approx(2 * 2 / 7)
    assert unit_f1("a a", "a") == pytest.approx(2 / 3)
    assert unit_f1("", "a") == unit_f1("x", "a") == 0.0


def test_right_predictions_score_one_and_wrong_ones_nothing(submit):
    score = submit()
    assert score.whole == {"exact": 1.0, "f1": 1.0, "chrf": 1.0}
    assert score.kinds == dict.fromkeys(KINDS, score.whole)
    assert (score.release, score.items) == ("Passes 1.0.0", 40)
    half = submit(wrong(0, 20))
    assert half.whole["exact"] == 0.5
    assert half.kinds["foundation"]["exact"] == 0.5


def test_what_is_told_holds_no_answer_and_no_item(submit, private):
    told = json.dumps(vars(submit(wrong(0, 15))))
    log = private.with_suffix(".log.jsonl").read_text()
    assert not any(item.answer in text for item in ITEMS for text in (told, log))
    assert not any(item.id in told for item in ITEMS)


def test_a_figure_that_rests_on_few_right_answers_is_not_told(submit):
    score = submit(wrong(0, 31, "zzz"))
    assert score.whole["exact"] is None  # nine are right
    assert score.whole["f1"] is None
    more = submit(wrong(0, 20, "zzz"))
    assert more.whole["exact"] == 0.5


def test_one_changed_prediction_is_refused_whoever_sends_it(submit, private):
    submit()
    with pytest.raises(DataError, match="fewer than 10 items"):
        submit(t07="something else", submitter="another", hours=30)
    with pytest.raises(DataError, match="fewer than 10 items"):
        submit(wrong(0, 9), hours=60)
    submit(wrong(0, 10), hours=60)
    log = [json.loads(line) for line in private.with_suffix(".log.jsonl").read_text().splitlines()]
    assert [sorted(entry) for entry in log] == [
        ["fingerprints", "score", "submitter", "time"],
        ["fingerprints", "refused", "submitter", "time"],
        ["fingerprints", "refused", "submitter", "time"],
        ["fingerprints", "score", "submitter", "time"],
    ]


def test_a_change_of_case_or_punctuation_is_the_same_submission(submit):
    first = submit(wrong(0, 12))
    again = submit({name: f"{text.upper()}!" for name, text in wrong(0, 12).items()}, hours=1)
    assert again == first


def test_three_a_day_and_the_same_file_is_told_the_same_for_nothing(submit):
    scores = [submit(wrong(0, 10 * count)) for count in range(1, 4)]
    assert submit(wrong(0, 10)) == scores[0]
    with pytest.raises(DataError, match="team has submitted 3 times within a day"):
        submit(wrong(20, 40), hours=23)
    submit(wrong(20, 40), submitter="another", hours=23)
    submit(wrong(10, 30), hours=25)


def test_every_item_needs_a_prediction_and_every_prediction_an_item(submit):
    with pytest.raises(DataError, match=r"1 of 40 test items have no prediction.*'t03'"):
        submit(drop=["t03"])
    with pytest.raises(DataError, match=r"predictions.jsonl:41: field 'id': 't99' is no test item"):
        submit(t99="x")


def test_too_few_answers_are_not_scored_at_all(private, tmp_path):
    write_private(tmp_path / "few.jsonl", KEY, "Few", ITEMS[:19])
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text(
        "\n".join(json.dumps({"id": item.id, "answer": "x"}) for item in ITEMS[:19])
    )
    with pytest.raises(DataError, match=r"19 answers; figures over fewer than 20"):
        score_hidden(predictions, tmp_path / "few.jsonl", submitter="team")


def test_a_prediction_that_knows_the_private_canary_is_told_of(submit):
    assert not submit().contaminated
    assert submit(wrong(0, 12), t20=f"As in {private_canary(KEY)}").contaminated


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"a": 30, "b": 30}, ["a", "b"]),
        ({"a": 50, "b": 30, "c": 5}, ["a"]),  # else c would be the whole minus a and b
        ({"a": 50, "b": 12, "c": 10}, ["a"]),  # b and c together are 22
        ({"a": 30, "b": 5}, []),
        ({"a": 19, "b": 19}, []),
    ],
)
def test_no_group_can_be_told_by_taking_others_off_the_whole(sizes, told):
    assert tellable({name: range(size) for name, size in sizes.items()}, 20) == told


def one_submission(folder, number):
    lines = [
        json.dumps({"id": item.id, "answer": f"{number} {place}"})
        for place, item in enumerate(ITEMS)
    ]
    path = folder / f"{number}.jsonl"
    path.write_text("\n".join(lines))
    try:
        score_hidden(path, folder / "private.jsonl", submitter="team", guard=Guard(per_day=2))
    except DataError:
        return False
    return True


def test_submissions_at_the_same_moment_cannot_slip_past_the_limit(private, tmp_path):
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        accepted = pool.starmap(one_submission, [(tmp_path, number) for number in range(6)])
    assert sum(accepted) == 2
    log = private.with_suffix(".log.jsonl").read_text().splitlines()
    assert sum("score" in json.loads(line) for line in log) == 2
    assert len(log) == 6
