"""Tables of money: who pays whom, indicators against the TBM alone, certificates, behaviours side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from hiermarket.labels import BSP, BUS, DIRECTION, PERIOD
from hiermarket.results.indicators import indicators
from hiermarket.results.table import Column, figure, table
from hiermarket.results.totals import MEASURE, STAGE
from hiermarket.stages import leader_payment
from hiermarket.stages.accounts import ACCOUNT, ITEM, bsp_account
from hiermarket.stages.paid_prices import as_cleared

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

    from hiermarket.market.balancing_market import BalancingMarket
    from hiermarket.stages.bidding import StrategicBidding
    from hiermarket.stages.coordination import Chain
    from hiermarket.stages.dso_clearing import DsoClearing

#: Columns of money that fit beside the names of the accounts.
MOST_ITEMS = 6
#: An amount below this is rounding [EUR].
ROUNDING = 5e-3
#: A line with labels is cut here [characters].
LONGEST_LABEL = 98
#: What stands for a saving against a cost of nothing or less.
UNDEFINED = "undefined"


def accounts(chain: Chain) -> list[Table]:
    """Return the accounts by item, a table for each handful of items, each with its sum of zero."""
    paid = chain.settlement.data.payment.sum(PERIOD).transpose(ACCOUNT, ITEM)
    moved = [item for item in paid.indexes[ITEM] if float(np.abs(paid.sel({ITEM: item})).max()) > ROUNDING]
    names = [str(account) for account in paid.indexes[ACCOUNT]]
    balance = paid.sum(ITEM).values
    count = -(-len(moved) // MOST_ITEMS) or 1
    size = -(-len(moved) // count)
    tables = []
    for number in range(count):
        items = moved[number * size : (number + 1) * size]
        values = paid.sel({ITEM: items}).values
        ends = number == count - 1
        rows: list[list[float | str]] = []
        for name, row, total in zip(names, values, balance, strict=True):
            if np.abs(row).max(initial=0.0) > ROUNDING or (ends and abs(total) > ROUNDING):
                rows.append([name, *(_amount(v) for v in row), *([float(total)] if ends else [])])
        rows.append(["Sum", *map(float, values.sum(axis=0)), *([float(balance.sum())] if ends else [])])
        columns = [Column("Account"), *(Column(f"{item[:1].upper()}{item[1:]}", "EUR") for item in map(str, items))]
        title = "Settlement: who pays whom" + (f" ({number + 1} of {count})" if count > 1 else "")
        note = "> 0 is received, < 0 is paid." + (" Total: of all items of the account." if ends else "")
        tables.append(
            table(title, [*columns, *([Column("Total", "EUR")] if ends else [])], rows, note=note, total=True)
        )
    return tables


def _amount(value: float) -> float | str:
    """Leave an account that a payment does not touch blank."""
    return "" if value == 0.0 else float(value)


def profits(chain: Chain) -> Table:
    """Return the profit of every BSP over both markets: what it received less its true cost."""
    data = chain.settlement.data
    leading = {bidding.bsp for bidding in chain.bidding}
    rows: list[list[float | str]] = []
    for bsp in (str(name) for name in data.indexes[BSP]):
        received = float(data.payment.sel({ACCOUNT: bsp_account(bsp)}).sum())
        profit = float(data.profit.sel({BSP: bsp}).sum())
        rows.append([f"{bsp} (leader)" if bsp in leading else bsp, received, received - profit, profit])
    columns = [Column("BSP"), Column("Received", "EUR"), Column("True cost", "EUR"), Column("Profit", "EUR")]
    return table("Settlement: profits", columns, rows)


def shares(chain: Chain, figures: xr.Dataset | None = None) -> Table:
    """Return imbalance energy, where it came from, and the shares, after each of the two markets."""
    found = indicators(chain) if figures is None else figures
    rows: list[list[float | str]] = []
    for stage in found.indexes[STAGE]:
        at = found.sel({STAGE: stage})
        energies = [
            float(at[name].sel({DIRECTION: d}))
            for name in ("imbalance_energy", "local_energy", "tbm_energy")
            for d in at.indexes[DIRECTION]
        ]
        parts = [100 * float(at[name]) for name in ("local_share", "tbm_share", "netting_share")]
        rows.append([str(stage), *energies, *parts])
    names = ("Imbalance", "Local", "TBM")
    columns = [
        Column("After market"),
        *(Column(f"{name} {d}", "MWh") for name in names for d in found.indexes[DIRECTION]),
        Column("Local share", "%"), Column("TBM share", "%"), Column("Netting share", "%"),
    ]  # fmt: skip
    note = (
        "Shares of the gross imbalance energy: of the feeders, then of feeders and transmission grid together. "
        f"\nNot served {figure(float(found.energy_not_served), 'MWh')} MWh."
    )
    return table("Indicators: energy", columns, rows, note=note)


def savings(chain: Chain, figures: xr.Dataset | None = None) -> Table:
    """Return costs and savings against the TBM alone, by market and by what a cost is."""
    found = indicators(chain) if figures is None else figures
    rows: list[list[float | str]] = []
    for stage in found.indexes[STAGE]:
        for measure in found.indexes[MEASURE]:
            at = found.sel({STAGE: stage, MEASURE: measure})
            rows.append(
                [str(stage), str(measure), float(at.cost_before), float(at.cost_after),
                 _saving(float(at.saving))]
            )  # fmt: skip
    columns = [
        Column("After market"), Column("Cost as"), Column("TBM alone C0", "EUR"), Column("With local bids C1", "EUR"),
        Column("Saving 1 − C1/C0", "%"),
    ]  # fmt: skip
    return table("Indicators: savings", columns, rows)


def _saving(saving: float) -> float | str:
    return UNDEFINED if np.isnan(saving) else 100 * saving


def certificates(chain: Chain) -> Table | None:
    """Return what was checked about the leader's offers, the worst of all parts; None where nobody leads."""
    if not chain.bidding:
        return None
    found = [bidding.certificate for bidding in chain.bidding]
    rows = []
    for name in dict.fromkeys(check.name for one in found for check in one.checks):
        checks = [one[name] for one in found if any(check.name == name for check in one.checks)]
        worst = max(checks, key=lambda check: (not check.ok, check.share))
        holds = "yes" if worst.ok else "NO"
        rows.append([name, f"{worst.value:.2g}", f"{worst.tolerance:.2g}", holds, worst.reason])
    columns = [Column("Check"), Column("Found"), Column("Allowed"), Column("Holds"), Column("Why this tolerance")]
    names = " and ".join(dict.fromkeys(bidding.bsp for bidding in chain.bidding))
    word = "holds" if all(one.ok for one in found) else "DOES NOT HOLD"
    return table(f"Certificate of the offers of {names}: {word}", columns, rows, note="\n".join(_about(chain.bidding)))


