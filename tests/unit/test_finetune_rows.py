"""Rows to learn share their beginning, and only what the assistant says is learned."""

from __future__ import annotations

import torch
from tests.tiny_models import tiny_model

from drenpa.engine.logprobs import next_token_logprobs
from drenpa.engine.prefix import PrefixGroup, suffix_states
from drenpa.finetune.train import Sample, said_logprobs

ROWS = [
    Sample("instruction", (5, 6, 7, 8, 9), (10, 11, 2)),
    Sample("critique", (5, 20, 21, 22), (23, 2)),
    Sample("instruction", (5, 6, 7, 30), (31, 32, 33, 2)),
    Sample("critique", (5, 20, 21, 24, 25), (26, 27, 2)),
]


def alone(model: torch.nn.Module, row: Sample) -> torch.Tensor:
    group = PrefixGroup(row.given[:-1], ((row.given[-1], *row.said),))
    return next_token_logprobs(model, suffix_states(model, [group], attention="plain")).logprobs_NT


def test_rows_that_share_an_instruction_are_learned_as_if_each_stood_alone():
    model = tiny_model()
    together = said_logprobs(model, ROWS, attention="shared")
    by_kind = [ROWS[0], ROWS[2], ROWS[1], ROWS[3]]
    assert together.mask_NT.sum(dim=1).tolist() == [len(row.said) for row in by_kind]
    for row, logprobs_T, mask_T in zip(
        by_kind, together.logprobs_NT, together.mask_NT, strict=True
    ):
        torch.testing.assert_close(logprobs_T[mask_T], alone(model, row)[0], atol=1e-5, rtol=1e-5)


def test_a_step_cut_into_micro_batches_has_the_same_gradient():
    whole, cut = tiny_model(), tiny_model()
    said_logprobs(whole, ROWS, attention="shared").logprobs_NT.sum().backward()
    for part in (ROWS[:1], ROWS[1:]):
        said_logprobs(cut, part, attention="shared").logprobs_NT.sum().backward()
    for left, right in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(left.grad, right.grad, atol=1e-4, rtol=1e-4)
