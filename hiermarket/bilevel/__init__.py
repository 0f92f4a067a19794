"""Bilevel problems on any linopy model: KKT conditions, reformulations, certificates."""
