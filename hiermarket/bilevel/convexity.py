"""Whether a Hessian is convex, judged in the units of each variable.

A tolerance relative to the largest entry would let a small, truly concave direction pass beside
a large one. Scaled to a unit diagonal, every direction counts alike; a variable without curvature
of its own must not stand in a product at all.
"""

from __future__ import annotations

import numpy as np

#: An eigenvalue of the scaled Hessian may be this much below zero: rounding.
TOLERANCE = 1e-9
#: An entry below this, relative to the largest, is rounding of a zero.
DUST = 1e-12


def concave(blocks: np.ndarray) -> np.ndarray:
    """Return which of several symmetric matrices (count, n, n) are not positive semidefinite."""
    diagonal = np.diagonal(blocks, axis1=1, axis2=2)
    size = np.abs(blocks)
    dust = DUST * size.max(axis=(1, 2), initial=0.0)[:, None]
    flat = diagonal <= dust
    others = size - np.abs(diagonal)[:, :, None] * np.eye(blocks.shape[1])
    wrong = (diagonal < -dust).any(axis=1) | (flat & (others.max(axis=2, initial=0.0) > dust)).any(axis=1)
    scale = np.where(flat, 0.0, 1.0 / np.sqrt(np.where(flat, 1.0, diagonal)))
    scaled = blocks * scale[:, :, None] * scale[:, None, :]
    return np.asarray(wrong | (np.linalg.eigvalsh(scaled)[:, 0] < -TOLERANCE))
