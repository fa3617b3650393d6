"""What is most likely true where raters disagree, and how often each of them errs.

The majority counts everybody alike; here each rater has a table of errors of their own, estimated
together with the truth by expectation-maximisation. With few ratings of a rater the table is a
guess: the result is for looking into disagreement, and no record's kind is decided by it.

Source: Dawid & Skene, Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm,
        Journal of the Royal Statistical Society C 28 (1979), 20-28; equations 2.3-2.5 and 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drenpa.core.errors import ShapeError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """The estimate.

    classes_NQ: [records, classes] how likely each record is of each class; rows sum to one.
    share_Q:    [classes] how common each class is.
    errors_RQQ: [raters, true class, given class] how often a rater gives a class to records of
                another; a row of NaN where the rater saw no record of that class.
    likelihood: the log-likelihood, after each round.
    """

    classes_NQ: Floats
    share_Q: Floats
    errors_RQQ: Floats
    likelihood: tuple[float, ...]

    def accuracies(self) -> Floats:
        """Return how often each rater is right, over records as common as these.  [raters]"""
        right_RQ = np.einsum("rqq->rq", self.errors_RQQ)
        weight_RQ = np.where(np.isnan(right_RQ), 0.0, self.share_Q)
        return np.asarray((weight_RQ * np.nan_to_num(right_RQ)).sum(axis=1) / weight_RQ.sum(axis=1))


def dawid_skene(counts_NRQ: ArrayLike, *, rounds: int = 1000, tolerance: float = 1e-9) -> Truth:
    """Estimate the true classes and each rater's errors, starting from the share of votes.

    counts_NRQ: [records, raters, classes] how often each rater gave each record each class;
                a rater who did not see a record has zeros there.
    tolerance:  the rounds end when the log-likelihood of a record grows by less.
    raises:     ShapeError unless every record has a rating and every rater gave one.
    """
    counts_NRQ = np.asarray(counts_NRQ, dtype=np.float64)
    if counts_NRQ.ndim != 3:
        raise ShapeError(f"counts must be [records, raters, classes], got {counts_NRQ.shape}")
    votes_NQ = counts_NRQ.sum(axis=1)
    if not votes_NQ.sum(axis=1).all() or not counts_NRQ.sum(axis=(0, 2)).all():
        raise ShapeError("every record needs a rating, and every rater must have given one")
    classes_NQ = votes_NQ / votes_NQ.sum(axis=1, keepdims=True)
    likelihood: list[float] = []
    while len(likelihood) < rounds:
        share_Q = classes_NQ.mean(axis=0)
        given_RQQ = np.einsum("nq,nrp->rqp", classes_NQ, counts_NRQ)
        seen_RQ1 = given_RQQ.sum(axis=2, keepdims=True)
        errors_RQQ = np.divide(given_RQQ, seen_RQ1, where=seen_RQ1 > 0, out=0 * given_RQQ)
        tiny = np.finfo(float).tiny  # what was never given stays out of reach, without log of zero
        joint_NQ = np.log(np.maximum(share_Q, tiny)) + np.einsum(
            "nrp,rqp->nq", counts_NRQ, np.log(np.maximum(errors_RQQ, tiny))
        )
        top_N1 = joint_NQ.max(axis=1, keepdims=True)
        classes_NQ = np.exp(joint_NQ - top_N1)
        total_N1 = classes_NQ.sum(axis=1, keepdims=True)
        classes_NQ = classes_NQ / total_N1
        likelihood.append(float((np.log(total_N1) + top_N1).sum()))
        if len(likelihood) > 1:
            gain = (likelihood[-1] - likelihood[-2]) / len(classes_NQ)
            if gain < tolerance:
                break
    errors_RQQ = np.where(seen_RQ1 > 0, errors_RQQ, np.nan)
    return Truth(classes_NQ, share_Q, errors_RQQ, tuple(likelihood))
