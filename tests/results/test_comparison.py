"""Schemes side by side: numbers by hand, what has no result, files, and the table."""

import numpy as np
import pandas as pd
import pytest

import hiermarket as hm
from hiermarket.results.comparison import SCHEME
from hiermarket.results.table import texts
from hiermarket.solving.solver import Outcome, failure

LOSSLESS = hm.LinDistFlow(loss_passes=0)
SCHEMES = (hm.TsoOnly(), hm.LocalOnly(), hm.Fragmented(), hm.Sequential(), hm.Common())


@pytest.fixture(scope="module")
def two_bus():
    return hm.load_case("two_bus")


class Unable:
    """Another one, that cannot treat the market."""

    name = "unable"

    def coordinate(self, market, *, grid, solver):
        raise hm.ModelError("No such market", where="here", remedy="Take another.")


@pytest.fixture(scope="module")
def found(two_bus):
    return hm.compare(two_bus, SCHEMES, grid=LOSSLESS)


class Hopeless:
    """A scheme of the user's own, that fails."""

    name = "hopeless"

    def coordinate(self, market, *, grid, solver):
        raise failure(Outcome.INFEASIBLE, what="Nothing", where="nowhere", status="infeasible")


def test_costs_by_payer_by_hand(found):
    """Deficit 0.5 MW for an hour; A 0.2 MW up at 30, B 0.3 MW down at 25, the TBM at 60, lost load at 1000."""
    cost = found.data.cost_to_payer
    bid = cost.sel(measure="bid cost")
    # the DSO buys 0.5 MW at 60; A (6) and nothing; A and 0.3 MW at 60 …
    assert bid.sel(payer="DSOs").values.tolist() == pytest.approx([30.0, 6.0, 24.0, 24.0, 24.0])
    # … which the TSO has bought at 60 before
    np.testing.assert_allclose(bid.sel(payer="TSO"), 0.0, atol=1e-9)
    # A is paid the price of 60; where 0.3 MW are not served the price is 1000, and A is paid 200
    paid = cost.sel(measure="payment")
    assert paid.sel(payer="DSOs").values.tolist() == pytest.approx([30.0, 200.0, 30.0, 30.0, 30.0])
    # the imbalance of 0.5 MW pays that price, less what it does not get
    assert paid.sel(payer="imbalance payers").values.tolist() == pytest.approx([30.0, 200.0, 30.0, 30.0, 30.0])
    assert found.data.system_cost.values.tolist() == pytest.approx([30.0, 306.0, 24.0, 24.0, 24.0])
    assert found.data.lost_load_cost.values.tolist() == pytest.approx([0.0, 300.0, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(
        found.data.total_cost, found.data.cost_to_payer.sel(payer=["DSOs", "TSO"]).sum("payer"), atol=1e-9
    )


def test_shares_prices_volumes_by_hand(found):
    data = found.data
    assert data.local_share.values.tolist() == pytest.approx([0.0, 0.4, 0.4, 0.4, 0.4])
    assert data.tbm_share.values.tolist() == pytest.approx([1.0, 0.0, 0.6, 0.6, 0.6])
    assert data.energy_not_served.values.tolist() == pytest.approx([0.0, 0.3, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(data.netting_share, 0.0, atol=1e-9)
    assert data.nodal_prices.sel(statistic="mean").values.tolist() == pytest.approx([60.0, 1000.0, 60.0, 60.0, 60.0])
    assert data.interface_prices.sel(statistic="highest").sel(scheme="common").item() == pytest.approx(60.0)
    # B's 0.3 MW down are left, and forwarded by the hierarchy alone
    down = data.forwarded_energy.sel(direction="down")
    assert down.values.tolist() == pytest.approx([0.0, 0.0, 0.0, 0.3, 0.0])
    assert data.withheld_energy.isnull().values.tolist() == [True, True, True, False, True]
    np.testing.assert_allclose(data.account_balance.sum("kind"), 0.0, atol=1e-9)
    assert (data.seconds > 0).all()


def test_what_really_flows_is_paid_at_the_price_of_the_interface(found, two_bus):
    """Without losses in the clearing, the AC power flow imports what the branch loses: r (P² + Q²) at about 1 p.u."""
    lost = found.data.mismatch_energy.sel(scheme="TSO only").item()
    # r = 0.01, P = 0.5 MW: 0.0025 MW; the voltage at the end makes it a little more
    assert lost == pytest.approx(0.0025, rel=0.05)
    assert found.data.mismatch_cost.sel(scheme="TSO only").item() == pytest.approx(60 * lost)
    np.testing.assert_allclose(found.data.ac_cost, found.data.system_cost + found.data.mismatch_cost)
    exact = hm.compare(two_bus, [hm.TsoOnly(), hm.Common()])
    np.testing.assert_allclose(exact.data.mismatch_energy, 0.0, atol=1e-6)


def test_a_scheme_without_a_result_sinks_no_other(two_bus):
    told = []
    found = hm.compare(two_bus, [Hopeless(), Unable(), hm.TsoOnly()], grid=LOSSLESS, progress=told.append)
    assert told == ["hopeless", "unable", "TSO only"]
    assert list(found.results) == ["TSO only"]
    assert "Nothing" in found.failures["hopeless"]
    assert "No such market" in found.failures["unable"]
    assert np.isnan(found.data.system_cost.sel(scheme="hopeless"))
    assert found.data.system_cost.sel(scheme="TSO only").item() == pytest.approx(30.0)
    built = hm.scheme_table(found)
    rows = {row[0]: row[1:] for row in texts(built)}
    assert rows["hopeless"][0] == "-"
    assert "no result" in rows["hopeless"]
    assert "hopeless: Nothing" in str(built.caption)


def test_no_scheme_has_a_result(two_bus):
    found = hm.compare(two_bus, [Hopeless()], grid=LOSSLESS)
    assert found.data[SCHEME].values.tolist() == ["hopeless"]
    assert texts(hm.scheme_table(found))[0][1] == "-"


@pytest.mark.parametrize(("schemes", "words"), [([], "no scheme"), ([hm.Common(), hm.Common()], "common")])
def test_names_are_checked(schemes, words, two_bus):
    with pytest.raises(hm.DataError, match=words) as caught:
        hm.compare(two_bus, schemes)
    assert caught.value.faults[0].where == "schemes"


def test_files(found, tmp_path):
    table = pd.read_csv(found.write(tmp_path / "found.csv"), index_col="scheme")
    assert table.loc["common", "system_cost"] == pytest.approx(24.0)
    assert table.loc["local only", "cost_to_payer[imbalance payers,payment]"] == pytest.approx(200.0)
    again = hm.read_results(found.write(tmp_path / "found.nc")).to_dataset()
    assert again.system_cost.sel(scheme="common").item() == pytest.approx(24.0)
    assert again.system_cost.attrs["units"] == "EUR"
    with pytest.raises(hm.DataError, match=r"\.csv"):
        found.write(tmp_path / "found.xlsx")


def test_table(found):
    rows = {row[0]: row[1:] for row in texts(hm.scheme_table(found))}
    assert rows["common"][:4] == [f"{found.data.ac_cost.sel(scheme='common').item():.2f}", "24.00", "0.00", "30.00"]
    assert rows["local only"][9] == "0.300"
    assert rows["TSO only"][10] == "-"
