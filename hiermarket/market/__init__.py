"""Who wants what: bids, imbalance, prices. No optimisation here."""
