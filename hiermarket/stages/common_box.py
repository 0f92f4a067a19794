"""One box of volumes that is safe in every scenario: what is forwarded before the scenario is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.errors import ModelError
from hiermarket.network.limits import sites
from hiermarket.network.linear_flow import eliminate
from hiermarket.schema import bare
from hiermarket.solving.blocks import Work
from hiermarket.solving.solver import SolverOptions
from hiermarket.stages.capability import Forwarded, forwarded_of, left_over
from hiermarket.stages.corners import Reach, broken
from hiermarket.stages.forwarding_methods import CommonBox
from hiermarket.stages.interface_balance import bid_factors
from hiermarket.stages.largest_box import ROUNDING, Volumes, largest, together
from hiermarket.stages.resource_safety import uncoupled
from hiermarket.stages.safe_volumes import Part, as_cleared, counting

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.scenarios import ScenarioMarket
    from hiermarket.stages.dso_clearing import DsoClearing


def forward_common(
    market: ScenarioMarket,
    clearings: Mapping[str, DsoClearing],
    *,
    method: CommonBox | None = None,
    solver: SolverOptions | None = None,
) -> dict[str, Forwarded]:
    """Find volumes that every DSO can forward before the scenario is known.

    Parameters
    ----------
    market : ScenarioMarket
        The scenarios.
    clearings : mapping scenario → DsoClearing
        The cleared distribution market of each.
    method : CommonBox, optional
        Undo, and passes at the corners.
    solver : SolverOptions, optional
        Tolerances and limits.

    Returns
    -------
    dict scenario → Forwarded
        The same ``forwarded`` and ``forwarded_undo`` in all of them, with what each has left,
        its prices, interface factors and AC check of the corners. A feeder and period without a
        clearing in one scenario forwards nothing in any.

    Raises
    ------
    ModelError
        When reactive ratios of bids differ between scenarios, bids have minimum volumes, or their
        resources hold them together.
    SolveError
        When a block has no optimum.

    Notes
    -----
    Equation (48) of docs/model.md: the rows of (13) of all scenarios, each at the losses of its
    own corners, with the smallest remaining volume of every bid.
    """
    chosen, options = method or CommonBox(), solver or SolverOptions()
    markets = one_by_one(market)
    first = next(iter(markets.values()))
    _require_one_ratio(markets)
    each = {name: left_over(markets[name], clearings[name], undo=chosen.undo) for name in markets}
    # (48)  0 ≤ U ≤ min_s r_s,  0 ≤ D ≤ min_s r_s                                            [MW]
    most = Volumes(*(_least([getattr(one, side) for one in each.values()]) for side in ("own", "back")))
    who = sites(first.feeders, first.bids.node, bare(first.bids.data.reactive_ratio))
    parts = {name: Part(markets[name], clearings[name], who, most) for name in markets}
    around = {name: [as_cleared(part.market, part.clearing, most)] for name, part in parts.items()}
    factors = {
        name: bid_factors(markets[name], eliminate(markets[name].feeders, corners[0].losses).factors())
        for name, corners in around.items()
    }
    price = _expected_price(market, clearings)
    least = ROUNDING if options.screening else -np.inf
    counted = {name: np.zeros(clearing.flat.status.shape, dtype=bool) for name, clearing in clearings.items()}
    grid = clearings[market.scenarios[0]].grid
    volume, work = most, Work()
    for number in range(1 if grid.loss_passes == 0 else 1 + chosen.corner_passes):
        if number:
            around = {name: part.corners(volume) for name, part in parts.items()}
        rows = {name: counting(part, around[name], chosen, least=least) for name, part in parts.items()}
        for name, found in rows.items():
            counted[name] |= found.cases(counted[name].shape)
        # (48)  Σ_i (c_si⁺ U_i + c_si⁻ D_i) ≤ h_s           ∀ limits c_s'x ≤ h_s of every scenario s
        new, of_pass = largest(first, most, together(list(rows.values())), who, price, options)
        work += of_pass
        settled = number > 0 and all(
            np.array_equal(getattr(new, side).values, getattr(volume, side).values) for side in ("own", "back")
        )
        volume = new
        if settled:
            break
    return {
        name: forwarded_of(
            markets[name], clearings[name], chosen, each[name], _reach(part, volume, factors[name], counted[name], work)
        )
        for name, part in parts.items()
    }


def one_by_one(market: ScenarioMarket) -> dict[str, BalancingMarket]:
    """Return the market of each scenario, in which every bid stands for itself.

    Raises
    ------
    ModelError
        Where bids have minimum volumes, or their resources hold them together.
    """
    return {name: uncoupled(market.of(name), "Forwarding by CommonBox") for name in market.scenarios}


def _reach(part: Part, volume: Volumes, factor: xr.DataArray, counted: np.ndarray, work: Work) -> Reach:
    """Return the volumes as one scenario sees them."""
    return Reach(volume, factor, counted, broken(part.corners(volume)), work)


def _expected_price(market: ScenarioMarket, clearings: Mapping[str, DsoClearing]) -> xr.DataArray:
    """Return Σ_s p_s π_s (bid, period) [EUR/MWh]."""
    prices = [bare(clearings[name].flat["price"]) for name in market.scenarios]
    weighted = sum(p * price.values for p, price in zip(market.probability.values, prices, strict=True))
    return prices[0].copy(data=np.asarray(weighted))


def _least(arrays: list[xr.DataArray]) -> xr.DataArray:
    least = arrays[0]
    for array in arrays[1:]:
        least = least.copy(data=np.minimum(least.values, array.transpose(*least.dims).values))
    return least


def _require_one_ratio(markets: Mapping[str, BalancingMarket]) -> None:
    """Refuse reactive ratios that differ: a MW of a bid would mean another thing in each scenario."""
    (first, one), *others = markets.items()
    ratio = one.bids.data.reactive_ratio.values
    apart = [name for name, market in others if not np.array_equal(market.bids.data.reactive_ratio.values, ratio)]
    if apart:
        raise ModelError(
            "The reactive ratios of bids differ between scenarios",
            where=f"scenarios {first} and {apart[0]}",
            remedy="Give the same ratio in all scenarios, or forward in each of them with SafeBox.",
        )
