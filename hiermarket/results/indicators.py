"""Indicators of a run: shares, savings, volumes, violations, with their energy and cost apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import xarray as xr

from hiermarket.labels import BID, DIRECTION, PERIOD, Direction
from hiermarket.nomenclature import describe
from hiermarket.schema import bare
from hiermarket.stages.bidding import paid_price
from hiermarket.stages.settlement import change_payment

if TYPE_CHECKING:
    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.bids import Bids
    from hiermarket.stages.coordination import Chain
    from hiermarket.stages.tso_clearing import TsoClearing

#: After the distribution market alone, and after the transmission market.
STAGE, STAGES = "stage", ("distribution", "transmission")
#: What a cost is: money paid, bids accepted at their price, true cost of the resources.
MEASURE, MEASURES = "measure", ("payment", "bid cost", "true cost")

#: Energy below this counts as none [MWh]: rounding of the solver.
NEGLIGIBLE = 1e-6

_UP, _DOWN = (d.value for d in Direction)


def indicators(chain: Chain) -> xr.Dataset:
    """Compute the indicators of a run.

    Parameters
    ----------
    chain : Chain
        The results of all stages.

    Returns
    -------
    Dataset
        Units and meanings as in the nomenclature. Shares refer to the gross imbalance
        energy Σ|I|Δ: of the feeders after the distribution market, of feeders and
        transmission grid together after the transmission market. What nets out, less
        losses, is ``netting_share``. A saving is NaN where the baseline costs nothing or less,
        and where energy is not served.
    """
    energies = _energies(chain)
    before, after = _costs(chain)
    # what is not served saves nothing: no saving is defined then
    lost = _not_served(chain)
    saving = (1.0 - after / before).where((before > 0) & (lost <= NEGLIGIBLE))
    gross = energies.imbalance_energy.sum(DIRECTION)
    local, tbm = (energies[name].sum(DIRECTION) / gross.where(gross > 0) for name in ("local_energy", "tbm_energy"))
    shares = {
        "local_share": local,
        "tbm_share": tbm,
        "netting_share": 1.0 - local - tbm - lost / gross.where(gross > 0),
    }
    figures = energies.assign(shares).assign(cost_before=before, cost_after=after, saving=saving)
    return describe(figures.assign(_volumes(chain)).assign(worst_violation=_violations(chain)))


def _not_served(chain: Chain) -> xr.DataArray:
    """Energy that nobody serves or takes [MWh], after each stage."""
    duration, local, grid = bare(chain.market.duration), chain.clearing.flat, chain.cleared.flat
    first = float(((bare(local.unserved) + bare(local.spilled)) * duration).sum())
    then = float(((bare(grid.grid_unserved) + bare(grid.grid_spilled)) * duration).sum())
    return xr.DataArray([first, first + then], coords={STAGE: list(STAGES)}, dims=STAGE)


def _gross(imbalance: xr.DataArray) -> xr.DataArray:
    """Sum deficits (up) and surpluses (down) apart."""
    parts = [imbalance.clip(min=0.0).sum(), -imbalance.clip(max=0.0).sum()]
    return xr.concat(parts, dim=pd.Index([_UP, _DOWN], name=DIRECTION))


def _by_direction(per_bid: xr.DataArray, bids: Bids) -> xr.DataArray:
    """Sum (bid, period) by the direction of the bid."""
    parts = [per_bid.isel({BID: bids.data.bid_direction.values == d}).sum([BID, PERIOD]) for d in (_UP, _DOWN)]
    return xr.concat(parts, dim=pd.Index([_UP, _DOWN], name=DIRECTION))


def _energies(chain: Chain) -> xr.Dataset:
    market, duration = chain.market, bare(chain.market.duration)
    stages = pd.Index(STAGES, name=STAGE)
    gross = _gross(market.imbalance * duration)
    own = market.transmission.imbalance
    everything = gross if own is None else gross + _gross(own * duration)
    first = _by_direction(bare(chain.clearing.flat.activation) * duration, market.bids)
    last = _by_direction(bare(chain.disaggregation.flat.final_activation) * duration, market.bids)
    taken = (bare(chain.clearing.flat.tbm_volume) * duration).sum(["feeder", PERIOD])
    offers = chain.cleared.grid_bids
    bought = _by_direction(bare(chain.cleared.flat.grid_activation).rename(grid_bid=BID) * duration, offers)
    return xr.Dataset(
        {
            "imbalance_energy": xr.concat([gross, everything], dim=stages),
            "local_energy": xr.concat([first, last], dim=stages),
            "tbm_energy": xr.concat([taken, bought], dim=stages),
        }
    )


def _local_costs(market: BalancingMarket, activation: xr.DataArray) -> tuple[float, float]:
    """Bid cost and true cost of activations (bid, period) [EUR]."""
    volume = bare(market.duration) * bare(market.bids.sign) * activation
    return float((volume * bare(market.bids.data.price)).sum()), float((volume * bare(market.bids.data.cost)).sum())


def _transmission_costs(market: BalancingMarket, cleared: TsoClearing) -> tuple[float, float, float]:
    """Payment, bid cost and true cost of the transmission bids [EUR]."""
    offers = cleared.grid_bids
    energy = bare(market.duration) * bare(offers.sign).rename({BID: "grid_bid"}) * bare(cleared.flat.grid_activation)
    at = xr.DataArray(offers.data.bid_bus.values, dims="grid_bid", coords={"grid_bid": energy.indexes["grid_bid"]})
    price = bare(cleared.flat.grid_price).sel(grid_bus=at).drop_vars("grid_bus")
    bid_price, cost = (bare(offers.data[name]).rename({BID: "grid_bid"}) for name in ("price", "cost"))
    return float((energy * price).sum()), float((energy * bid_price).sum()), float((energy * cost).sum())


def _costs(chain: Chain) -> tuple[xr.DataArray, xr.DataArray]:
    """C0 and C1 by stage and measure [EUR]."""
    market, duration = chain.market, bare(chain.market.duration)
    direction = xr.DataArray([1.0, -1.0], coords={DIRECTION: [_UP, _DOWN]}, dims=DIRECTION)
    flat = chain.clearing.flat
    tbm = float((direction * bare(market.tbm.tbm_price) * bare(flat.tbm_volume) * duration).sum())
    paid = float((duration * bare(market.bids.sign) * paid_price(market, flat) * bare(flat.activation)).sum())
    bid, true = _local_costs(market, bare(flat.activation))
    # a baseline without a power flow has no cost, not none
    alone = float(chain.baseline.flat.baseline_cost.sum(skipna=False))
    unknown = 0.0 * alone
    extra = float(change_payment(market, chain.cleared).sum())
    final_bid, final_true = _local_costs(market, bare(chain.disaggregation.flat.final_activation))
    pay, offered, cost = _transmission_costs(market, chain.cleared)
    after = [[paid + tbm, bid + tbm, true + tbm], [paid + extra + pay, final_bid + offered, final_true + cost]]
    before = [[alone, alone, alone], [cost + unknown for cost in _transmission_costs(market, chain.baseline.cleared)]]
    coords = {STAGE: list(STAGES), MEASURE: list(MEASURES)}
    dims = (STAGE, MEASURE)
    return xr.DataArray(before, coords=coords, dims=dims), xr.DataArray(after, coords=coords, dims=dims)


def _volumes(chain: Chain) -> dict[str, xr.DataArray]:
    duration, flat = bare(chain.market.duration), chain.forwarded.flat
    own = _by_direction(bare(flat.forwarded) * duration, chain.market.bids)
    # undoing an up bid is downward regulation, and the reverse
    undone = _by_direction(bare(flat.forwarded_undo) * duration, chain.market.bids)
    swapped = undone.assign_coords({DIRECTION: [_DOWN, _UP]}).reindex({DIRECTION: [_UP, _DOWN]})
    local = bare(chain.clearing.flat.unserved) + bare(chain.clearing.flat.spilled)
    above = bare(chain.cleared.flat.grid_unserved) + bare(chain.cleared.flat.grid_spilled)
    return {
        "forwarded_energy": own + swapped,
        "withheld_energy": (bare(flat.withheld) * duration).sum(),
        "energy_not_served": (local * duration).sum() + (above * duration).sum(),
    }


def _violations(chain: Chain) -> xr.DataArray:
    """Return the largest AC violation before, after stage 1 and after the TSO's clearing; NaN without a power flow."""
    limits = ("undervoltage", "overvoltage", "overload")
    stages = [(chain.baseline, "baseline_"), (chain.clearing, ""), (chain.disaggregation, "")]
    rows = [[float(result.flat[f"{head}{name}"].max(skipna=False)) for name in limits] for result, head in stages]
    coords = {"when": ["baseline", *STAGES], "limit": list(limits)}
    return xr.DataArray(rows, coords=coords, dims=("when", "limit"))
