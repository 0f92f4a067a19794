"""Bilevel problems on any linopy model: KKT conditions, reformulations, certificates.

The leader decides, the follower answers with an optimal solution of its own problem.
Both live in one linopy model; a `Follower` names which variables and rows are its own::

    follower = Follower(variables=[p], constraints=[balance], cost=...)
    mpec     = kkt(model, follower)                # a copy, with labelled duals
    solution = solve(mpec.maximise(...))           # labelled values and a certificate

Importing this package loads neither a solver nor linopy.
"""

from hiermarket.bilevel.auto import Auto
from hiermarket.bilevel.big_m import BigM
from hiermarket.bilevel.branching import Branching
from hiermarket.bilevel.certificate import Certificate
from hiermarket.bilevel.describe import describe
from hiermarket.bilevel.dual_times_primal import dual_times_primal
from hiermarket.bilevel.follower import Follower
from hiermarket.bilevel.kkt import kkt
from hiermarket.bilevel.labelled_model import reformulated
from hiermarket.bilevel.mixed import Mixed
from hiermarket.bilevel.mpec import Mpec
from hiermarket.bilevel.solve import Solution, solve
from hiermarket.bilevel.sos1 import SOS1, Indicator
from hiermarket.bilevel.strong_duality import StrongDuality
from hiermarket.bilevel.words import in_words

__all__ = [
    "SOS1",
    "Auto",
    "BigM",
    "Branching",
    "Certificate",
    "Follower",
    "Indicator",
    "Mixed",
    "Mpec",
    "Solution",
    "StrongDuality",
    "describe",
    "dual_times_primal",
    "in_words",
    "kkt",
    "reformulated",
    "solve",
]
