"""Studies of many feeders: the whole chain, batch by batch, beside what a user would write feeder by feeder.

Every feeder is a copy of the 33-bus feeder's day with loads, imbalance, volumes and prices of its own,
under the 14-bus transmission grid, in quarter-hours where there are 96 periods.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.registry import Answers, Case, Phase, Ratio
from benchmarks.strategic import HAS_PYOMO

if TYPE_CHECKING:
    from distributed import Client

    import hiermarket as hm
    from benchmarks.studies_by_hand import Costs

#: Loss passes after the lossless one.
PASSES = 2


@dataclass(frozen=True, slots=True)
class Copies:
    """The input: a number of copies, and a seed."""

    feeders: int
    periods: int

    def source(self) -> hm.ReplicatedCase:
        """Return the feeders, made batch by batch."""
        import hiermarket as hm

        return hm.ReplicatedCase("ieee33", copies=self.feeders, periods=self.periods, seed=1)

    def market(self) -> hm.BalancingMarket:
        """Return all of them in memory, without the transmission grid."""
        source = self.source()
        with tempfile.TemporaryDirectory() as folder:
            return source.parcel(source.names, Path(folder) / "kept.nc").market()


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run has come to."""

    cost: float
    solves: int
    note: str


def copies(feeders: int, periods: int) -> Copies:
    return Copies(feeders, periods)


def _ran(study: hm.Study, client: Client | None = None) -> Ran:
    import hiermarket as hm

    results = hm.run(study, client=client)
    counts = results.counts
    spent = sum(part.seconds for part in results.parts)
    solved, left_out = int(counts["solves"]), int(counts["screened"])
    cost = float(results["indicators"].flat["cost_after"].sel(stage="transmission", measure="payment"))
    inside = counts["seconds"]
    note = (
        f"{left_out:,} LPs left out ({left_out / (left_out + solved):.1%}), {inside:.2f} s inside the solver "
        f"({inside / spent:.1%} of {spent:.1f} s), {len(study.batches)} batches"
    )
    return Ran(cost, solved, note)


def whole_chain(answers: Answers) -> Ran:
    """Run bids, clearing, safe box, TSO, disaggregation, settlement, indicators in this process."""
    import hiermarket as hm

    with tempfile.TemporaryDirectory() as folder:
        return _ran(hm.Study(answers["build"].source(), folder))


def everything_solved(answers: Answers) -> Ran:
    """Run the same without leaving a single LP out."""
    import hiermarket as hm

    options = hm.Options(solver=hm.SolverOptions(screening=False))
    with tempfile.TemporaryDirectory() as folder:
        return _ran(hm.Study(answers["build"].source(), folder, options=options))


def led(answers: Answers) -> Ran:
    """Run the chain with the largest provider of every feeder leading."""
    import hiermarket as hm

    options = hm.Options(behaviour=hm.OneLeader("BSP 1"))
    with tempfile.TemporaryDirectory() as folder:
        return _ran(hm.Study(answers["build"].source(), folder, options=options))


def with_curves(answers: Answers) -> Ran:
    """Run the chain with the exact offer curve of every feeder and period instead of its safe box."""
    import hiermarket as hm

    options = hm.Options(forwarding=hm.OfferCurve())
    with tempfile.TemporaryDirectory() as folder:
        return _ran(hm.Study(answers["build"].source(), folder, options=options))


