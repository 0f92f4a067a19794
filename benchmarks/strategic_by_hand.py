"""The strategic seller by hand in linopy: KKT rows, big-M and linearised revenue written out, one joint MILP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from benchmarks.strategic_market import CAP, GAP, TIME_LIMIT, Market, Solved

if TYPE_CHECKING:
    import linopy


def build(given: Market) -> linopy.Model:
    """Write the MILP down, with the smallest big-M that hold."""
    import linopy

    own, rivals = given.own, given.rivals
    most = given.capacity.broadcast_like(given.demand * given.capacity)
    coords = most.coords
    # a rival's multipliers are at most its cost below and cap − cost above; the seller's at most the cap
    large_below = given.cost.where(given.cost.unit.isin(rivals), CAP)
    large_above = (CAP - given.cost).where(given.cost.unit.isin(rivals), CAP)

    model = linopy.Model()
    volume = model.add_variables(lower=0, upper=most, name="volume")
    offer = model.add_variables(lower=0, upper=CAP, coords=[own, coords["hour"].to_index()], name="offer")
    price = model.add_variables(lower=0, upper=CAP, coords=[coords["hour"].to_index()], name="price")
    below = model.add_variables(lower=0, upper=large_below.broadcast_like(most), name="below")
    above = model.add_variables(lower=0, upper=large_above.broadcast_like(most), name="above")
    runs = model.add_variables(binary=True, coords=coords, name="runs")
    full = model.add_variables(binary=True, coords=coords, name="full")

    model.add_constraints(volume.sum("unit") == given.demand, name="balance")
    reduced = above - below - price
    model.add_constraints(reduced.sel(unit=own) + offer == 0, name="stationarity_own")
    model.add_constraints(reduced.sel(unit=rivals) == -given.cost.sel(unit=rivals), name="stationarity_rivals")
    model.add_constraints(volume - given.capacity * runs <= 0, name="volume_if_runs")
    model.add_constraints(below + large_below * runs <= large_below, name="below_if_not")
    model.add_constraints(volume - given.capacity * full >= 0, name="volume_if_full")
    model.add_constraints(above - large_above * full <= 0, name="above_if_full")

    # strong duality: price × own volume = price × demand − what the rivals earn
    rent = given.capacity.sel(unit=rivals) * above.sel(unit=rivals)
    paid = given.cost.sel(unit=rivals) * volume.sel(unit=rivals) + rent
    spent = given.cost.sel(unit=own) * volume.sel(unit=own)
    model.add_objective((given.demand * price).sum() - paid.sum() - spent.sum(), sense="max")
    return model


def solve(model: linopy.Model) -> Solved:
    """Solve with HiGHS, up to the time limit."""
    options: dict[str, Any] = {"output_flag": False, "threads": 1, "mip_rel_gap": GAP, "time_limit": TIME_LIMIT}
    _, condition = model.solve(solver_name="highs", io_api="direct", progress=False, **options)
    info = model.solver_model.getInfo()
    return Solved(
        objective=float(info.objective_function_value),
        bound=float(info.mip_dual_bound),
        proved=condition == "optimal",
        binaries=sum(int(xr.DataArray(v.labels != -1).sum()) for _, v in model.binaries.items()),
        nodes=int(info.mip_node_count),
    )
