"""Models of the tests are built under linopy's coming semantics, as those of the package."""

import linopy
import pytest


@pytest.fixture(autouse=True)
def v1_semantics():
    with linopy.options as options:
        options.set_value(semantics="v1")
        yield
