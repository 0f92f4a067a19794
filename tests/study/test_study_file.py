"""A study in TOML: what it may say, and every fault of it in one error."""

from __future__ import annotations

import pytest

import hiermarket as hm
from hiermarket.study.example import TEXT, write_example

CASE = '[case]\nname = "two_bus"\ncopies = 3\n'


def written(folder, text):
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_study_of_copies(tmp_path):
    text = CASE + 'periods = 2\nseed = 4\n[options]\nleader = "A"\nforwarding = "maximum-regulation"\nundo = true\n'
    text += 'loss_passes = 0\nlosses = "constant"\n[study]\nbatch = 2\non_failure = "continue"\nretries = 0\n'
    study = hm.read_study(written(tmp_path, text))
    assert study.source == hm.ReplicatedCase("two_bus", 3, 2, 4)
    grid = hm.LinDistFlow(loss_passes=0, losses=hm.Losses.CONSTANT)
    wanted = hm.Options(behaviour=hm.OneLeader("A"), forwarding=hm.MaximumRegulation(undo=True), grid=grid)
    assert study.options == wanted
    assert (study.batch, study.on_failure, study.retries) == (2, hm.OnFailure.CONTINUE, 0)
    assert study.folder == tmp_path / "study-results"
    assert study.batches == (("two_bus-00001", "two_bus-00002"), ("two_bus-00003",))
    assert hm.read_study(tmp_path / "study.toml", output=tmp_path / "x").folder == tmp_path / "x"


def test_every_fault_at_once(tmp_path):
    text = """
    [market]
    networks = "nowhere/*.nc"
    bids = "bids.csv"
    imbalance = 3
    tbm_prices = { up = 60.0 }
    price_cap = "200"
    price_flor = 1.0
    [transmission]
    network = "grid.nc"
    interface = { a = 14 }
    [options]
    behaviour = "as bid"
    loss_passes = -1
    [study]
    batch = true
    on_failure = "ignore"
    [extra]
    """
    with pytest.raises(hm.DataError) as caught:
        hm.read_study(written(tmp_path, text))
    faults = {fault.where.removeprefix("study.toml, "): fault for fault in caught.value.faults}
    assert set(faults) == {
        "market.networks", "market.bids", "market.imbalance", "market.tbm_prices", "market.price_cap",
        "market.price_flor", "market.value_of_lost_load", "transmission.network", "transmission.bids",
        "transmission.interface.a", "options.behaviour", "options.loss_passes", "study.batch", "study.on_failure",
        "extra",
    }  # fmt: skip
    assert faults["market.price_flor"].remedy == "Is 'price_floor' meant?"
    assert faults["market.bids"].found == "no file bids.csv"
    assert faults["market.value_of_lost_load"].remedy == "Add it."
    assert faults["market.price_cap"].found == "'200'"
    assert "'truthful' or 'as-bid'" in faults["options.behaviour"].expected


def test_volumes_are_decided_by_a_leader(tmp_path):
    study = hm.read_study(written(tmp_path, CASE + '[options]\nleader = "A"\nvolumes = true\n'))
    assert study.options.behaviour == hm.OneLeader("A", hm.PricesAndVolumes())
    with pytest.raises(hm.DataError) as caught:
        hm.read_study(written(tmp_path, CASE + "[options]\nvolumes = true\n"))
    (fault,) = caught.value.faults
    assert (fault.where, fault.found) == ("study.toml, options", "volumes without a leader")


@pytest.mark.parametrize("behaviour", ["truthful", "as-bid"])
def test_a_leader_and_another_behaviour(tmp_path, behaviour):
    text = CASE + f'[options]\nleader = "A"\nbehaviour = "{behaviour}"\nundo = 1\n'
    with pytest.raises(hm.DataError):  # undo is told before
        hm.read_study(written(tmp_path, text))
    with pytest.raises(hm.DataError) as caught:
        hm.read_study(written(tmp_path, text.replace("undo = 1", "undo = true")))
    (fault,) = caught.value.faults
    assert (fault.where, fault.found) == ("study.toml, options", f"behaviour '{behaviour}' beside leader 'A'")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[options]\n", "none of the two"),
        (CASE + '[transmission]\nnetwork="a"\nbids="a"\ninterface={}\n', "no file a"),
        ("[case\n", "Expected ']'"),
        (CASE.replace("3", "0"), "0"),
    ],
)
def test_one_fault(tmp_path, text, found):
    with pytest.raises(hm.DataError) as caught:
        hm.read_study(written(tmp_path, text))
    assert found in caught.value.faults[0].found


def test_a_case_has_its_own_grid(tmp_path):
    (tmp_path / "a").write_text("")
    text = CASE + '[transmission]\nnetwork="a"\nbids="a"\ninterface={}\n'
    with pytest.raises(hm.DataError, match="beside"):
        hm.read_study(written(tmp_path, text))


def test_no_file(tmp_path):
    with pytest.raises(hm.DataError, match="no such file"):
        hm.read_study(tmp_path / "study.toml")


def test_the_example(tmp_path):
    file = write_example(tmp_path / "example")
    assert file.read_text(encoding="utf-8") == TEXT
    study = hm.read_study(file)
    assert study.source.names == ("east", "north", "south")
    assert study.folder == tmp_path / "example" / "results"
    with pytest.raises(hm.StudyError) as caught:
        write_example(tmp_path / "example")
    assert caught.value.where == str(tmp_path / "example")
    # networks by name, prices that hold always
    table = '{ north = "feeders/north.nc", east = "feeders/east.nc" }'
    text = TEXT.replace('"feeders/*.nc"', table).replace('"tbm_prices.csv"', "{ up = 60, down = 20 }")
    with pytest.raises(hm.DataError) as caught:
        hm.read_study(written(file.parent, text))
    places = [fault.where for fault in caught.value.faults]
    assert places == ["transmission.interface", "imbalance (imbalance.csv)"]
    assert all("south" in fault.found for fault in caught.value.faults)
