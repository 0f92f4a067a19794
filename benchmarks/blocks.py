"""Independent blocks: `solve_blocks` against one joint problem solved by linopy itself.

N units serve a need in each of T periods and nothing couples the periods: on one bus
(`dispatch`), along a chain of buses with flow limits (`chain`, a row and a flow for each
unit), with a binary and a fixed cost for each unit that runs (`commitment`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from benchmarks.registry import Answers, Case, Ratio

if TYPE_CHECKING:
    import linopy

    from hiermarket.solving.blocks import BlockAnswers
    from hiermarket.solving.program import Program


def dispatch(units: int, periods: int) -> linopy.Model:
    """Merit order of one bus, with a need that differs from period to period."""
    import linopy

    random = np.random.default_rng(7)
    unit = pd.Index([f"unit {i}" for i in range(units)], name="unit")
    period = pd.date_range("2026-01-01", periods=periods, freq="15min", name="period")
    price = xr.DataArray(random.uniform(20, 120, (units, periods)), coords={"unit": unit, "period": period})
    limit = xr.DataArray(random.uniform(1, 5, units), coords={"unit": unit})
    need = xr.DataArray(random.uniform(0.2, 0.8, periods) * float(limit.sum()), coords={"period": period})

    model = linopy.Model()
    volume = model.add_variables(lower=0, upper=limit.broadcast_like(price), name="volume")
    model.add_constraints(volume.sum("unit") == need, name="balance")
    model.add_objective((price * volume).sum())
    return model


def chain(units: int, periods: int) -> linopy.Model:
    """A feeder without branches: a unit at each bus, the need spread over the buses, limited flows."""
    import linopy

    model = dispatch(units, periods)
    volume = model.variables["volume"]
    need = model.constraints["balance"].rhs / units
    price = model.objective.expression
    room = float(volume.upper.max()) * units / 8
    flow = model.add_variables(lower=-room, upper=room, coords=volume.coords, name="flow")
    short = model.add_variables(lower=0, coords=volume.coords, name="short")
    long = model.add_variables(lower=0, coords=volume.coords, name="long")
    model.remove_constraints("balance")
    with linopy.options as options:
        options.set_value(semantics="v1")
        onward = (1 * flow).shift(unit=-1).fillna(0)
        model.add_constraints(
            volume + flow - onward + short - long == need.broadcast_like(volume.lower), name="balance"
        )
    model.add_objective(price + 1000 * (short + long).sum(), overwrite=True)
    return model


def commitment(units: int, periods: int) -> linopy.Model:
    """The same with a fixed cost and a least volume of each unit that runs."""
    model = dispatch(units, periods)
    volume = model.variables["volume"]
    runs = model.add_variables(binary=True, coords=volume.coords, name="runs")
    limit = volume.upper
    model.add_constraints(volume - limit * runs <= 0, name="most")
    model.add_constraints(volume - 0.3 * limit * runs >= 0, name="least")
    model.add_objective(model.objective.expression + (25.0 * limit * runs).sum(), overwrite=True)
    return model


def read(answers: Answers) -> Program:
    from hiermarket.solving.program import program_of

    return program_of(answers["build"])


def solve(answers: Answers) -> BlockAnswers:
    from hiermarket.solving.blocks import solve_blocks

    return solve_blocks(answers["read"]).require("the benchmark", str)


def write(answers: Answers) -> None:
    from hiermarket.solving.program import write_back

    found: BlockAnswers = answers["solve"]
    write_back(answers["build"], answers["read"], found.x, found.dual, float(found.objective.sum()))


def joint(answers: Answers) -> float:
    """One problem of all periods, as a linopy user solves it."""
    model: linopy.Model = answers["build"]
    options: dict[str, Any] = {"output_flag": False, "threads": 1, "mip_rel_gap": 1e-9}
    status, condition = model.solve(solver_name="highs", io_api="direct", progress=False, **options)
    assert (status, condition) == ("ok", "optimal")
    value = model.objective.value
    assert value is not None
    return float(value)


def agree(answers: Answers) -> None:
    ours = float(answers["solve"].objective.sum())
    assert np.isclose(ours, answers["joint"], rtol=1e-6), f"blocks {ours}, joint {answers['joint']}"


_PHASES = {"read": read, "solve": solve, "write": write, "joint": joint}
_RATIOS = (Ratio(ours=("read", "solve", "write"), reference=("joint",)),)

CASES = (
    Case(
        name="blocks",
        title="LP of independent periods on one bus: solve_blocks against one joint LP in linopy",
        build=dispatch,
        sizes=({"units": 5, "periods": 4}, {"units": 20, "periods": 96}, {"units": 50, "periods": 672}),
        phases=_PHASES,
        agree=agree,
        ratios=_RATIOS,
    ),
    Case(
        name="feeder-blocks",
        title="LP of independent periods on a chain of buses: solve_blocks against one joint LP in linopy",
        build=chain,
        sizes=({"units": 5, "periods": 4}, {"units": 33, "periods": 96}, {"units": 33, "periods": 672}),
        phases=_PHASES,
        agree=agree,
        ratios=_RATIOS,
    ),
    Case(
        name="integer-blocks",
        title="MILP of independent periods on one bus: solve_blocks against one joint MILP in linopy",
        build=commitment,
        sizes=({"units": 4, "periods": 3}, {"units": 8, "periods": 24}, {"units": 12, "periods": 48}),
        phases=_PHASES,
        agree=agree,
        ratios=_RATIOS,
    ),
)
