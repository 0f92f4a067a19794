"""Accounts and items of a settlement: their names, their order, and sums over parts."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.sparse import csr_array

from hiermarket.labels import PERIOD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hiermarket.solving.program import Floats

ACCOUNT, ITEM = "account", "item"

#: On the dimension ``account``: what kind of account it is, and whose feeder's ("" for none).
KIND_OF, FEEDER_OF = "account_kind", "account_feeder"


class Kind(StrEnum):
    """What an account is."""

    DSO = "DSO"
    BSP = "BSP"
    TSO = "TSO"
    PAYERS = "imbalance payers"
    LOSSES = "congestion and losses"
    PROVIDER = "transmission provider"
    GRID_PAYERS = "imbalance payers transmission"
    DIFFERENCE = "price difference at the interfaces"
    PRICING = "residual of the pricing rule"
    DUAL = "surplus of dual imbalance prices"
    RENT = "congestion rent transmission"


#: The kinds in the order of the accounts; those of a feeder stand side by side.
ORDER = {
    Kind.BSP: 1, Kind.TSO: 2, Kind.PROVIDER: 4, Kind.GRID_PAYERS: 5, Kind.DIFFERENCE: 6, Kind.RENT: 7,
    Kind.PRICING: 8, Kind.DUAL: 9,
}  # fmt: skip

#: The account of all feeders together for each kind that every feeder has.
TOGETHER = {
    Kind.DSO: "all DSOs",
    Kind.PAYERS: "all imbalance payers",
    Kind.LOSSES: "all congestion and losses",
}


class Item(StrEnum):
    """What a payment is for, in order."""

    ACTIVATION = "local activation"
    TBM_ENERGY = "energy from the TBM"
    INTERFACE = "energy over the interface"
    IMBALANCE = "local imbalance"
    NOT_SERVED = "energy not served"
    DUAL = "dual imbalance price"
    CONGESTION = "congestion and voltage"
    LOSSES = "losses"
    BOTH = "congestion and losses"
    PRICING = "pricing rule"
    UPLIFT = "uplift"
    FORWARDED = "forwarded activation"
    GRID_ACTIVATION = "transmission activation"
    GRID_IMBALANCE = "transmission imbalance"
    GRID_NOT_SERVED = "transmission energy not served"
    DIFFERENCE = "price difference"
    RENT = "congestion rent"


class Account(NamedTuple):
    """Somebody who pays and receives."""

    name: str
    kind: Kind
    feeder: str = ""


def bsp_account(bsp: str) -> str:
    """Return the account of a local provider."""
    return f"BSP {bsp}" if not bsp.startswith("BSP") else bsp


def of_feeder(kind: Kind, feeder: str) -> Account:
    """Return the account of a kind that every feeder has."""
    return Account(f"{kind} {feeder}", kind, feeder)


def of_kind(kind: Kind) -> Account:
    """Return the only account of a kind."""
    return Account(kind.value, kind)


class Book:
    """Amounts by account and item; who books a payment books both of its sides."""

    def __init__(self, periods: pd.DatetimeIndex) -> None:
        self._periods = periods
        self._entries: list[tuple[Item, list[Account], Floats]] = []

    def book(self, item: Item, accounts: Sequence[Account], received: Floats) -> None:
        """Book what accounts receive for an item, (account, period) [EUR], < 0 is paid."""
        self._entries.append((item, list(accounts), received))

    def pay(self, item: Item, giver: Account, taker: Account, amount: Floats) -> None:
        """Book a payment (period) [EUR] from one account to another."""
        self.book(item, [giver, taker], np.stack([-amount, amount]))

    def array(self) -> xr.DataArray:
        """Return payment (account, item, period), accounts and items in their order."""
        accounts = in_order([account for _, some, _ in self._entries for account in some])
        booked = {item for item, _, _ in self._entries}
        items = [item for item in Item if item in booked]
        row = {account: number for number, account in enumerate(accounts)}
        values = np.zeros((len(accounts), len(items), len(self._periods)))
        for item, some, received in self._entries:
            # an account may occur twice in one entry
            np.add.at(values[:, items.index(item)], [row[account] for account in some], received)
        return labelled(values, accounts, [item.value for item in items], self._periods)


def in_order(accounts: Sequence[Account]) -> list[Account]:
    """Return each account once, in the order of every settlement.

    The first feeder's DSO, local providers, the TSO; then the other accounts feeder by
    feeder, transmission providers, and those of the transmission grid. Within these, as
    they first appear.
    """
    once = list(dict.fromkeys(accounts))
    first = next((account for account in once if account.kind is Kind.DSO), None)
    feeder = {name: number for number, name in enumerate(dict.fromkeys(account.feeder for account in once))}
    kind = {name: number for number, name in enumerate(Kind)}

    def place(account: Account) -> tuple[int, int, int]:
        if account.kind in ORDER:
            return ORDER[account.kind], 0, 0
        return 0 if account == first else 3, feeder[account.feeder], kind[account.kind]

    return sorted(once, key=place)


def labelled(
    values: Floats, accounts: Sequence[Account], items: Sequence[str], periods: pd.DatetimeIndex
) -> xr.DataArray:
    """Put payments (account, item, period) under their labels."""
    coords = {
        ACCOUNT: np.array([account.name for account in accounts], dtype=str),
        KIND_OF: (ACCOUNT, np.array([account.kind.value for account in accounts], dtype=str)),
        FEEDER_OF: (ACCOUNT, np.array([account.feeder for account in accounts], dtype=str)),
        ITEM: np.array(items, dtype=str),
        PERIOD: periods,
    }
    return xr.DataArray(values, dims=(ACCOUNT, ITEM, PERIOD), coords=coords)


def accounts_of(payment: xr.DataArray) -> list[Account]:
    """Return the accounts of payments."""
    names = zip(payment[ACCOUNT].values, payment[KIND_OF].values, payment[FEEDER_OF].values, strict=True)
    return [Account(str(name), Kind(str(kind)), str(feeder)) for name, kind, feeder in names]


def join_payments(parts: Sequence[xr.DataArray]) -> xr.DataArray:
    """Add payments (account, item, period) of parts up, account by account and item by item."""
    book = Book(pd.DatetimeIndex(parts[0].indexes[PERIOD]))
    for part in parts:
        accounts = accounts_of(part)
        for item, received in zip(part[ITEM].values, part.transpose(ITEM, ACCOUNT, PERIOD).values, strict=True):
            book.book(Item(str(item)), accounts, received)
    return book.array()


def together(payment: xr.DataArray) -> xr.DataArray:
    """Add up the accounts that every feeder has, kind by kind (`TOGETHER`)."""
    named = [
        Account(TOGETHER[account.kind], account.kind) if account.feeder else account for account in accounts_of(payment)
    ]
    book = Book(pd.DatetimeIndex(payment.indexes[PERIOD]))
    for item, received in zip(payment[ITEM].values, payment.transpose(ITEM, ACCOUNT, PERIOD).values, strict=True):
        book.book(Item(str(item)), named, received)
    return book.array()


def sums(values: Floats, group: NDArray[np.intp], count: int) -> Floats:
    """Sum rows (row, period) by group, (count, period); NaN counts as nothing."""
    known = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
    ones = (np.ones(len(group)), (group, np.arange(len(group))))
    return np.asarray(csr_array(ones, shape=(count, len(group))) @ known, dtype=float)
