import numpy as np
import pytest

from hiermarket.network.per_unit import mva, ohms, per_mva, seen_from_parent, siemens


def test_ohm_and_siemens_and_back():
    assert per_mva(ohms(0.05, 132.0, 100.0), 132.0) == pytest.approx(0.05 / 100)
    assert mva(siemens(0.19, 33.0, 100.0), 33.0) == pytest.approx(19.0)


@pytest.mark.parametrize("at_parent", [True, False])
def test_the_two_port_is_the_same_seen_from_the_parent(at_parent):
    """The admittance matrix of (ideal transformer at either side, z, y/2 at each end of z) is kept."""
    z, y, ratio = 0.03 + 0.1j, 0.02 + 0.4j, 0.9
    series, half = 1 / z, y / 2
    # currents into the two-port for voltages (v_m, v_n), as PyPSA stamps them
    if at_parent:
        expected = np.array([[(series + half) / ratio**2, -series / ratio], [-series / ratio, series + half]])
    else:
        expected = np.array([[series + half, -series / ratio], [-series / ratio, (series + half) / ratio**2]])
    seen = seen_from_parent(np.array([z]), np.array([y]), np.array([ratio]), np.array([at_parent]))
    t, referred = seen.tap[0], 1 / (seen.r[0] + 1j * seen.x[0])
    found = np.array(
        [
            [referred / t**2 + seen.parent_shunt[0], -referred / t],
            [-referred / t, referred + seen.child_shunt[0]],
        ]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)
