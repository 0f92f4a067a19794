"""Small random bilevel problems, and their optimum by trying every pattern of complementarity."""

import itertools
from dataclasses import dataclass

import linopy
import numpy as np
import pandas as pd
import xarray as xr
from scipy.optimize import linprog

import hiermarket.bilevel as bl

SIGNS = {1: ">=", 0: "=", -1: "<="}


@dataclass(frozen=True)
class Data:
    """min or max of objective·(x, a, y) subject to a being optimal for (cost + C x)'a + ½ a'Qa in A a + B x ≷ rhs."""

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    Q: np.ndarray
    kind: np.ndarray
    rhs: np.ndarray
    cost: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    x_lower: np.ndarray
    x_upper: np.ndarray
    objective: np.ndarray
    follower: float
    leader: float


def draw(seed, quadratic):
    rng = np.random.default_rng(seed)
    n, k, r = rng.integers(1, 4), rng.integers(1, 3), rng.integers(1, 4)
    A = rng.integers(-3, 4, (r, n)).astype(float)
    A[np.arange(r), rng.integers(0, n, r)] = rng.choice([1.0, 2.0, -1.0], r)
    follower = float(rng.choice([1, -1]))
    root = rng.integers(-1, 2, (n, n)).astype(float)
    lower = np.where(rng.random(n) < 0.8, rng.integers(-2, 1, n), -np.inf).astype(float)
    upper = np.where(rng.random(n) < 0.6, rng.integers(1, 5, n), np.inf).astype(float)
    return Data(
        A=A,
        B=rng.integers(-2, 3, (r, k)) * (rng.random((r, k)) < 0.6) * 1.0,
        C=rng.integers(-2, 3, (n, k)) * (rng.random((n, k)) < 0.3) * 1.0,
        Q=follower * (root.T @ root) if quadratic else np.zeros((n, n)),
        kind=rng.choice([-1, 0, 1], r, p=[0.45, 0.15, 0.4]),
        rhs=rng.integers(-4, 8, r).astype(float),
        cost=np.where((c := rng.integers(-4, 5, n)) == 0, 1, c).astype(float),
        lower=lower,
        upper=upper,
        x_lower=np.full(k, -3.0),
        x_upper=np.where(rng.random(k) < 0.1, np.inf, 4.0),
        objective=np.concatenate([rng.integers(-3, 4, k + n), rng.integers(-1, 2, r) * (rng.random() < 0.3)]) * 1.0,
        follower=follower,
        leader=float(rng.choice([1, -1])),
    )


def mpec_of(data, *, sparse=False):
    r, n = data.A.shape
    i, j, k = (pd.RangeIndex(size, name=name) for size, name in ((r, "i"), (n, "j"), (data.B.shape[1], "k")))
    model = linopy.Model(sparse=sparse)
    x = model.add_variables(xr.DataArray(data.x_lower, [k]), xr.DataArray(data.x_upper, [k]), name="x")
    a = model.add_variables(xr.DataArray(data.lower, [j]), xr.DataArray(data.upper, [j]), name="a")
    left = (xr.DataArray(data.A, [i, j]) * a).sum("j") + (xr.DataArray(data.B, [i, k]) * x).sum("k")
    sign = xr.DataArray([SIGNS[int(kind)] for kind in data.kind], [i])
    row = model.add_constraints(left, sign, xr.DataArray(data.rhs, [i]), name="row")
    cost = (xr.DataArray(data.cost, [j]) * a).sum()
    for first, second in np.argwhere(data.C):
        cost = cost + data.C[first, second] * (one(a, first) * one(x, second))
    for first, second in np.argwhere(data.Q):
        cost = cost + 0.5 * data.Q[first, second] * (one(a, first) * one(a, second))
    sense = "min" if data.follower > 0 else "max"
    mpec = bl.kkt(model, bl.Follower(variables=[a], constraints=[row], cost=cost, sense=sense))
    weights = np.split(data.objective, [len(k), len(k) + n])
    parts = zip(weights, (mpec.variables["x"], mpec.variables["a"], mpec.dual["row"]), strict=True)
    value = sum((xr.DataArray(weight, dims=v.dims, coords=v.labels.coords) * v).sum() for weight, v in parts)
    return mpec.minimise(value) if data.leader > 0 else mpec.maximise(value)


def one(variable, position):
    return variable.isel({variable.dims[0]: int(position)}, drop=True)


def optimum(data):
    """Return ("optimal", value), ("infeasible", None) or ("unbounded", None)."""
    r, n = data.A.shape
    k, s = data.B.shape[1], data.follower
    size = k + n + r + 2 * n  # x, a, y, μ⁻, μ⁺
    stationarity = np.hstack([s * data.C, s * data.Q, -s * data.A.T, -np.eye(n), np.eye(n)])
    rows = np.hstack([data.B, data.A, np.zeros((r, r + 2 * n))])
    bounds = [*zip(data.x_lower, data.x_upper, strict=True), *zip(data.lower, data.upper, strict=True)]
    bounds += [(0, None) if s * kind > 0 else (None, 0) if s * kind < 0 else (None, None) for kind in data.kind]
    bounds += [(0, None if np.isfinite(bound) else 0) for bound in (*data.lower, *data.upper)]
    equations, right = [*stationarity, *rows[data.kind == 0]], [*(-s * data.cost), *data.rhs[data.kind == 0]]
    pairs = [(k + n + i, rows[i], data.rhs[i]) for i in np.flatnonzero(data.kind)]
    unit = np.eye(size)
    for which, finite in ((0, data.lower), (1, data.upper)):
        pairs += [(k + n + r + which * n + j, unit[k + j], finite[j]) for j in range(n) if np.isfinite(finite[j])]
    open_rows = np.flatnonzero(data.kind)
    less = [-data.kind[i] * rows[i] for i in open_rows]
    most = [-data.kind[i] * data.rhs[i] for i in open_rows]
    objective = data.leader * np.concatenate([data.objective, np.zeros(2 * n)])
    best, found = np.inf, "infeasible"
    for pattern in itertools.product((False, True), repeat=len(pairs)):
        tight = [pair for pair, chosen in zip(pairs, pattern, strict=True) if chosen]
        silent = {pair[0] for pair, chosen in zip(pairs, pattern, strict=True) if not chosen}
        answer = linprog(
            objective,
            A_ub=np.array(less) if less else None,
            b_ub=most or None,
            A_eq=np.array([*equations, *(row for _, row, _ in tight)]),
            b_eq=[*right, *(value for *_, value in tight)],
            bounds=[(0, 0) if column in silent else bound for column, bound in enumerate(bounds)],
            options={"presolve": False},
        )
        if answer.status == 3:
            return "unbounded", None
        if answer.status == 0 and answer.fun < best:
            best, found = answer.fun, "optimal"
    return found, data.leader * best if found == "optimal" else None
