"""The rules of a market: what is paid, and that other words are refused."""

import dataclasses
import json

import pytest

from hiermarket.errors import DataError
from hiermarket.market.rules import ImbalancePricing, MarketRules, Pricing


def test_nodal_and_single_by_default():
    rules = MarketRules(price_cap=1.0, value_of_lost_load=2.0)
    assert rules.pricing is Pricing.NODAL
    assert rules.imbalance_pricing is ImbalancePricing.SINGLE


def test_read_back_from_plain_words():
    rules = MarketRules(1.0, 2.0, pricing=Pricing.PAY_AS_BID, imbalance_pricing=ImbalancePricing.DUAL)
    again = MarketRules(**json.loads(json.dumps(dataclasses.asdict(rules))))
    assert again == rules
    assert again.pricing is Pricing.PAY_AS_BID


def test_other_words_are_refused_together():
    with pytest.raises(DataError) as caught:
        MarketRules(1.0, 2.0, pricing="cleared", imbalance_pricing="triple")
    assert [fault.where for fault in caught.value.faults] == ["rules.pricing", "rules.imbalance_pricing"]
