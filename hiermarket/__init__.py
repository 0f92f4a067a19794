"""Hierarchical TSO–DSO balancing markets on labelled arrays.

::

    import hiermarket as hm

    market = hm.load_case("ieee33")
    stage1 = hm.bid_strategically(market, "BSP 1")
    forwarded = hm.forward(stage1.market, stage1.clearing, method=hm.SafeBox())
    cleared = hm.clear_tso(stage1.market, stage1.clearing, forwarded)
    final = hm.disaggregate(stage1.market, stage1.clearing, forwarded, cleared)
    settlement = hm.settle(stage1.market, stage1.clearing, cleared, final)

Names are imported when they are first used: ``import hiermarket`` itself loads no library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hiermarket import bilevel as bilevel
    from hiermarket import plot as plot
    from hiermarket.errors import BatchesFailedError as BatchesFailedError
    from hiermarket.errors import CertificateError as CertificateError
    from hiermarket.errors import DataError as DataError
    from hiermarket.errors import HiermarketError as HiermarketError
    from hiermarket.errors import MarketWarning as MarketWarning
    from hiermarket.errors import ModelError as ModelError
    from hiermarket.errors import SolveError as SolveError
    from hiermarket.errors import StudyError as StudyError
    from hiermarket.market.balancing_market import BalancingMarket as BalancingMarket
    from hiermarket.market.balancing_market import Transmission as Transmission
    from hiermarket.market.balancing_market import balancing_market as balancing_market
    from hiermarket.market.bids import bids as bids
    from hiermarket.market.cases import load_case as load_case
    from hiermarket.market.dispatch import dispatch_market as dispatch_market
    from hiermarket.market.generator_bids import generator_bids as generator_bids
    from hiermarket.market.imbalance import tbm_of as tbm_of
    from hiermarket.market.price_convention import PriceConvention as PriceConvention
    from hiermarket.market.resources import EndLevel as EndLevel
    from hiermarket.market.resources import Resources as Resources
    from hiermarket.market.resources import resources as resources
    from hiermarket.market.rules import ImbalancePricing as ImbalancePricing
    from hiermarket.market.rules import MarketRules as MarketRules
    from hiermarket.market.rules import Pricing as Pricing
    from hiermarket.market.scenarios import ScenarioMarket as ScenarioMarket
    from hiermarket.market.storage import Storage as Storage
    from hiermarket.market.storage import energy_safe as energy_safe
    from hiermarket.network.from_pypsa import feeder_from_pypsa as feeder_from_pypsa
    from hiermarket.network.from_pypsa import grid_from_pypsa as grid_from_pypsa
    from hiermarket.network.from_pypsa import load_network as load_network
    from hiermarket.network.grid import Susceptance as Susceptance
    from hiermarket.network.losses import LinDistFlow as LinDistFlow
    from hiermarket.network.losses import Losses as Losses
    from hiermarket.network.power_flow import power_flow as power_flow
    from hiermarket.results.comparison import compare as compare
    from hiermarket.results.indicators import indicators as indicators
    from hiermarket.results.netcdf import read_results as read_results
    from hiermarket.results.netcdf import write_results as write_results
    from hiermarket.results.report import behaviour_table as behaviour_table
    from hiermarket.results.report import outcome as outcome
    from hiermarket.results.report import report as report
    from hiermarket.results.results import result_tree as result_tree
    from hiermarket.results.risk import risk as risk
    from hiermarket.results.scheme_table import scheme_table as scheme_table
    from hiermarket.solving.solver import SolverOptions as SolverOptions
    from hiermarket.stages.baseline import tbm_alone as tbm_alone
    from hiermarket.stages.bidding import bid_strategically as bid_strategically
    from hiermarket.stages.capability import forward as forward
    from hiermarket.stages.common_box import forward_common as forward_common
    from hiermarket.stages.common_clearing import clear_common as clear_common
    from hiermarket.stages.coordination import AllStrategic as AllStrategic
    from hiermarket.stages.coordination import AsBid as AsBid
    from hiermarket.stages.coordination import OneLeader as OneLeader
    from hiermarket.stages.coordination import Options as Options
    from hiermarket.stages.coordination import Truthful as Truthful
    from hiermarket.stages.correction import correct as correct
    from hiermarket.stages.decides import PricesAndVolumes as PricesAndVolumes
    from hiermarket.stages.decides import PricesOnly as PricesOnly
    from hiermarket.stages.diagonalisation import GaussSeidel as GaussSeidel
    from hiermarket.stages.diagonalisation import Jacobi as Jacobi
    from hiermarket.stages.disaggregation import disaggregate as disaggregate
    from hiermarket.stages.dso_clearing import clear_dso as clear_dso
    from hiermarket.stages.equilibrium import find_equilibrium as find_equilibrium
    from hiermarket.stages.forwarding_methods import CommonBox as CommonBox
    from hiermarket.stages.forwarding_methods import Corrective as Corrective
    from hiermarket.stages.forwarding_methods import Individual as Individual
    from hiermarket.stages.forwarding_methods import MaximumRegulation as MaximumRegulation
    from hiermarket.stages.forwarding_methods import OfferCurve as OfferCurve
    from hiermarket.stages.forwarding_methods import SafeBox as SafeBox
    from hiermarket.stages.forwarding_methods import Unfiltered as Unfiltered
    from hiermarket.stages.interface_pricing import price_interface as price_interface
    from hiermarket.stages.price_iteration import FixedPoint as FixedPoint
    from hiermarket.stages.price_iteration import price_gap as price_gap
    from hiermarket.stages.resource_safety import safe_volumes as safe_volumes
    from hiermarket.stages.risk import CVaR as CVaR
    from hiermarket.stages.risk import Expectation as Expectation
    from hiermarket.stages.scenario_runs import ScenarioChain as ScenarioChain
    from hiermarket.stages.schemes import Common as Common
    from hiermarket.stages.schemes import Fragmented as Fragmented
    from hiermarket.stages.schemes import LocalOnly as LocalOnly
    from hiermarket.stages.schemes import Sequential as Sequential
    from hiermarket.stages.schemes import TsoOnly as TsoOnly
    from hiermarket.stages.settlement import settle as settle
    from hiermarket.stages.tso_clearing import clear_tso as clear_tso
    from hiermarket.stages.two_stage import TwoStageClearing as TwoStageClearing
    from hiermarket.stages.two_stage import clear_two_stage as clear_two_stage
    from hiermarket.study.cluster import local_cluster as local_cluster
    from hiermarket.study.network_files import NetworkFiles as NetworkFiles
    from hiermarket.study.network_files import TransmissionFiles as TransmissionFiles
    from hiermarket.study.opened import StudyResults as StudyResults
    from hiermarket.study.opened import open_study as open_study
    from hiermarket.study.progress import Progress as Progress
    from hiermarket.study.replicated import ReplicatedCase as ReplicatedCase
    from hiermarket.study.report import study_report as study_report
    from hiermarket.study.run import run as run
    from hiermarket.study.study import OnFailure as OnFailure
    from hiermarket.study.study import Study as Study
    from hiermarket.study.study_file import read_study as read_study

#: Where each public name lives; "" stands for a package of this one.
_HOME = {
    "AllStrategic": "stages.coordination",
    "AsBid": "stages.coordination",
    "BalancingMarket": "market.balancing_market",
    "BatchesFailedError": "errors",
    "CVaR": "stages.risk",
    "CertificateError": "errors",
    "Common": "stages.schemes",
    "CommonBox": "stages.forwarding_methods",
    "Corrective": "stages.forwarding_methods",
    "DataError": "errors",
    "EndLevel": "market.resources",
    "FixedPoint": "stages.price_iteration",
    "Fragmented": "stages.schemes",
    "Expectation": "stages.risk",
    "GaussSeidel": "stages.diagonalisation",
    "HiermarketError": "errors",
    "ImbalancePricing": "market.rules",
    "Individual": "stages.forwarding_methods",
    "Jacobi": "stages.diagonalisation",
    "LinDistFlow": "network.losses",
    "LocalOnly": "stages.schemes",
    "Losses": "network.losses",
    "MarketRules": "market.rules",
    "MarketWarning": "errors",
    "MaximumRegulation": "stages.forwarding_methods",
    "ModelError": "errors",
    "NetworkFiles": "study.network_files",
    "OfferCurve": "stages.forwarding_methods",
    "OnFailure": "study.study",
    "OneLeader": "stages.coordination",
    "Options": "stages.coordination",
    "PriceConvention": "market.price_convention",
    "PricesAndVolumes": "stages.decides",
    "PricesOnly": "stages.decides",
    "Pricing": "market.rules",
    "Progress": "study.progress",
    "ReplicatedCase": "study.replicated",
    "Resources": "market.resources",
    "SafeBox": "stages.forwarding_methods",
    "Sequential": "stages.schemes",
    "ScenarioChain": "stages.scenario_runs",
    "ScenarioMarket": "market.scenarios",
    "SolveError": "errors",
    "SolverOptions": "solving.solver",
    "Storage": "market.storage",
    "Study": "study.study",
    "StudyError": "errors",
    "StudyResults": "study.opened",
    "Susceptance": "network.grid",
    "Transmission": "market.balancing_market",
    "TransmissionFiles": "study.network_files",
    "Truthful": "stages.coordination",
    "TsoOnly": "stages.schemes",
    "TwoStageClearing": "stages.two_stage",
    "Unfiltered": "stages.forwarding_methods",
    "balancing_market": "market.balancing_market",
    "behaviour_table": "results.report",
    "bid_strategically": "stages.bidding",
    "bids": "market.bids",
    "bilevel": "",
    "clear_common": "stages.common_clearing",
    "clear_dso": "stages.dso_clearing",
    "clear_tso": "stages.tso_clearing",
    "clear_two_stage": "stages.two_stage",
    "compare": "results.comparison",
    "correct": "stages.correction",
    "disaggregate": "stages.disaggregation",
    "dispatch_market": "market.dispatch",
    "energy_safe": "market.storage",
    "feeder_from_pypsa": "network.from_pypsa",
    "find_equilibrium": "stages.equilibrium",
    "forward": "stages.capability",
    "generator_bids": "market.generator_bids",
    "forward_common": "stages.common_box",
    "grid_from_pypsa": "network.from_pypsa",
    "indicators": "results.indicators",
    "load_case": "market.cases",
    "load_network": "network.from_pypsa",
    "local_cluster": "study.cluster",
    "open_study": "study.opened",
    "outcome": "results.report",
    "plot": "",
    "power_flow": "network.power_flow",
    "price_gap": "stages.price_iteration",
    "price_interface": "stages.interface_pricing",
    "read_results": "results.netcdf",
    "read_study": "study.study_file",
    "report": "results.report",
    "resources": "market.resources",
    "result_tree": "results.results",
    "risk": "results.risk",
    "run": "study.run",
    "safe_volumes": "stages.resource_safety",
    "scheme_table": "results.scheme_table",
    "settle": "stages.settlement",
    "study_report": "study.report",
    "tbm_alone": "stages.baseline",
    "tbm_of": "market.imbalance",
    "write_results": "results.netcdf",
}

__all__ = sorted(_HOME)  # noqa: PLE0605  (a list, made from the table above)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'hiermarket' has no attribute {name!r}")
    home = _HOME[name]
    if not home:
        return import_module(f"hiermarket.{name}")
    return getattr(import_module(f"hiermarket.{home}"), name)


def __dir__() -> list[str]:
    return list(__all__)
