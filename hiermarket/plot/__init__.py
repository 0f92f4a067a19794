"""Pictures of results, one function for each; matplotlib is loaded by the first that draws."""

from hiermarket.plot.capability import capability as capability
from hiermarket.plot.feeder_map import feeder_map as feeder_map
from hiermarket.plot.merit_order import merit_order as merit_order
from hiermarket.plot.prices import activation as activation
from hiermarket.plot.prices import nodal_prices as nodal_prices
from hiermarket.plot.prices import prices as prices
from hiermarket.plot.settlement import settlement as settlement

__all__ = ["activation", "capability", "feeder_map", "merit_order", "nodal_prices", "prices", "settlement"]
