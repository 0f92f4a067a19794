"""Runs in parts: the stages of some feeders cut out of a whole run, and random splits."""

import dataclasses

import numpy as np


def random_split(names, rng):
    """Some batches of the names, in random order."""
    mixed = list(rng.permutation(list(names)))
    cuts = sorted(rng.choice(np.arange(1, len(mixed)), int(rng.integers(1, len(mixed))), replace=False))
    return [[str(name) for name in batch] for batch in np.split(np.array(mixed), cuts)]


def of_feeders(result, names):
    """A stage's result for some feeders."""
    flat = result.flat.sel(feeder=names) if "feeder" in result.flat.dims else result.flat
    for dim in ("bid", "bus"):
        if dim in flat.dims:
            flat = flat.isel({dim: np.isin(flat[f"{dim}_feeder"].values, names)})
    return dataclasses.replace(result, flat=flat)


def chain_of(chain, names):
    """A run as the batch of some feeders sees it."""
    found = {name: of_feeders(getattr(chain, name), names) for name in ("clearing", "forwarded", "disaggregation")}
    return dataclasses.replace(
        chain,
        market=chain.market.of_feeders(names),
        cleared=chain.cleared.of_feeders(names),
        baseline=of_feeders(chain.baseline, names),
        **found,
    )
