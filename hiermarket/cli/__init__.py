"""The command line: run a shipped case or a study, compare schemes, list the cases.

Libraries are loaded once a run begins.
"""

from __future__ import annotations

from hiermarket.cli.commands import app, largest_bsp
from hiermarket.cli.compare import compare
from hiermarket.cli.terminal import TABLE_WIDTH, Stopwatch

__all__ = ["TABLE_WIDTH", "Stopwatch", "app", "compare", "largest_bsp", "main"]


def main() -> None:
    """Run the command line."""
    app()
