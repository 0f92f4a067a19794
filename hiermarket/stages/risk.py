"""Measures of risk over scenarios: expectation, and the mean of the worst, CVaR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.errors import Fault
from hiermarket.schema import raise_together

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True)
class Expectation:
    """The expected cost alone counts."""


@dataclass(frozen=True, slots=True)
class CVaR:
    """Beside the expected cost, the mean cost of the worst scenarios counts.

    Parameters
    ----------
    alpha : float
        Level in [0, 1): the worst 1 − α of the probability is looked at; 0 is the mean.
    weight : float
        ≥ 0: what the CVaR counts beside the expected cost.

    Raises
    ------
    DataError
        When one of them lies outside.
    """

    alpha: float = 0.95
    weight: float = 1.0

    def __post_init__(self) -> None:
        faults = []
        if not 0.0 <= self.alpha < 1.0:
            remedy = "The worst scenario alone is the limit for alpha towards 1."
            faults.append(Fault("CVaR.alpha", str(self.alpha), "a number from 0 to below 1", remedy))
        if not 0.0 <= self.weight < np.inf:
            faults.append(Fault("CVaR.weight", str(self.weight), "a number, 0 or more", "Correct it."))
        raise_together(faults)


Risk = Expectation | CVaR


def cvar(values: ArrayLike, probability: ArrayLike, alpha: float) -> float:
    """Return the mean of the worst 1 − α of a discrete distribution; larger values are worse.

    Parameters
    ----------
    values, probability : arrays (scenario,)
        Values and their probabilities (sum 1).
    alpha : float
        Level in [0, 1).

    Returns
    -------
    float
        In the unit of the values; NaN where one is NaN.

    Notes
    -----
    Equation (47) of docs/model.md. The value at which the tail begins counts with the part of
    its probability that the tail needs.

    References
    ----------
    R. T. Rockafellar, S. Uryasev, "Conditional value-at-risk for general loss distributions",
    Journal of Banking & Finance 26(7), 2002, doi 10.1016/S0378-4266(02)00271-6.

    Examples
    --------
    The worst 30 %: all of the 20 % at 10, and half of the 20 % at 4.

    >>> round(cvar([1.0, 4.0, 10.0], [0.6, 0.2, 0.2], alpha=0.7), 9)
    8.0
    """
    level = CVaR(alpha).alpha
    value, weight = np.asarray(values, dtype=float), np.asarray(probability, dtype=float)
    if np.isnan(value).any():
        return float("nan")
    tail = 1.0 - level
    order = np.argsort(-value, kind="stable")
    before = np.cumsum(weight[order]) - weight[order]
    # (47)  CVaR_α = 1/(1−α) Σ_s min(p_s, what the tail still lacks) c_s     worst first       [EUR]
    taken = np.clip(tail - before, 0.0, weight[order])
    return float(taken @ value[order] / taken.sum())
