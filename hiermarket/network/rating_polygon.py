"""The polygon that stands for the MVA circle of a rating, in (4) of docs/model.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from hiermarket.network.per_unit import Floats

#: The number of sides with which a rating limits the active power alone.
ACTIVE_POWER = 2


class RatingPolygon(NamedTuple):
    """Sides α_j P + β_j Q ≤ S × reach.

    Attributes
    ----------
    cos, sin : array (side)
        α_j and β_j, the normals of the sides.
    reach : float
        Distance of the sides from the origin, as a share of the rating.
    """

    cos: Floats
    sin: Floats
    reach: float


def rating_polygon(sides: int) -> RatingPolygon:
    """Return the regular polygon inscribed in the circle; with two sides the strip |P| ≤ S.

    Parameters
    ----------
    sides : int
        At least 2.

    >>> [float(value.round(9)) for value in rating_polygon(4).cos], round(rating_polygon(4).reach, 6)
    ([1.0, 0.0, -1.0, -0.0], 0.707107)
    >>> rating_polygon(2).sin.tolist(), rating_polygon(2).reach
    ([0.0, 0.0], 1.0)
    """
    if sides == ACTIVE_POWER:
        return RatingPolygon(np.array([1.0, -1.0]), np.zeros(2), 1.0)
    angle = 2 * np.pi * np.arange(sides) / sides
    return RatingPolygon(np.cos(angle), np.sin(angle), float(np.cos(np.pi / sides)))
