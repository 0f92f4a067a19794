"""The names of the dimensions, and the way between flat and named labels.

Inside models, buses of all feeders lie along one dimension ``bus`` with unique
labels (``"north/18"``) and bids along one dimension ``bid``; results of the public
stages are unstacked to the named dimensions of the nomenclature.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

FEEDER: Final = "feeder"
BUS: Final = "bus"
PERIOD: Final = "period"
BSP: Final = "bsp"
BLOCK: Final = "block"
DIRECTION: Final = "direction"
BID: Final = "bid"
LINE: Final = "line"
RESOURCE: Final = "resource"
SCENARIO: Final = "scenario"

#: Between the feeder's name and the bus's name in a flat bus label.
SEPARATOR: Final = "/"

#: The dimensions of a bid array in public results, in order.
BID_DIMS: Final = (FEEDER, BSP, BUS, BLOCK, DIRECTION, PERIOD)


class Direction(StrEnum):
    """Direction of regulation, as seen by the system."""

    UP = "up"
    """More injection or less load: the BSP is paid the price."""
    DOWN = "down"
    """Less injection or more load: the BSP pays the price."""

    @property
    def sign(self) -> int:
        """σ of the equations: +1 for up, −1 for down."""
        return 1 if self is Direction.UP else -1


DIRECTIONS: Final = (Direction.UP.value, Direction.DOWN.value)


def flat_bus(feeder: str, bus: str) -> str:
    """Return the unique label of a bus among all feeders.

    >>> flat_bus("north", "18")
    'north/18'
    """
    return f"{feeder}{SEPARATOR}{bus}"


def resource_label(feeder: str, resource: str) -> str:
    """Return the unique label of a resource.

    >>> resource_label("north", "Battery")
    'north/Battery'
    """
    return f"{feeder}{SEPARATOR}{resource}"


def bid_label(feeder: str, bsp: str, bus: str, block: int, direction: str) -> str:
    """Return the unique label of a bid.

    >>> bid_label("north", "A", "18", 0, "up")
    'north/A/18/0/up'
    """
    return SEPARATOR.join((feeder, bsp, bus, str(block), direction))
