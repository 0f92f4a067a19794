"""The ways in which a DSO finds what it forwards, as options."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol


class ForwardingMethod(Protocol):
    """What every forwarding method tells."""

    @property
    def undo(self) -> bool:
        """Whether activated volume may be undone (a DSO's up activation offered back down)."""


@dataclass(frozen=True, slots=True)
class SafeBox:
    """(13): the largest box of volumes in which **every** point is safe for the grid.

    Any part of any forwarded bid, up and down together, keeps every limit: the TSO needs
    no knowledge of the grid.

    Parameters
    ----------
    undo : bool
        Whether activated volume may be undone (a DSO's up activation offered back down).
    corner_passes : int
        Re-solves with the losses linearised at both corners of the last box.
    """

    undo: bool = False
    corner_passes: int = 3


@dataclass(frozen=True, slots=True)
class CommonBox(SafeBox):
    """(48): one box of volumes for all scenarios, in which every point is safe in each of them.

    What is forwarded is decided before the scenario is known. In a market without scenarios it
    is the `SafeBox`.
    """


@dataclass(frozen=True, slots=True)
class MaximumRegulation:
    """(12): the most upward and, apart from it, the most downward volume the grid carries.

    The full upward volume is safe, and the full downward volume is; a part of either, or
    a mix of both, need not be. Ties: cheapest first.

    Parameters
    ----------
    undo : bool
        Whether activated volume may be undone.
    corner_passes : int
        Re-solves with the losses linearised at the last result.
    """

    undo: bool = False
    corner_passes: int = 3


@dataclass(frozen=True, slots=True)
class OfferCurve:
    """(14): what moving the interface costs, as a convex curve of price steps.

    The DSO offers steps at its interface instead of bids, and turns what the TSO takes of
    them into activations that its grid carries. With `undo` the curve is the feeder's
    whole value function: the TSO's result is then the common optimum of all grids.

    Parameters
    ----------
    undo : bool
        Whether activated volume may be undone.
    """

    undo: bool = True


@dataclass(frozen=True, slots=True)
class Individual:
    """(15): the most of each bid that the grid carries while nothing else moves.

    Every bid is safe by itself; two of them together need not be.

    Parameters
    ----------
    undo : bool
        Whether activated volume may be undone.
    """

    undo: bool = False


@dataclass(frozen=True, slots=True)
class Unfiltered:
    """(16): everything that is left, whatever the grid says.

    Parameters
    ----------
    undo : bool
        Whether activated volume may be undone.
    """

    undo: bool = False


@dataclass(frozen=True, slots=True)
class Corrective:
    """(17): everything is forwarded, the TSO clears, and the DSO repairs what its grid cannot carry.

    What the DSO cannot deliver after its repair the TSO buys from its own grid.

    Parameters
    ----------
    undo : bool
        Whether activated volume may be undone, by the TSO and in the repair.
    """

    undo: bool = True


class Forwarding(StrEnum):
    """The forwarding methods by the names with which files and the command line call them."""

    SAFE_BOX = "safe-box"
    MAXIMUM_REGULATION = "maximum-regulation"
    OFFER_CURVE = "offer-curve"
    INDIVIDUAL = "individual"
    UNFILTERED = "unfiltered"
    CORRECTIVE = "corrective"

    def method(self, *, undo: bool | None = None) -> ForwardingMethod:
        """Return the method.

        Parameters
        ----------
        undo : bool, optional
            Whether activated volume may be undone; as the method has it by default.

        >>> Forwarding("offer-curve").method()
        OfferCurve(undo=True)
        """
        kind = _METHODS[self]
        return kind() if undo is None else kind(undo=undo)


_Method = SafeBox | MaximumRegulation | OfferCurve | Individual | Unfiltered | Corrective

_METHODS: Final[dict[Forwarding, type[_Method]]] = {
    Forwarding.SAFE_BOX: SafeBox,
    Forwarding.MAXIMUM_REGULATION: MaximumRegulation,
    Forwarding.OFFER_CURVE: OfferCurve,
    Forwarding.INDIVIDUAL: Individual,
    Forwarding.UNFILTERED: Unfiltered,
    Forwarding.CORRECTIVE: Corrective,
}

#: Every method.
METHODS: Final = tuple(_METHODS.values())