def on_workers(number: int) -> Phase:
    """Return a phase that runs the chain on processes of this machine; starting them is part of it."""

    def phase(answers: Answers) -> Ran:
        import hiermarket as hm

        with tempfile.TemporaryDirectory() as folder, hm.local_cluster(number) as client:
            batch = max(1, answers["build"].feeders // 10)
            return _ran(hm.Study(answers["build"].source(), folder, batch=batch), client)

    return phase


def linopy_by_hand(answers: Answers) -> Costs:
    from benchmarks.studies_by_hand import by_linopy

    return by_linopy(*answers["losses"])


def pyomo_by_hand(answers: Answers) -> Costs:
    from benchmarks.studies_by_hand import by_pyomo

    market, passes, _ = answers["losses"]
    return by_pyomo(market, passes)


def losses(answers: Answers) -> tuple[object, object, object]:
    """Hand the market, the losses of each pass and the limits of the boxes to those who write by hand."""
    from benchmarks.studies_by_hand import boxes_of, passes_of

    market = answers["build"].market().truthful()
    return market, passes_of(market, PASSES), boxes_of(market)


def same_costs(answers: Answers) -> None:
    """Clearings by hand must cost what ours do; leaving LPs out must change nothing."""
    import hiermarket as hm

    market = answers["losses"][0]
    cleared = hm.clear_dso(market, grid=hm.LinDistFlow(PASSES)).flat
    recourse = sum(
        cleared[name].fillna(0.0) for name in ("unserved", "spilled", "reactive_shortage", "reactive_surplus")
    )
    lost = (recourse * market.duration * market.rules.value_of_lost_load).sum("period").groupby("bus_feeder").sum()
    ours = cleared["clearing_cost"].sum("period") + lost.rename(bus_feeder="feeder").sel(feeder=cleared["feeder"])
    for phase in ("linopy by hand", "Pyomo by hand"):
        if phase in answers:
            found = answers[phase].of_feeder
            np.testing.assert_allclose([found[str(n)] for n in ours["feeder"].values], ours, rtol=1e-6, err_msg=phase)
    whole = hm.clear_dso(market, grid=hm.LinDistFlow(PASSES))
    forwarded = float(hm.forward(market, whole).flat["forwarded"].sum())
    # bids at one site share its volume; three corner passes settle to about 1e-4
    np.testing.assert_allclose(answers["linopy by hand"].volume, forwarded, rtol=1e-3)
    np.testing.assert_allclose(answers["whole chain"].cost, answers["everything solved"].cost, rtol=1e-6)


def ended(answers: Answers) -> None:
    """Every run must have come to its end, and to the same cost."""
    costs = [answer.cost for answer in answers.values() if isinstance(answer, Ran)]
    np.testing.assert_allclose(costs, costs[0], rtol=1e-6)


def no_dearer(answers: Answers) -> None:
    """Curves hold every box: with them the whole costs no more, but for the losses of another state."""
    curves, boxes = answers["curves"].cost, answers["boxes"].cost
    if not curves <= boxes * (1 + 1e-4):
        raise AssertionError(f"with curves {curves:.2f} EUR, with boxes {boxes:.2f} EUR")


_HAND: dict[str, Phase] = {"linopy by hand": linopy_by_hand}
if HAS_PYOMO:
    _HAND["Pyomo by hand"] = pyomo_by_hand

CASES = (
    Case(
        name="study-by-hand",
        title="The whole chain of N feeders × T periods, against the clearings alone, a model a feeder",
        build=copies,
        sizes=({"feeders": 1, "periods": 4}, {"feeders": 1, "periods": 96}, {"feeders": 10, "periods": 96}),
        phases={"whole chain": whole_chain, "everything solved": everything_solved, "losses": losses, **_HAND},
        agree=same_costs,
        ratios=tuple(Ratio((other,), ("whole chain",)) for other in ("everything solved", *_HAND)),
        remark="by hand: the LPs of three loss passes, in linopy also one safe box; no ties, TSO, power flow, money",
    ),
    Case(
        name="study",
        title="The whole chain of N feeders × T periods, batch by batch, results streamed to files",
        build=copies,
        sizes=(
            {"feeders": 1, "periods": 4},
            {"feeders": 1, "periods": 96},
            {"feeders": 10, "periods": 96},
            {"feeders": 100, "periods": 96},
            {"feeders": 1000, "periods": 96},
        ),
        phases={"whole chain": whole_chain},
        agree=ended,
        grows="feeders",
    ),
    Case(
        name="study-curves",
        title="The whole chain with an offer curve of every feeder and period, beside that with safe boxes",
        build=copies,
        sizes=(
            {"feeders": 1, "periods": 4},
            {"feeders": 10, "periods": 96},
            {"feeders": 100, "periods": 96},
            {"feeders": 1000, "periods": 96},
        ),
        phases={"curves": with_curves, "boxes": whole_chain},
        agree=no_dearer,
        ratios=(Ratio(("boxes",), ("curves",)),),
        grows="feeders",
    ),
    Case(
        name="study-streamed",
        title="Ten thousand feeders in the memory of a batch",
        build=copies,
        sizes=({"feeders": 2, "periods": 4}, {"feeders": 10000, "periods": 96}),
        phases={"whole chain": whole_chain},
        agree=ended,
        long=True,
    ),
    Case(
        name="study-workers",
        title="The whole chain on one worker and on two, with their start",
        build=copies,
        sizes=({"feeders": 2, "periods": 2}, {"feeders": 200, "periods": 96}),
        phases={"one worker": on_workers(1), "two workers": on_workers(2)},
        agree=ended,
        ratios=(Ratio(("one worker",), ("two workers",)),),
    ),
    Case(
        name="study-leader",
        title="The whole chain with a strategic provider in every feeder",
        build=copies,
        sizes=({"feeders": 1, "periods": 2}, {"feeders": 10, "periods": 24}, {"feeders": 100, "periods": 24}),
        phases={"led": led},
        agree=ended,
        grows="feeders",
    ),
)
