"""From a solver's point to an exact one, and a second proof of its objective.

A solver's integers and sets hold up to a tolerance. The decisions that a point shows are
fixed through bounds and solved once more as an LP or QP: complementarity is then exact, and
an objective that lived on the tolerance shows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hiermarket.bilevel.node import Nodes
from hiermarket.bilevel.reformulation import PartAnswer, differ, nothing
from hiermarket.bilevel.sides import decided
from hiermarket.solving.solver import Outcome

if TYPE_CHECKING:
    from hiermarket.bilevel.branching import Branching
    from hiermarket.bilevel.problem import Part
    from hiermarket.solving.program import Ints
    from hiermarket.solving.solver import Answer, SolverOptions


def polished(part: Part, options: SolverOptions, answer: Answer, sides: Ints, method: str) -> PartAnswer:
    """Solve a point's decisions exactly.

    Parameters
    ----------
    part : Part
        The part.
    options : SolverOptions
        Tolerances and limits.
    answer : Answer
        A solver's answer; its first columns are the part's.
    sides : int array
        What was decided before the solve.
    method : str
        What to call the way it went.

    Returns
    -------
    PartAnswer
        The exact point; outcome `TROUBLE` if its objective is not what the solver said,
        `UNBOUNDED` if its decisions leave the objective without an end, and the solver's
        outcome if it has no optimum, with its incumbent and bound where a limit was reached.
    """
    if not answer.has_point:
        return nothing(part, answer.outcome, answer.status, method)
    nodes = Nodes(part, options)
    leaf = nodes.solve(nodes.fixed(decided(part, answer.x, sides), answer.x)).answer
    sign = part.sense
    if leaf.outcome is Outcome.UNBOUNDED:
        return nothing(part, Outcome.UNBOUNDED, leaf.status, method)
    if not leaf.optimal or differ(answer.objective, sign * leaf.objective):
        status = f"{method} says {answer.objective:.9g}, its own decisions give {sign * leaf.objective:.9g}"
        return nothing(part, Outcome.TROUBLE, status, method)
    found = PartAnswer(answer.outcome, answer.status, leaf.x, sign * leaf.objective, method)
    return found if answer.optimal else replace(found, bound=answer.bound)


def second_proof(part: Part, options: SolverOptions, found: PartAnswer, proof: Branching | None) -> PartAnswer:
    """Prove an optimum once more by branching on pairs, or say that it is none.

    Returns
    -------
    PartAnswer
        The same point with `crosscheck` (None where the proof's limit came first), or
        outcome `TROUBLE` if branching finds something better, `UNBOUNDED` if it finds no end.
    """
    if proof is None or found.outcome is not Outcome.OPTIMAL:
        return found
    second = proof.prove(part, options, found)
    if second.outcome is Outcome.LIMIT and not differ(found.objective, second.objective):
        return replace(found, nodes=second.nodes)
    if second.outcome is Outcome.UNBOUNDED:
        return nothing(part, Outcome.UNBOUNDED, second.status, found.method)
    difference = abs(second.objective - found.objective)
    proved = replace(found, crosscheck=difference, nodes=second.nodes, bound=second.bound)
    if second.outcome is Outcome.OPTIMAL and not differ(found.objective, second.objective):
        return proved
    status = f"the optimum is {found.objective:.9g} by {found.method}, a second proof says {second.objective:.9g}"
    return replace(proved, outcome=Outcome.TROUBLE, status=status)
