"""The day on IEEE 33 beside the figures of the paper: its data are not public, only the situation is the same."""

import pytest

import hiermarket as hm
from hiermarket.stages.coordination import run_chain
from tests.reproduced.page import check, tables

#: Khojasteh et al. 2023; the last one follows from the others: 1 − 0.2432 = 0.3236 + 0.6764 ρ.
PUBLISHED = {"tbm": 32.36, "local": 67.64, "saving": 24.32, "ratio": 0.640}


WORDS = {"tbm": "share of the TBM", "local": "local share", "saving": "saving", "ratio": "local price"}


@pytest.fixture(scope="module")
def ours():
    rows = {}
    for who, behaviour in (("truthful", hm.Truthful()), ("BSP 1 leads", hm.OneLeader("BSP 1"))):
        found = hm.indicators(run_chain(hm.load_case("ieee33"), hm.Options(behaviour=behaviour)))
        found = found.sel(stage="distribution")
        tbm, local = float(found.tbm_share), float(found.local_share)
        saving = float(found.saving.sel(measure="payment"))
        if not rows:
            rows["gross imbalance energy [MWh]"] = float(found.imbalance_energy.sum())
        rows |= {
            f"{who}: share of the TBM [%]": 100 * tbm,
            f"{who}: local share [%]": 100 * local,
            f"{who}: saving as payment [%]": 100 * saving,
            f"{who}: local price by that of the TBM": (1 - saving - tbm) / local,
        }
    return rows


def test_the_identity_of_the_published_figures():
    ratio = (1 - PUBLISHED["saving"] / 100 - PUBLISHED["tbm"] / 100) / (PUBLISHED["local"] / 100)
    assert ratio == pytest.approx(PUBLISHED["ratio"], abs=5e-4)


def test_the_page(ours):
    check("day", ours)
    for figure, row in tables()["day"].items():
        kind = next((kind for kind, word in WORDS.items() if word in figure), None)
        assert float(row.published) == (PUBLISHED[kind] if kind else 4.672), figure
