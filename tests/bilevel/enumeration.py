"""The optimum of a `Case` by trying every pattern of complementarity; shares no code with the package.

Each follower min s·f(x, y) (s = 1 for min, −1 for max) in rows g_i(x, y) ≥, ≤, = 0 and bounds
l ≤ y ≤ u is replaced by its KKT conditions, with d_i = ∂(optimal f)/∂(right-hand side of i)::

    s ∂f/∂y_j − s Σ_i d_i ∂g_i/∂y_j − μ⁻_j + μ⁺_j − ρ_j = 0
    rows ≥:  0 ≤  g_i ⟂  s d_i ≥ 0        0 ≤ y_j − l_j ⟂ μ⁻_j ≥ 0
    rows ≤:  0 ≤ −g_i ⟂ −s d_i ≥ 0        0 ≤ u_j − y_j ⟂ μ⁺_j ≥ 0
    rows =:  g_i = 0, d_i free            l_j = u_j: y_j = l_j, ρ_j free

They are necessary and sufficient, as f is convex and the rows are linear. In each pattern one
side of every pair is zero, so that the leader's problem is an LP or a QP over a polyhedron; a
pattern is left as soon as its first pairs alone have no point. Integer leaders: every value.

A QP that is convex on the polyhedron's equations is solved by an active-set method that ends
only where the optimality conditions hold. Otherwise its least value lies where one more row
is tight: every such face is tried. An expression is a dict {(): constant, (name,): coefficient,
(name, name): coefficient}.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import null_space
from scipy.optimize import linprog

NAME = r"[A-Za-z_][\w:]*"
TERM = re.compile(rf"([+-]?)\s*(\d+(?:\.\d+)?(?:e[+-]?\d+)?)?\s*({NAME}(?:\*{NAME})*)?")
TOLERANCE = 1e-9
EXACT = 1e-12
Expression = dict[tuple[str, ...], float]


def read(text: str) -> Expression:
    terms: Expression = {}
    for sign, number, names in TERM.findall(text):
        if number or names:
            key = tuple(names.split("*")) if names else ()
            terms[key] = terms.get(key, 0.0) + (-1.0 if sign == "-" else 1.0) * float(number or 1.0)
    return terms


def total(*parts: tuple[float, Expression]) -> Expression:
    result: Expression = {}
    for factor, terms in parts:
        for key, value in terms.items():
            result[key] = result.get(key, 0.0) + factor * value
    return result


def derivative(terms: Expression, name: str) -> Expression:
    result: Expression = {}
    for key, value in terms.items():
        if name in key:
            rest = list(key)
            rest.remove(name)
            result[tuple(rest)] = result.get(tuple(rest), 0.0) + key.count(name) * value
    return result


def read_row(text: str) -> tuple[str, Expression, str]:
    """Return name, g and sign of g ≥, ≤ or = 0."""
    name, rest = text.split(": ")
    left, sign, right = re.split(r"\s*(<=|>=|==)\s*", rest)
    return name, total((1.0, read(left)), (-1.0, read(right))), sign


def read_variable(text: str) -> tuple[str, float, float, bool]:
    text, *kind = re.split(r" (integer|binary)$", text)[:2]
    if kind == ["binary"]:
        return text, 0.0, 1.0, True
    parts = text.split(" <= ")
    lower, name, upper = parts if len(parts) == 3 else ("-inf", parts[0], "inf")
    return name, float(lower), float(upper), bool(kind)


@dataclass(frozen=True)
class Conditions:
    """Everything that leader and followers must satisfy."""

    equations: list[Expression]  # = 0
    nonnegative: list[Expression]  # ≥ 0
    pairs: list[tuple[Expression, Expression]]  # one of the two = 0
    integers: list[tuple[str, range]]
    objective: Expression  # minimised


def conditions(case) -> Conditions:
    found = Conditions([], [], [], [], {})
    coefficient: dict[tuple[str, str], float] = {}
    for text in case.leader_variables:
        name, lower, upper, integer = read_variable(text)
        found.nonnegative.extend(slack for slack, _ in of_bounds(name, lower, upper))
        if integer:
            found.integers.append((name, range(int(np.ceil(lower)), int(np.floor(upper)) + 1)))
    for text in case.leader_rows:
        _, row, sign = read_row(text)
        (found.equations if sign == "==" else found.nonnegative).append(row if sign != "<=" else total((-1.0, row)))
    for player in case.followers:
        add_follower(found, player, coefficient)
    sense, text = case.leader.split(" ", 1)
    objective: Expression = {}
    for key, value in read(text).items():
        if key and key[0].startswith("value:"):
            row = key[0].removeprefix("value:")
            products = {(f"dual:{row}", name): coefficient[row, name] for name in key[1:]}
            objective = total((1.0, objective), (value, products))
        else:
            objective = total((1.0, objective), (value, {key: 1.0}))
    return replace(found, objective=total((1.0 if sense == "min" else -1.0, objective)))


def of_bounds(name: str, lower: float, upper: float) -> list[tuple[Expression, str]]:
    sides = [({(name,): 1.0, (): -lower}, "lower"), ({(name,): -1.0, (): upper}, "upper")]
    return [(slack, side) for slack, side in sides if np.isfinite(slack[()])]


def add_follower(found: Conditions, player, coefficient: dict[tuple[str, str], float]) -> None:
    sense, text = player.objective.split(" ", 1)
    s, cost = (1.0 if sense == "min" else -1.0), read(text)
    rows = [read_row(row) for row in player.rows]
    for text in player.variables:
        variable, lower, upper, _ = read_variable(text)
        stationarity = total((s, derivative(cost, variable)))
        for name, row, _ in rows:
            coefficient[name, variable] = row.get((variable,), 0.0)
            stationarity = total((1.0, stationarity), (-s * coefficient[name, variable], {(f"dual:{name}",): 1.0}))
        if lower == upper:
            found.equations.append({(variable,): 1.0, (): -lower})
            stationarity = total((1.0, stationarity), (-1.0, {(f"fixed:{variable}",): 1.0}))
        else:
            for slack, side in of_bounds(variable, lower, upper):
                multiplier = {(f"{side}:{variable}",): 1.0}
                found.pairs.append((slack, multiplier))
                stationarity = total((1.0, stationarity), (-1.0 if side == "lower" else 1.0, multiplier))
        found.equations.append(stationarity)
    for name, row, sign in rows:
        if sign == "==":
            found.equations.append(row)
        else:
            way = 1.0 if sign == ">=" else -1.0
            found.pairs.append((total((way, row)), {(f"dual:{name}",): way * s}))


@dataclass(frozen=True)
class Program:
    """min constant + cost·x + ½ x'Hx subject to equations·(x, 1) = 0 and nonnegative·(x, 1) ≥ 0."""

    cost: np.ndarray
    hessian: np.ndarray
    constant: float
    equations: np.ndarray
    nonnegative: np.ndarray

    def also(self, row: np.ndarray) -> Program:
        return replace(self, equations=np.vstack([self.equations, row]))

    def lp(self, cost: np.ndarray):
        answer = linprog(
            cost,
            A_ub=-self.nonnegative[:, :-1],
            b_ub=self.nonnegative[:, -1],
            A_eq=self.equations[:, :-1],
            b_eq=-self.equations[:, -1],
            bounds=(None, None),
            options={"presolve": False, "primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9},
        )
        assert answer.status in (0, 2, 3), answer.message
        return answer

    @property
    def point(self) -> np.ndarray | None:
        return self.lp(np.zeros(len(self.cost))).x

    def value(self, x: np.ndarray) -> float:
        return float(self.constant + self.cost @ x + 0.5 * x @ self.hessian @ x)


def patterns(program: Program, pairs: list[tuple[np.ndarray, np.ndarray]], near: np.ndarray | None = None):
    """Yield the program of every pattern that has a point; `near` is a point, if one is known already."""
    point = program.point if near is None else near
    if point is None:
        return
    if not pairs:
        yield program
        return
    for side in pairs[0]:
        holds = abs(side[:-1] @ point + side[-1]) <= EXACT
        yield from patterns(program.also(side), pairs[1:], point if holds else None)


def least(program: Program, start: int = 0) -> tuple[float, np.ndarray | None]:
    """Return the least value of a feasible program and a point where it is attained; −inf without one."""
    basis = null_space(program.equations[:, :-1])
    reduced, small = basis.T @ program.hessian @ basis, TOLERANCE * np.abs(program.hessian).max()
    if np.abs(reduced).max(initial=0.0) <= small:  # linear on the equations
        gradient = program.cost + program.hessian @ program.point
        answer = program.lp(gradient)
        return (-np.inf, None) if answer.status == 3 else (program.value(answer.x), answer.x)
    if np.linalg.eigvalsh(reduced)[0] >= -small:
        return least_convex(program, basis, small)
    require_bounded(program)
    best = (np.inf, None)
    for number in range(start, len(program.nonnegative)):
        face = program.also(program.nonnegative[number])
        if face.point is not None:
            best = min(best, least(face, number + 1), key=lambda found: found[0])
    return best


def require_bounded(program: Program) -> None:
    """Without this a product could fall without end inside the polyhedron, away from all its faces."""
    for column in np.flatnonzero(program.hessian.any(axis=0)):
        for sign in (1.0, -1.0):
            assert program.lp(sign * np.eye(len(program.cost))[column]).status == 0, "a factor is unbounded"


def least_convex(program: Program, basis: np.ndarray, small: float) -> tuple[float, np.ndarray | None]:
    """Active-set method from a feasible point, in the coordinates x = point + basis·t."""
    origin = program.point
    rows = program.nonnegative[:, :-1] @ basis
    room = np.maximum(program.nonnegative[:, :-1] @ origin + program.nonnegative[:, -1], 0.0)
    H, c = basis.T @ program.hessian @ basis, basis.T @ (program.cost + program.hessian @ origin)
    t, tight = np.zeros(basis.shape[1]), []
    for _ in range(1000):
        gradient = H @ t + c
        free = null_space(rows[tight]) if tight else np.eye(len(t))
        slope, bend = free.T @ gradient, free.T @ H @ free
        if np.abs(slope).max(initial=0.0) <= TOLERANCE * (1.0 + np.abs(c).max(initial=0.0)):
            multipliers = np.linalg.lstsq(rows[tight].T, gradient, rcond=None)[0]
            wrong = [row for row, value in zip(tight, multipliers, strict=True) if value < -TOLERANCE]
            if not wrong:
                x = origin + basis @ t
                return program.value(x), x
            tight.remove(min(wrong))
            continue
        curvature, axes = np.linalg.eigh(bend)
        curved = curvature > small
        newton = -axes[:, curved] @ ((axes[:, curved].T @ slope) / curvature[curved])
        flat = slope + bend @ newton  # what no step along curved directions removes
        endless = bool(np.abs(flat).max() > TOLERANCE * (1.0 + np.abs(c).max()))
        step = free @ (-flat if endless else newton)
        change = rows @ step
        blocking = [i for i in np.flatnonzero(change < -TOLERANCE * np.abs(step).max()) if i not in tight]
        lengths = [max(room[i] + rows[i] @ t, 0.0) / -change[i] for i in blocking]
        length = min([*lengths, np.inf if endless else 1.0])
        if not np.isfinite(length):
            return -np.inf, None
        if lengths and length == min(lengths):
            tight.append(int(blocking[int(np.argmin(lengths))]))
        t = t + length * step
    raise AssertionError("the active-set method did not end")


def enumerate_optimum(case) -> tuple[float | None, dict[str, float]]:
    """Return the optimum (None: infeasible, ±inf: unbounded) and a point where it is attained."""
    found = conditions(case)
    every = [*found.equations, *found.nonnegative, *itertools.chain(*found.pairs), found.objective]
    names = sorted({name for terms in every for key in terms for name in key} | {name for name, _ in found.integers})
    place = {name: position for position, name in enumerate(names)}

    def vector(terms: Expression) -> np.ndarray:
        row = np.zeros(len(names) + 1)
        for key, value in terms.items():
            row[place[key[0]] if key else -1] += value
        return row

    def matrix(several: list[Expression]) -> np.ndarray:
        return np.array([vector(terms) for terms in several]).reshape(-1, len(names) + 1)

    linear = vector({key: value for key, value in found.objective.items() if len(key) < 2})
    hessian = np.zeros((len(names), len(names)))
    for (first, second), value in ((key, v) for key, v in found.objective.items() if len(key) == 2):
        hessian[place[first], place[second]] += value
        hessian[place[second], place[first]] += value
    sides = [*found.nonnegative, *itertools.chain(*found.pairs)]
    program = Program(linear[:-1], hessian, linear[-1], matrix(found.equations), matrix(sides))
    pairs = [(vector(slack), vector(multiplier)) for slack, multiplier in found.pairs]
    best, at = np.inf, None
    for values in itertools.product(*(values for _, values in found.integers)):
        chosen = program
        for (name, _), value in zip(found.integers, values, strict=True):
            chosen = chosen.also(vector({(name,): 1.0, (): -float(value)}))
        for pattern in patterns(chosen, pairs):
            value, x = least(pattern)
            if value < best:
                best, at = value, x
    if best == np.inf:
        return None, {}
    sign = 1.0 if case.leader.startswith("min") else -1.0
    return sign * best, {} if at is None else dict(zip(names, at, strict=True))