def _about(parts: tuple[StrategicBidding, ...]) -> list[str]:
    """Say how the offers were found, what they are worth, and what else could be."""
    found = [bidding.certificate for bidding in parts]
    ways: dict[str, int] = {}
    for one in found:
        for method, count in one.methods.items():
            ways[method] = ways.get(method, 0) + count
    counts = ", ".join(f"{count} by {method}" for method, count in ways.items())
    pairs, dropped = sum(one.pairs for one in found), sum(one.dropped for one in found)
    optimum, gap = sum(part.objective for part in parts), max(part.revenue_gap for part in parts)
    several = "; ".join(one.several_at for one in found if not one.unique)
    unique = f"not unique, the decision that suits the leader was taken: {several}" if several else "unique"
    said = [
        f"Independent parts: {counts}. Complementarity pairs: {pairs}, of which bounds decide {dropped}.",
        f"Leader's optimum {figure(optimum, 'EUR')} EUR; its linear payment (11) is {gap:.2g} EUR off.",
        shorten(f"DSO's decision: {unique}", LONGEST_LABEL, placeholder=" …"),
    ]
    return [*said, *(failure for one in found for failure in one.failures)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a comparison says about one run; made by `outcome`.

    Parameters
    ----------
    leader : str
        The strategic BSP; empty where nobody leads.
    at_cost, expected, leading, whole_chain : float
        The leader's profit [EUR]: in the distribution markets when it bids its cost, as it
        expects with its offers (ties in its favour), as these are cleared by the tie rule,
        and over both markets; NaN where nobody leads.
    mean_price : float
        Nodal price, mean over buses and periods by duration [EUR/MWh].
    local_share : float
        After the distribution market, of the gross imbalance energy.
    saving : float
        As payment, after the distribution market; NaN where it is undefined.
    certified : bool or None
        Whether the certificate holds; None where there is none.
    """

    leader: str
    at_cost: float
    expected: float
    leading: float
    whole_chain: float
    mean_price: float
    local_share: float
    saving: float
    certified: bool | None


def profit_of(bsp: str, market: BalancingMarket, clearing: DsoClearing) -> float:
    """Return the profit of a BSP in a clearing of the distribution markets [EUR]: payment less true cost."""
    offered = as_cleared(market, clearing.flat)
    return float(leader_payment.profit_of(offered, market.bids.of(bsp), clearing.flat).sum())


def outcome(chain: Chain) -> Outcome:
    """Return what a comparison says about a run.

    Parameters
    ----------
    chain : Chain
        A run in which nobody or one BSP leads.
    """
    found = indicators(chain).sel({STAGE: "distribution", MEASURE: "payment"})
    price = chain.clearing.flat.nodal_price.mean(BUS)
    duration = chain.market.duration
    every = chain.bidding
    names = list(dict.fromkeys(bidding.bsp for bidding in every))
    profit = chain.settlement.data.profit
    return Outcome(
        leader=", ".join(names),
        at_cost=sum((profit_of(b.bsp, b.market, b.truthful) for b in every), 0.0) if every else np.nan,
        expected=sum((b.objective for b in every), 0.0) if every else np.nan,
        leading=sum(profit_of(name, chain.market, chain.clearing) for name in names) if names else np.nan,
        whole_chain=sum(float(profit.sel({BSP: name}).sum()) for name in names) if names else np.nan,
        mean_price=float((price * duration).sum() / duration.sum()),
        local_share=float(found.local_share),
        saving=float(found.saving),
        certified=all(b.certificate.ok for b in every) if every else None,
    )


def behaviour_table(outcomes: Mapping[str, Outcome | str]) -> Table:
    """Put behaviours side by side.

    Parameters
    ----------
    outcomes : mapping name of the behaviour → Outcome or str
        What each run gave (`outcome`); a text says why a run gave nothing.

    Returns
    -------
    rich.table.Table
        A row for each behaviour.
    """
    rows: list[list[float | str]] = []
    reasons = []
    for name, found in outcomes.items():
        if isinstance(found, str):
            reasons.append(f"{name}: {found}")
            rows.append([name, *([np.nan] * 7), "no result"])
            continue
        held = {None: "-", True: "holds", False: "FAILS"}[found.certified]
        rows.append(
            [name, found.at_cost, found.expected, found.leading, found.whole_chain, found.mean_price,
             100 * found.local_share, _saving(found.saving), held]
        )  # fmt: skip
    columns = [
        Column("Behaviour"), Column("Leader's profit at cost", "EUR"), Column("expected", "EUR"),
        Column("cleared", "EUR"), Column("both markets", "EUR"), Column("Mean nodal price", "EUR/MWh"),
        Column("Local share", "%"), Column("Saving as payment", "%"), Column("Certificate"),
    ]  # fmt: skip
    said = (
        "After the distribution market; rivals of a leader bid as given. Leader's profit when it bids its cost, as it\n"
        "expects with its offers, as these offers are cleared (losses anew, ties by rule), and over both markets."
    )
    note = "\n".join([said, *reasons])
    return table("Comparison of behaviours", columns, rows, note=note)
