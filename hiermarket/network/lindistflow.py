"""The rows (1)–(5) and (7) of docs/model.md on a linopy model, for many radial feeders at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BUS, FEEDER, PERIOD
from hiermarket.network.rating_polygon import rating_polygon
from hiermarket.schema import bare

if TYPE_CHECKING:
    import linopy
    import pandas as pd

    from hiermarket.network.feeders import Feeders
    from hiermarket.network.losses import LossTerms
    from hiermarket.network.rating_polygon import RatingPolygon


@dataclass(frozen=True, slots=True)
class Injections:
    """What enters the grid's balances besides flows.

    Parameters
    ----------
    active, reactive : linopy expression (bus, period)
        Decided injections Σ σ a + s⁺ − s⁻ [MW] and Σ σ τ a + z⁺ − z⁻ [Mvar].
    at_interface : linopy expression (bus, period)
        g_up − g_down [MW], at the root buses only.
    active_demand, reactive_demand : DataArray (bus, period)
        I − P0 [MW] and −Q0 [Mvar].
    scheduled_import : DataArray (feeder, period)
        P^sched, the interface flow of the scheduled state [MW].
    """

    active: linopy.LinearExpression
    reactive: linopy.LinearExpression
    at_interface: linopy.LinearExpression
    active_demand: xr.DataArray
    reactive_demand: xr.DataArray
    scheduled_import: xr.DataArray


def at_parents(state: linopy.Variable, feeders: Feeders) -> linopy.LinearExpression:
    """Look a variable over buses up at the parent of every branch."""
    branches = feeders.branches
    above = xr.DataArray(feeders.parents.to_numpy(), dims="child", coords={"child": branches.rename("child")})
    return (1 * state).sel({BUS: above}).drop_vars(BUS).rename(child=BUS)


def loss_coefficients(feeders: Feeders, *, sides: int) -> dict[str, xr.DataArray]:
    """Return what multiplies the squared current l_n of a branch in every row that holds it.

    Parameters
    ----------
    feeders : Feeders
        The grids.
    sides : int
        Sides of the rating polygon.

    Returns
    -------
    dict
        Name of the rows (`add_rows`) → coefficients (bus), and (bus, side) for the ratings;
        each row holds the current of its own branch.
    """
    branches = feeders.branches
    r, x = (bare(feeders.data[name]).sel({BUS: branches}) for name in ("r", "x"))
    found = {"Bus-nodal_balance": -r, "Bus-reactive_balance": -x, "Line-v_drop": -(r**2 + x**2)}
    rated = _rated(feeders)
    if len(rated):
        cos, sin = _sides(rating_polygon(sides))
        # P − r l and Q − x l leave the branch: where that end carries more, it is the one that counts
        found["Line-s_max"] = (-(cos * r + sin * x).sel({BUS: rated})).clip(min=0.0)
    return found


def _rated(feeders: Feeders) -> pd.Index:
    branches = feeders.branches
    rated: pd.Index = branches[np.isfinite(bare(feeders.data.s_max).sel({BUS: branches}).values)]
    return rated


def _sides(polygon: RatingPolygon) -> tuple[xr.DataArray, xr.DataArray]:
    """Return α_j and β_j with labels."""
    number = {"side": np.arange(len(polygon.cos))}
    return xr.DataArray(polygon.cos, coords=number, dims="side"), xr.DataArray(polygon.sin, coords=number, dims="side")


def add_state(model: linopy.Model, feeders: Feeders) -> None:
    """Add the state of the grid: ``Bus-v_sq``, ``Line-p`` and ``Line-q``, with the voltage limits (5)."""
    data = feeders.data
    buses, branches, periods = data.indexes[BUS], feeders.branches, data.indexes[PERIOD]
    is_root = ~data[BUS].isin(branches)
    v_root = data.v_root.sel({FEEDER: xr.DataArray(feeders.feeder_of.values, dims=BUS, coords={BUS: buses})})
    v_root = bare(v_root)
    # (5)  v̲² ≤ w_n ≤ v̄²  ∀ n ≠ root;  w_root = v_root²                                  ∀ t   [p.u.²]
    lower = (v_root**2).where(is_root, bare(data.v_min) ** 2).transpose(BUS, PERIOD)
    upper = (v_root**2).where(is_root, bare(data.v_max) ** 2).transpose(BUS, PERIOD)
    model.add_variables(lower=bare(lower), upper=bare(upper), name="Bus-v_sq")
    model.add_variables(coords=[branches, periods], name="Line-p")
    model.add_variables(coords=[branches, periods], name="Line-q")


def add_rows(model: linopy.Model, feeders: Feeders, losses: LossTerms, injections: Injections, *, sides: int) -> None:
    """Add the rows (1)–(4) and (7) of docs/model.md.

    Parameters
    ----------
    model : linopy.Model
        With the state of `add_state`.
    feeders : Feeders
        The grids.
    losses : LossTerms
        Linearised squared currents.
    injections : Injections
        Everything else in the balances.
    sides : int
        Sides of the polygon in the MVA circle.
    """
    data, branches = feeders.data, feeders.branches
    buses = data.indexes[BUS]
    w, P, Q = (1 * model.variables[name] for name in ("Bus-v_sq", "Line-p", "Line-q"))
    r, x, tap, g, b = (bare(data[name]).sel({BUS: branches}) for name in ("r", "x", "tap", "g", "b"))
    w_parent = at_parents(model.variables["Bus-v_sq"], feeders)
    w_here = w.sel({BUS: branches})
    current = losses.by_p * P + losses.by_q * Q + losses.by_w * w_parent
    children_P, children_Q = (
        flow.groupby(feeders.parents).sum().rename(parent=BUS).reindex({BUS: buses}).fillna(0) for flow in (P, Q)
    )
    active, reactive = injections.active.sel({BUS: branches}), injections.reactive.sel({BUS: branches})
    demand = bare(injections.active_demand).sel({BUS: branches}) + r * losses.constant
    q_demand = bare(injections.reactive_demand).sel({BUS: branches}) + x * losses.constant
    impedance = r**2 + x**2

    # (1)  P_n − r_n l_n − Σ_k P_k − g_n w_n + Σ σ a + s⁺ − s⁻ = I_n − P0_n                 ∀ n ≠ root, t   [MW]
    balance = P - r * current - children_P.sel({BUS: branches}) - g * w_here + active == demand
    model.add_constraints(balance, name="Bus-nodal_balance")

    # (2)  Q_n − x_n l_n − Σ_k Q_k + b_n w_n + Σ σ τ a + z⁺ − z⁻ = −Q0_n                    ∀ n ≠ root, t   [Mvar]
    balance = Q - x * current - children_Q.sel({BUS: branches}) + b * w_here + reactive == q_demand
    model.add_constraints(balance, name="Bus-reactive_balance")

    # (3)  w_n − w_m/t_n² + 2 (r_n P_n + x_n Q_n) − (r_n² + x_n²) l_n = 0                    ∀ n ≠ root, t   [p.u.²]
    drop = w_here - 1 / tap**2 * w_parent + 2 * (r * P + x * Q) - impedance * current
    model.add_constraints(drop == impedance * losses.constant, name="Line-v_drop")

    rated = _rated(feeders)
    if len(rated):
        at = {BUS: rated}
        polygon = rating_polygon(sides)
        cos, sin = _sides(polygon)
        flow = cos * P.sel(at) + sin * Q.sel(at)
        limit = bare(data.s_max).sel(at) * polygon.reach
        if any(bool(term.any()) for term in (losses.constant, losses.by_p, losses.by_q, losses.by_w)):
            far = loss_coefficients(feeders, sides=sides)["Line-s_max"]
            flow = flow + far * current.sel(at)
            limit = limit - far * losses.constant.sel(at)

        # (4)  α_j P_n + β_j Q_n + max(−α_j r_n − β_j x_n, 0) l_n ≤ S_n cos(π/J),  j = 1..J     ∀ rated n, t   [MVA]
        model.add_constraints(flow <= limit, name="Line-s_max")

    # (7)  g_up − g_down + Σ σ a + s⁺ − s⁻ − Σ_k P_k − g_n w_n = I − P0 − P^sched            ∀ roots, t   [MW]
    roots = {BUS: feeders.roots.to_numpy()}
    at_root = (injections.active - children_P - bare(data.g) * w).sel(roots)
    imported = injections.scheduled_import.sel({FEEDER: feeders.roots.index}).rename({FEEDER: BUS}).assign_coords(roots)
    demand = bare(injections.active_demand).sel(roots) - imported
    model.add_constraints(injections.at_interface + at_root == demand, name="Interface-balance")
