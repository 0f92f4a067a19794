"""DC power flow of the transmission grid on a linopy model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from hiermarket.labels import BUS, LINE, PERIOD
from hiermarket.schema import bare

if TYPE_CHECKING:
    import linopy

    from hiermarket.network.grid import TransmissionGrid


def add_dc_flow(model: linopy.Model, grid: TransmissionGrid) -> linopy.LinearExpression:
    """Add angles, line flows and their limits; return the net outflow of every bus.

    Parameters
    ----------
    model : linopy.Model
        The model to extend by ``Bus-angle (bus, period)`` [rad] and ``Line-flow (line,
        period)`` [MW, > 0 from bus0 to bus1].
    grid : TransmissionGrid
        Lines with susceptance [MW/rad] and rating [MW].

    Returns
    -------
    expression (bus, period)
        Σ f out − Σ f in [MW].
    """
    data = grid.data
    buses, periods = data.indexes[BUS], data.indexes[PERIOD]
    rating = bare(data.s_max).broadcast_like(
        xr.DataArray(np.zeros(len(periods)), coords={PERIOD: periods}, dims=PERIOD)
    )
    angle = model.add_variables(coords=[buses, periods], name="Bus-angle")
    # |f_l| ≤ S_l                                                            ∀ lines l, t   [MW]
    flow = model.add_variables(lower=-rating, upper=rating, name="Line-flow")
    ends = {
        end: xr.DataArray(data[end].values, dims=LINE, coords={LINE: data.indexes[LINE]}) for end in ("bus0", "bus1")
    }
    at0, at1 = ((1 * angle).sel({BUS: ends[end]}).drop_vars(BUS) for end in ("bus0", "bus1"))
    # f_l = B_l (θ_0 − θ_1)                                                  ∀ lines l, t   [MW]
    model.add_constraints(1 * flow - bare(data.susceptance) * (at0 - at1) == 0, name="Line-dc_flow")
    # θ = 0 at one bus of every island                                       ∀ t            [rad]
    model.add_constraints((1 * angle).sel({BUS: list(grid.slack)}) == 0, name="Bus-angle_reference")
    out, into = (
        (1 * flow).groupby(pd.Series(data[end].values, index=data.indexes[LINE], name="at")).sum().rename(at=BUS)
        for end in ("bus0", "bus1")
    )
    return out.reindex({BUS: buses}).fillna(0) - into.reindex({BUS: buses}).fillna(0)
