"""Energies, costs, volumes and violations of batches of feeders, which add up to those of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from hiermarket.labels import BID, DIRECTION, DIRECTIONS, PERIOD
from hiermarket.schema import bare, direction_sign, freeze
from hiermarket.stages.paid_prices import grid_bid_price, paid_price
from hiermarket.stages.settlement import change_payment
from hiermarket.stages.tso_model import GRID_BID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.market.bids import Bids
    from hiermarket.market.tso_side import TsoSide
    from hiermarket.stages.coordination import Chain
    from hiermarket.stages.tso_clearing import TsoClearing

#: After the distribution market alone, and after the transmission market.
STAGE, STAGES = "stage", ("distribution", "transmission")
#: What a cost is: money paid, bids accepted at their price, true cost of the resources.
MEASURE, MEASURES = "measure", ("payment", "bid cost", "true cost")
#: What an AC check looks at, and in which states.
LIMIT, LIMITS = "limit", ("undervoltage", "overvoltage", "overload")
WHEN, STATES = "when", ("baseline", *STAGES)


@dataclass(frozen=True, slots=True)
class Totals:
    """What indicators are computed from, of a batch of feeders or of the transmission grid.

    Parameters
    ----------
    data : Dataset
        Sums, additive over batches: ``imbalance_energy, local_energy, tbm_energy (stage,
        direction)``, ``not_served (stage)``, ``forwarded_energy (direction)``,
        ``withheld_energy`` [MWh], ``cost_before, cost_after (stage, measure)`` [EUR]; and
        ``worst_violation (when, limit)``, of which the largest counts.
    """

    data: xr.Dataset


def join_totals(parts: Sequence[Totals]) -> Totals:
    """Add the totals of batches up; of violations, take the largest.

    Parameters
    ----------
    parts : sequence of Totals
        Of batches of other feeders each, and of the transmission grid once.
    """
    total = parts[0].data
    for part in parts[1:]:
        # NaN stays NaN: what one batch does not know, the whole does not
        worst = np.maximum(total["worst_violation"], part.data["worst_violation"])
        total = (total + part.data).assign(worst_violation=worst)
    return Totals(freeze(total))


def feeder_totals(chain: Chain) -> Totals:
    """Return the totals of the feeders of a chain, without the transmission grid's own.

    Parameters
    ----------
    chain : Chain
        The stages of a market or of a batch of its feeders.
    """
    market, duration, local = chain.market, bare(chain.market.duration), chain.clearing.flat
    gross = gross_energy(market.imbalance * duration)
    activation, final = bare(local["activation"]), bare(chain.disaggregation.flat["final_activation"])
    taken = (bare(local["tbm_volume"]) * duration).sum(["feeder", PERIOD]).sel({DIRECTION: list(DIRECTIONS)}).values
    lost = float(((bare(local["unserved"]) + bare(local["spilled"])) * duration).sum())
    tbm = float((direction_sign() * market.exchange_price * bare(local["tbm_volume"]) * duration).sum())
    paid = float((duration * bare(market.bids.sign) * paid_price(market, local) * activation).sum())
    extra = float(change_payment(market, chain.disaggregation).sum())
    (bid, true), (final_bid, final_true) = local_costs(market, activation), local_costs(market, final)
    # a baseline without a power flow has no cost, not none
    alone = float(chain.baseline.flat["baseline_cost"].sum(skipna=False))
    volume = {name: bare(chain.forwarded.flat[name]) * duration for name in ("forwarded", "forwarded_undo", "withheld")}
    own, undone = (by_direction(volume[name], market.bids) for name in ("forwarded", "forwarded_undo"))
    return _totals(
        imbalance_energy=[gross, gross],
        local_energy=[by_direction(array * duration, market.bids) for array in (activation, final)],
        tbm_energy=[taken, [0.0, 0.0]],
        not_served=[lost, lost],
        cost_before=[[alone] * 3, [0.0 * alone] * 3],
        cost_after=[[paid + tbm, bid + tbm, true + tbm], [paid + extra, final_bid, final_true]],
        # undoing an up bid is downward regulation, and the reverse
        forwarded_energy=own + undone[::-1],
        withheld_energy=float(volume["withheld"].sum()),
        worst_violation=_violations(chain),
    )


def grid_totals(side: TsoSide, cleared: TsoClearing, alone: TsoClearing) -> Totals:
    """Return the totals of the transmission grid itself.

    Parameters
    ----------
    side : TsoSide
        The TSO's side of the whole market.
    cleared : TsoClearing
        The transmission market with what the DSOs bring.
    alone : TsoClearing
        The transmission market of the baseline.
    """
    duration, flat, own = bare(side.duration), cleared.flat, side.transmission.imbalance
    gross = np.zeros(2) if own is None else gross_energy(own * duration)
    bought = by_direction(bare(flat["grid_activation"]).rename({GRID_BID: BID}) * duration, cleared.grid_bids)
    lost = float(((bare(flat["grid_unserved"]) + bare(flat["grid_spilled"])) * duration).sum())
    nothing = [0.0, 0.0, 0.0]
    return _totals(
        imbalance_energy=[[0.0, 0.0], gross],
        local_energy=np.zeros((2, 2)),
        tbm_energy=[[0.0, 0.0], bought],
        not_served=[0.0, lost],
        cost_before=[nothing, grid_costs(side, alone)],
        cost_after=[nothing, grid_costs(side, cleared)],
        forwarded_energy=[0.0, 0.0],
        withheld_energy=0.0,
        worst_violation=np.zeros((len(STATES), len(LIMITS))),
    )


#: Dimensions of the totals.
_DIMS = {
    **dict.fromkeys(("imbalance_energy", "local_energy", "tbm_energy"), (STAGE, DIRECTION)),
    **dict.fromkeys(("cost_before", "cost_after"), (STAGE, MEASURE)),
    "not_served": (STAGE,),
    "forwarded_energy": (DIRECTION,),
    "withheld_energy": (),
    "worst_violation": (WHEN, LIMIT),
}


def _totals(**figures: object) -> Totals:
    arrays = {name: (_DIMS[name], np.asarray(value, dtype=float)) for name, value in figures.items()}
    coords = {STAGE: list(STAGES), DIRECTION: list(DIRECTIONS), MEASURE: list(MEASURES)}
    return Totals(freeze(xr.Dataset(arrays, coords={**coords, WHEN: list(STATES), LIMIT: list(LIMITS)})))


def gross_energy(imbalance: xr.DataArray) -> np.ndarray:
    """Sum deficits (up) and surpluses (down) apart."""
    return np.array([float(imbalance.clip(min=0.0).sum()), -float(imbalance.clip(max=0.0).sum())])


def by_direction(per_bid: xr.DataArray, bids: Bids) -> np.ndarray:
    """Sum (bid, period) by the direction of the bid."""
    way = bids.data["bid_direction"].values
    return np.array([float(per_bid.isel({BID: way == d}).sum()) for d in DIRECTIONS])


def local_costs(market: BalancingMarket, activation: xr.DataArray) -> tuple[float, float]:
    """Bid cost and true cost of activations (bid, period) [EUR]."""
    volume = bare(market.duration) * bare(market.bids.sign) * activation
    price, cost = (bare(market.bids.data[name]) for name in ("price", "cost"))
    return float((volume * price).sum()), float((volume * cost).sum())


def grid_costs(side: TsoSide, cleared: TsoClearing) -> tuple[float, float, float]:
    """Payment by the pricing rule, bid cost and true cost of the transmission bids [EUR]."""
    offers = cleared.grid_bids
    energy = bare(side.duration) * bare(offers.sign).rename({BID: GRID_BID}) * bare(cleared.flat["grid_activation"])
    # σ y Δ p,  p by the pricing rule                                                     [EUR]
    price = energy.transpose(GRID_BID, PERIOD).copy(data=grid_bid_price(side, cleared))
    bid_price, cost = (bare(offers.data[name]).rename({BID: GRID_BID}) for name in ("price", "cost"))
    return float((energy * price).sum()), float((energy * bid_price).sum()), float((energy * cost).sum())


def _violations(chain: Chain) -> np.ndarray:
    """Return the largest AC violation before, after stage 1 and after the TSO's clearing; NaN without a power flow."""
    states = [(chain.baseline, "baseline_"), (chain.clearing, ""), (chain.disaggregation, "")]
    rows = [[float(result.flat[f"{head}{name}"].max(skipna=False)) for name in LIMITS] for result, head in states]
    return np.array(rows)
