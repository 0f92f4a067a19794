"""The table of quantities: name, symbol, dimensions, unit, sign, meaning.

Schema checks, netCDF attributes, plot axes and the documentation are made from it.
Dimensions are those of the public results; inside models ``bid`` stands for
(feeder, bsp, bus, block, direction) and ``bus`` for (feeder, bus).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hiermarket.labels import BID_DIMS, BUS, DIRECTION, FEEDER, PERIOD, RESOURCE

if TYPE_CHECKING:
    import xarray as xr

_BID = BID_DIMS
_BUS = (FEEDER, BUS, PERIOD)
_FEEDER = (FEEDER, PERIOD)
_RESOURCE = (RESOURCE, PERIOD)


@dataclass(frozen=True, slots=True)
class Quantity:
    """One row of the table.

    Parameters
    ----------
    name, symbol : str
        The name in code and files, the symbol in the equations.
    dims : tuple[str, ...]
        Dimensions in public results.
    unit : str
        Unit, ``"1"`` for numbers.
    meaning : str
        One line, with the sign convention where there is one.
    """

    name: str
    symbol: str
    dims: tuple[str, ...]
    unit: str
    meaning: str


_ROWS: Final = (
    # bids
    Quantity("price", "π", _BID, "EUR/MWh", "Price of the bid; the BSP is paid it for up, pays it for down energy"),
    Quantity("volume", "ā", _BID, "MW", "Volume of the bid, ≥ 0"),
    Quantity("minimum", "a̲", _BID, "MW", "Least volume of the bid if it is accepted; 0 where any part may be taken"),
    Quantity("cost", "c", _BID, "EUR/MWh", "Marginal cost (up) or saving (down) of the resource"),
    Quantity("reactive_ratio", "τ", _BID, "Mvar/MW", "Reactive power injected per active power injected"),
    Quantity(
        "make_whole", "", _BID, "EUR", "What an accepted bid with a minimum volume loses at the price that it is paid"
    ),
    # resources
    Quantity("resource_output", "p", _RESOURCE, "MW", "Output of the resource, schedule and activation; > 0 injects"),
    Quantity(
        "reactive_support",
        "q",
        _RESOURCE,
        "Mvar",
        "Reactive power that the resource injects by itself for the grid's limits; < 0 is taken",
    ),
    Quantity("stored_energy", "e", _RESOURCE, "MWh", "Stored energy at the end of the period"),
    # imbalance and transmission balancing market
    Quantity("imbalance", "I", _BUS, "MW", "Imbalance; > 0 is a deficit (upward energy needed)"),
    Quantity("tbm_price", "π^T", (DIRECTION, PERIOD), "EUR/MWh", "Price of the transmission balancing market"),
    Quantity(
        "exchange_price",
        "π^E",
        (FEEDER, DIRECTION, PERIOD),
        "EUR/MWh",
        "Price that the DSO counts on for its exchange with the transmission balancing market",
    ),
    Quantity("tbm_limit", "Ḡ", (FEEDER, DIRECTION, PERIOD), "MW", "Most that a feeder may take from the TBM"),
    Quantity("tbm_volume", "g", (FEEDER, DIRECTION, PERIOD), "MW", "Taken from the TBM by the DSO, ≥ 0"),
    Quantity("duration", "Δ", (PERIOD,), "h", "Length of the period"),
    # clearing of the distribution balancing market
    Quantity("activation", "a", _BID, "MW", "Activated volume of the bid, ≥ 0"),
    Quantity("nodal_price", "λ", _BUS, "EUR/MWh", "Price of active energy at the bus"),
    Quantity("reactive_price", "κ", _BUS, "EUR/Mvarh", "Price of reactive energy at the bus; 0 at the root"),
    Quantity("voltage", "v", _BUS, "p.u.", "Voltage magnitude of the linear model"),
    Quantity("p_flow", "P", _BUS, "MW", "Sending-end active flow of the branch into the bus, > 0 away from the root"),
    Quantity("q_flow", "Q", _BUS, "Mvar", "Sending-end reactive flow of the branch into the bus"),
    Quantity("unserved", "s⁺", _BUS, "MW", "Deficit that nobody serves, priced at the value of lost load"),
    Quantity("spilled", "s⁻", _BUS, "MW", "Surplus that nobody takes, priced at the value of lost load"),
    Quantity("reactive_shortage", "z⁺", _BUS, "Mvar", "Reactive deficit that nobody serves"),
    Quantity("reactive_surplus", "z⁻", _BUS, "Mvar", "Reactive surplus that nobody takes"),
    Quantity("clearing_cost", "", _FEEDER, "EUR", "Cost of the clearing at bid prices, without lost load"),
    Quantity(
        "status", "", _FEEDER, "1", "Outcome of the block: 0 optimal, 1 infeasible, 2 unbounded, 3 limit, 4 trouble"
    ),
    Quantity("screened", "", _FEEDER, "1", "Whether no limit of the grid counts: the result is known without an LP"),
    # check of a clearing by AC power flow
    Quantity("ac_voltage", "|V|", _BUS, "p.u.", "Voltage magnitude by AC power flow"),
    Quantity("undervoltage", "", _BUS, "p.u.", "AC voltage below its lower limit, ≥ 0"),
    Quantity("overvoltage", "", _BUS, "p.u.", "AC voltage above its upper limit, ≥ 0"),
    Quantity("overload", "", _BUS, "MVA", "AC apparent power of the branch into the bus above its rating, ≥ 0"),
    Quantity("ac_loss", "", _FEEDER, "MW", "Losses by AC power flow"),
    Quantity("ac_mismatch", "", _FEEDER, "MW", "Interface flow by AC power flow less that of the linear model"),
    Quantity("ac_converged", "", _FEEDER, "1", "Whether the AC power flow converged"),
    # strategic bidding
    Quantity("offer_price", "π", _BID, "EUR/MWh", "Price offered: the leader's decision, the rivals' bid"),
    Quantity("offer_volume", "v", _BID, "MW", "Volume offered: that of the bid, or less where a leader withholds"),
    Quantity("expected_activation", "a", _BID, "MW", "Activation that the leader expects (ties in its favour)"),
    Quantity("expected_price", "λ", _BUS, "EUR/MWh", "Nodal price that the leader expects (ties in its favour)"),
    Quantity("expected_profit", "", _FEEDER, "EUR", "Profit that the leader expects: payment less own cost"),
    Quantity("profit", "", ("bsp", PERIOD), "EUR", "Profit at the prices of the clearing: payment less own cost"),
    Quantity("tie_difference", "", _BID, "MW", "Activation by the tie rule less the one that the leader expects"),
    # several strategic BSPs
    Quantity("best_profit", "", ("bsp",), "EUR", "Profit of the BSP's best response to the offers of the others"),
    Quantity("cleared_profit", "", ("bsp",), "EUR", "Profit of the BSP at the offers, cleared by the tie rule"),
    Quantity("regret", "ρ", ("bsp",), "EUR", "What the BSP could gain by other offers: best less cleared profit"),
    Quantity("ending", "", _FEEDER, "1", "How the rounds ended: 0 nobody moved, 1 cycle, 2 exhausted"),
    # forwarded capability
    Quantity("remaining", "r", _BID, "MW", "Volume left after the clearing of the distribution market"),
    Quantity("remaining_undo", "r^u", _BID, "MW", "Activated volume that could be undone"),
    Quantity("forwarded", "U", _BID, "MW", "Volume that the DSO forwards in the bid's own direction"),
    Quantity("forwarded_undo", "D", _BID, "MW", "Undo of activated volume that the DSO forwards (opposite direction)"),
    Quantity("withheld", "", _BID, "MW", "Remaining volume, undo included, that the grid cannot carry"),
    Quantity("interface_factor", "", _BID, "1", "MW at the interface per MW injected by the bid (marginal losses)"),
    Quantity("forward_price", "π^F", _BID, "EUR/MWh", "Price at which the bid is forwarded"),
    Quantity("step_price", "V'", (FEEDER, "step", DIRECTION, PERIOD), "EUR/MWh", "Price of the step of an offer curve"),
    Quantity(
        "step_volume",
        "",
        (FEEDER, "step", DIRECTION, PERIOD),
        "MW",
        "Volume of the step at the interface; up is more delivered, down is less",
    ),
    # AC check of what is forwarded
    Quantity("corner_undervoltage", "", ("corner", *_BUS), "p.u.", "AC voltage below its limit at a corner of the box"),
    Quantity("corner_overvoltage", "", ("corner", *_BUS), "p.u.", "AC voltage above its limit at a corner of the box"),
    Quantity("corner_overload", "", ("corner", *_BUS), "MVA", "AC apparent power above its rating at a corner"),
    # transmission clearing
    Quantity("change", "z", _BID, "MW", "Change of the bid's activation by the TSO; < 0 undoes"),
    Quantity("repaired", "", _FEEDER, "1", "Whether the DSO has repaired what the TSO had cleared"),
    Quantity("need", "W", ("grid_bus", PERIOD), "MW", "Balancing need of the TSO; > 0 is a deficit"),
    Quantity(
        "grid_price", "λ^T", ("grid_bus", PERIOD), "EUR/MWh", "Locational marginal price of the transmission grid"
    ),
    Quantity("uniform_price", "λ^U", (PERIOD,), "EUR/MWh", "One price for the transmission grid: mean of λ^T by need"),
    Quantity("grid_activation", "y", ("grid_bid", PERIOD), "MW", "Activated volume of the transmission bid, ≥ 0"),
    Quantity("line_flow", "f", ("line", PERIOD), "MW", "Flow of the transmission line, > 0 from bus0 to bus1"),
    Quantity("grid_unserved", "s⁺", ("grid_bus", PERIOD), "MW", "Transmission deficit that nobody serves"),
    Quantity("grid_spilled", "s⁻", ("grid_bus", PERIOD), "MW", "Transmission surplus that nobody takes"),
    Quantity("grid_status", "", (PERIOD,), "1", "Outcome of the period's clearing, as for status"),
    Quantity("interface_price", "λ^T", _FEEDER, "EUR/MWh", "Price of the transmission grid at the feeder's interface"),
    # one clearing of all grids
    Quantity("interface_exchange", "e", _FEEDER, "MW", "Taken from the transmission grid beyond the schedule"),
    Quantity("common_cost", "", (PERIOD,), "EUR", "Cost of the common clearing at bid prices, lost load included"),
    # baseline
    Quantity("exchange", "", _FEEDER, "MW", "Taken from the TBM when it covers all imbalance; < 0 is delivered"),
    Quantity("baseline_cost", "C0", _FEEDER, "EUR", "Cost of the exchange at the TBM's prices"),
    Quantity("baseline_undervoltage", "", _BUS, "p.u.", "AC voltage of the baseline below its lower limit, ≥ 0"),
    Quantity("baseline_overvoltage", "", _BUS, "p.u.", "AC voltage of the baseline above its upper limit, ≥ 0"),
    Quantity("baseline_overload", "", _BUS, "MVA", "AC apparent power of the baseline above the rating, ≥ 0"),
    # disaggregation
    Quantity("change_price", "", _BID, "EUR/MWh", "What one MWh of the change is paid"),
    Quantity("final_activation", "a + z", _BID, "MW", "Activation after the TSO's clearing"),
    Quantity("delivered", "", _FEEDER, "MW", "Change of the interface flow that the change causes, by AC power flow"),
    Quantity("cleared_delivery", "", _FEEDER, "MW", "Change of the interface flow that the TSO has cleared"),
    # indicators, by stage: after the distribution and after the transmission market
    Quantity(
        "imbalance_energy", "", ("stage", DIRECTION), "MWh", "Gross imbalance energy Σ|I|Δ: feeders; with transmission"
    ),
    Quantity("local_energy", "", ("stage", DIRECTION), "MWh", "Energy activated from local bids"),
    Quantity("tbm_energy", "", ("stage", DIRECTION), "MWh", "Energy taken from the TBM; activated transmission bids"),
    Quantity("local_share", "", ("stage",), "1", "Local energy by gross imbalance energy"),
    Quantity("tbm_share", "", ("stage",), "1", "Energy from the TBM by gross imbalance energy"),
    Quantity("netting_share", "", ("stage",), "1", "The rest: imbalance that nets out, less losses"),
    Quantity("cost_before", "C0", ("stage", "measure"), "EUR", "Cost of balancing by the TBM alone"),
    Quantity("cost_after", "C1", ("stage", "measure"), "EUR", "Cost of balancing with local bids"),
    Quantity("saving", "", ("stage", "measure"), "1", "1 − C1/C0; NaN where C0 ≤ 0, or energy is not served"),
    Quantity("forwarded_energy", "", (DIRECTION,), "MWh", "Energy forwarded to the TSO"),
    Quantity("withheld_energy", "", (), "MWh", "Remaining energy that the grids cannot carry"),
    Quantity("energy_not_served", "", (), "MWh", "Unserved and spilled energy, of feeders and transmission grid"),
    Quantity(
        "worst_violation",
        "",
        ("when", "limit"),
        "p.u., MVA",
        "Largest violation of a limit by AC power flow; NaN where one has no solution",
    ),
    # schemes side by side; shares, volumes and violations of each as above
    Quantity(
        "cost_to_payer",
        "",
        ("scheme", "payer", "measure"),
        "EUR",
        "What a payer pays; of the operators what the DSOs pay the TSO at the interfaces included",
    ),
    Quantity(
        "total_cost", "", ("scheme", "measure"), "EUR", "Cost of all bids that are used: of DSOs and TSO together"
    ),
    Quantity("lost_load_cost", "", ("scheme",), "EUR", "What is not served, reactive too, at the value of lost load"),
    Quantity("system_cost", "", ("scheme",), "EUR", "Bid cost and lost load: what the common clearing minimises"),
    Quantity("mismatch_energy", "", ("scheme",), "MWh", "Import by AC power flow beyond what was cleared"),
    Quantity("mismatch_cost", "", ("scheme",), "EUR", "That energy at the prices of the interfaces"),
    Quantity("ac_cost", "", ("scheme",), "EUR", "System cost with that energy: of what really flows, to first order"),
    Quantity("account_balance", "", ("scheme", "kind"), "EUR", "Received by all accounts of a kind; sums to zero"),
    Quantity("price_gap", "", _FEEDER, "EUR/MWh", "Interface price less the exchange price that the DSO counted on"),
    Quantity("largest_gap", "", ("round",), "EUR/MWh", "Largest gap of prices in a round"),
    Quantity("interface_prices", "λ^T", ("scheme", "statistic"), "EUR/MWh", "Prices at the interfaces"),
    Quantity("nodal_prices", "λ", ("scheme", "statistic"), "EUR/MWh", "Prices at the buses of the feeders"),
    Quantity("seconds", "", ("scheme",), "s", "Time that the scheme took"),
    # scenarios
    Quantity("probability", "p", ("scenario",), "1", "Probability of the scenario"),
    Quantity("scenario_cost", "c_s", ("scenario",), "EUR", "Cost of the scenario at bid prices, lost load included"),
    Quantity("expected_cost", "E", ("stage", "measure"), "EUR", "Expected cost of balancing with local bids"),
    Quantity("cvar_cost", "CVaR", ("stage", "measure"), "EUR", "Mean cost of the worst 1 − α of the scenarios"),
    Quantity("lowest_cost", "", ("stage", "measure"), "EUR", "Cost of the cheapest scenario"),
    Quantity("highest_cost", "", ("stage", "measure"), "EUR", "Cost of the dearest scenario"),
    Quantity("expected_local_share", "", ("stage",), "1", "Expected local energy by expected gross imbalance energy"),
    Quantity("expected_tbm_share", "", ("stage",), "1", "Expected TBM energy by expected gross imbalance energy"),
    Quantity("expected_not_served", "", (), "MWh", "Expected unserved and spilled energy"),
    # settlement
    Quantity("payment", "", ("account", "item", PERIOD), "EUR", "Money received (> 0) or paid (< 0) by the account"),
)

#: Every quantity by its name.
QUANTITIES: Final = {row.name: row for row in _ROWS}


def describe(dataset: xr.Dataset) -> xr.Dataset:
    """Write unit, long name and symbol onto every array that the table knows."""
    for name in dataset.data_vars:
        row = QUANTITIES.get(str(name))
        if row is not None:
            attrs = {"units": row.unit, "long_name": row.meaning}
            dataset[name].attrs.update(attrs | ({"symbol": row.symbol} if row.symbol else {}))
    return dataset
