"""What holds for every test: no screen, plain output, and no noise out of other people's code."""

import os

import pytest

#: Warnings that other packages raise about their own code; every other warning is an error (pyproject.toml).
FOREIGN_WARNINGS = (
    "ignore::pandas.errors.Pandas4Warning:pypsa",  # deprecated pandas options and inplace=True, in its own files
    "ignore:pandas infers the .str. dtype:FutureWarning:pypsa",  # the dtype of its labels in its next major version
    "ignore:numpy.ndarray size changed:RuntimeWarning",  # netCDF4 built against another numpy; harmless
)

#: Figures without a screen; tables and help texts of one width and without colours, in a terminal as in CI.
ENVIRONMENT = {"MPLBACKEND": "Agg", "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}


def pytest_configure(config: pytest.Config) -> None:
    os.environ.update(ENVIRONMENT)
    for warning in FOREIGN_WARNINGS:
        config.addinivalue_line("filterwarnings", warning)
