"""What is decided between a critic's epochs."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError

from drenpa.config import CriticConfig
from drenpa.critic.watch import EPOCHS, EpochWatch


class Critic:
    """Something that is looked at: a weight that tells the epoch, and the accuracies to come."""

    def __init__(self, *own, gold=0.9):
        self.weight = torch.zeros(2)
        self.own = list(own)
        self.gold = gold
        self.looks = 0

    def look(self):
        self.looks += 1
        own = self.own[int(self.weight[0]) - 1]
        told = {"gold": self.gold, "own": own, "none": 0.5, "shuffled": 0.6}
        table = {source: {"accuracy": x, "all_pairs": x / 2} for source, x in told.items()}
        table["gap"] = {"difference": round(self.gold - own, 6)}
        table["use"] = {"difference": round(own - 0.6, 6)}
        return table | {"by_kind": {"a": table, "b": table}, "by_language": {"en": table}}


def watch(critic, folder, **settings):
    return EpochWatch(
        critic.look,
        lambda: {"weight": critic.weight},
        folder,
        **{"used": "own", "epochs": 2} | settings,
    )


def epochs(critic, watching, most=9):
    """Train: the weight becomes the number of the epoch; return how many there were."""
    for done in range(1, most + 1):
        critic.weight.fill_(done)
        if done == most or not watching.goes_on(done):
            return done
    return most


def test_gap_and_use_are_written_down_after_each_epoch(tmp_path):
    critic = Critic(0.7, 0.8)
    epochs(critic, watch(critic, tmp_path), most=3 - 1)
    watch(critic, tmp_path).seen(2)
    lines = [json.loads(line) for line in (tmp_path / EPOCHS).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[0] | {"gap": 0.2, "use": 0.1} == lines[0]
    assert lines[1]["gap"] == pytest.approx(0.1)
    assert lines[0]["all_pairs"] == {"gold": 0.45, "own": 0.35, "none": 0.25, "shuffled": 0.3}
    assert lines[0]["by_kind"]["b"]["use"] == 0.1
    assert "by_language" not in lines[0]  # one language alone is the whole


def test_without_bounds_every_epoch_is_run(tmp_path):
    critic = Critic(0.5, 0.4, 0.3, 0.2)
    assert epochs(critic, watch(critic, tmp_path), most=4) == 4
    assert watch(critic, tmp_path).take_best(4) == 4
    assert critic.weight[0] == 4


def test_own_epochs_end_when_the_gap_is_small_and_never_begin_before_their_time(tmp_path):
    critic = Critic(0.89, 0.6, 0.7, 0.86, 0.9)
    assert epochs(critic, watch(critic, tmp_path, refresh_gap=0.05)) == 4


def test_no_own_epoch_is_run_where_teaching_left_no_gap(tmp_path):
    critic = Critic(0.5, 0.88, 0.9)
    assert epochs(critic, watch(critic, tmp_path, refresh_gap=0.05)) == 2


def test_patience_ends_it_and_the_best_epoch_comes_back(tmp_path):
    critic = Critic(0.6, 0.8, 0.7, 0.8, 0.9)
    watching = watch(critic, tmp_path, patience=2)
    done = epochs(critic, watching)
    assert done == 4
    assert watching.take_best(done) == 2
    assert critic.weight.tolist() == [2, 2]
    assert len(list((tmp_path / "scratch").iterdir())) == 1


def test_the_gap_is_that_of_the_pairs_that_both_sides_have_scored(tmp_path):
    critic = Critic(0.5, gold=1.0)
    table = critic.look()
    table["gap"] = {"difference": 0.0}  # people criticised the answers of one pair alone
    critic.look = lambda: table
    assert watch(critic, tmp_path).seen(1)["gap"] == 0.0
    assert not watch(critic, tmp_path, epochs=1, refresh_gap=0.05).goes_on(1)


def test_a_kill_before_the_line_leaves_an_epoch_that_can_come_back(tmp_path, monkeypatch):
    critic = Critic(0.6, 0.8, 0.7)
    watching = watch(critic, tmp_path, patience=2)
    critic.weight.fill_(1)
    watching.goes_on(1)
    critic.weight.fill_(2)
    with monkeypatch.context() as patch:
        patch.setattr("drenpa.critic.watch.append_line", killed)
        with pytest.raises(KeyboardInterrupt):
            watching.goes_on(2)
    critic.weight.fill_(9)
    assert watching.take_best(1) == 1  # the former best is still there
    critic.weight.fill_(2)
    assert watching.goes_on(2)
    critic.weight.fill_(3)
    watching.goes_on(3)
    assert watching.take_best(3) == 2
    assert critic.weight.tolist() == [2, 2]


def killed(*_):
    raise KeyboardInterrupt


def test_what_was_seen_is_not_looked_at_again(tmp_path):
    critic = Critic(0.6, 0.8, 0.7)
    assert epochs(critic, watch(critic, tmp_path, patience=1)) == 3
    looks = critic.looks
    again = watch(critic, tmp_path, patience=1)
    assert [again.goes_on(done) for done in (1, 2, 3)] == [True, True, False]
    assert critic.looks == looks == 3


def test_a_scorer_without_critiques_has_no_gap_and_is_watched_by_what_it_uses(tmp_path):
    critic = Critic(0.6)
    critic.look = lambda: {
        "none": {"accuracy": 0.4 + 0.1 * float(critic.weight[0] == 2), "all_pairs": 0.0}
    }
    watching = watch(critic, tmp_path, used="none", refresh_gap=0.1, patience=2)
    assert epochs(critic, watching) == 4
    assert watching.take_best(4) == 2
    assert watching.seen(1)["gap"] is None


def test_bounds_without_watched_questions_are_refused():
    for bound in ({"refresh_gap": 0.1}, {"patience": 1}):
        with pytest.raises(ValidationError, match="watch_share"):
            CriticConfig(**bound)
        CriticConfig(watch_share=0.2, **bound)
