"""All the mathematics of the critic, P1 to P3, tensors in and tensors out.

One step reads Q questions with up to K ranked answers each, every answer with a critique:

    log-probabilities [N, T] --critique_loss--> -sum log pi(c_t | c_<t, x, y)               P1
    scores [Q, K]            --score_loss-->    -sum over pairs log sigmoid(r_w - r_l)      P2
    both                     --critic_loss-->   each divided by its count, weighted, added  P3

Losses come as sums with counts beside them: a step adds the sums of its micro-batches and divides
by the counts of the whole step, so that a micro-batch boundary changes nothing. Rewards are not
normalised here: P4 belongs to reinforcement learning. Inside P2 it would make every pair's scores
plus and minus 1 whatever the weights, and the gradient exactly zero.

Axes: Q questions, K answers of a ranking (padded, see below), N rows, T tokens.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from drenpa.core.errors import ShapeError


def critique_loss(logprobs_NT: Tensor, critique_NT: Tensor) -> Tensor:
    """Return minus the summed log-probability of the critiques' tokens.  [P1]

    logprobs_NT: [N, T] of each token given those before it, with gradient.
    critique_NT: [N, T] true on tokens of true critiques, their end token included; what the others
                 hold is of no account.
    returns:     scalar in nats; divide by the critique tokens of the whole step.
    raises:      ShapeError unless both are [N, T].
    """
    if logprobs_NT.ndim != 2 or logprobs_NT.shape != critique_NT.shape:
        raise ShapeError(
            f"logprobs_NT {tuple(logprobs_NT.shape)} and critique_NT {tuple(critique_NT.shape)} "
            "must both be [rows, tokens]"
        )
    return -logprobs_NT.masked_fill(~critique_NT, 0.0).sum()


def score_loss(scores_QK: Tensor, ranks_QK: Tensor, *, margin: float = 0.0) -> Tensor:
    """Return the logistic loss of every pair of answers, the better one first.  [P2]

    All K(K-1)/2 pairs of a ranking come from its K scores; answers of equal rank form none.

    scores_QK: [Q, K] with gradient.
    ranks_QK:  [Q, K] whole numbers, 1 is best; 0 pads a shorter ranking and forms no pair.
    margin:    by how much the better answer should lead for each rank between the two; 0 is P2.
    returns:   scalar, the sum over all pairs; divide by `pairs_in` of the whole step.
    raises:    ShapeError unless both are [Q, K].
    """
    better_QKK = _better(ranks_QK, scores_QK)
    gap_QKK = scores_QK.unsqueeze(2) - scores_QK.unsqueeze(1)
    if margin:
        apart_QKK = ranks_QK.unsqueeze(1) - ranks_QK.unsqueeze(2)
        gap_QKK = gap_QKK - margin * apart_QKK.to(gap_QKK.dtype)
    # Filled before the sigmoid: a padded score may be anything, also not a number.
    gap_QKK = gap_QKK.masked_fill(~better_QKK, 0.0)
    return -functional.logsigmoid(gap_QKK).masked_fill(~better_QKK, 0.0).sum()


def pairs_in(ranks_QK: Tensor) -> int:
    """Count the pairs of unequal rank, over all rankings.

    >>> pairs_in(Tensor([[1, 2, 3], [1, 1, 2], [2, 1, 0]]))
    6
    """
    return int(_better(ranks_QK, ranks_QK).sum())


def pairs_right(scores_QK: Tensor, ranks_QK: Tensor) -> Tensor:
    """Return how many pairs the scores put in the right order, a pair of equal scores as one half.

    Scalar, detached; divide by `pairs_in`.
    """
    gap_QKK = (scores_QK.unsqueeze(2) - scores_QK.unsqueeze(1)).detach()
    return ((gap_QKK.sign() + 1) / 2).masked_fill(~_better(ranks_QK, scores_QK), 0.0).sum()


def critic_loss(
    critique: Tensor,
    score: Tensor,
    *,
    tokens: int,
    pairs: int,
    critique_weight: float = 1.0,
    score_weight: float = 1.0,
) -> Tensor:
    """Add a micro-batch's part of the mean critique loss and of the mean score loss.  [P3]

    critique, score: sums from `critique_loss` and `score_loss`.
    tokens, pairs:   counts of the whole step; a step that has none of a sort has no such loss.
    returns:         scalar; over the micro-batches of a step these add up to the step's loss.
    """
    return critique_weight * critique / max(tokens, 1) + score_weight * score / max(pairs, 1)


def _better(ranks_QK: Tensor, like_QK: Tensor) -> Tensor:
    """Return [Q, K, K] true at (q, i, j) where answer i stands above answer j."""
    if ranks_QK.ndim != 2 or ranks_QK.shape != like_QK.shape:
        raise ShapeError(
            f"scores_QK {tuple(like_QK.shape)} and ranks_QK {tuple(ranks_QK.shape)} must both be "
            "[questions, answers]"
        )
    better_QKK = ranks_QK.unsqueeze(2) < ranks_QK.unsqueeze(1)
    return better_QKK & (ranks_QK > 0).unsqueeze(2)
