"""Independent blocks of a program: found as connected components, solved one by one.

A day of 24 periods without storage rows is 24 problems, not one. Solved apart they
are faster (equal structures are hot-started from one to the next), more exact (a
joint MILP of independent parts mixes their tolerances), and each has a status of its
own: an infeasible period sinks nothing but itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from hiermarket.solving.lexicographic import descend
from hiermarket.solving.solver import Outcome, Session, SolverOptions, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hiermarket.solving.program import Floats, Ints, Program


@dataclass(frozen=True, slots=True)
class Block:
    """One independent part of a program.

    Attributes
    ----------
    columns, rows : int arrays
        Positions in the whole program, ascending.
    program : Program
        The part itself.
    structure : bytes
        Equal for blocks that differ in costs, bounds and right-hand sides only.
    """

    columns: Ints
    rows: Ints
    program: Program
    structure: bytes


@dataclass(frozen=True, slots=True)
class BlockAnswers:
    """The answers of all blocks, put together by position of the whole program.

    Attributes
    ----------
    x, dual, reduced_cost : arrays
        Values and multipliers; NaN in blocks that failed.
    objective : float array
        Value of each block, in the program's own sense.
    outcome : list[Outcome]
        Outcome of each block.
    status : list[str]
        The solver's own word for each block.
    block_of_column : int array
        The block of each column.
    solves : int
        How many LPs or MIPs were solved.
    undecided : int array
        Blocks in which a further cost could not be decided; empty as a rule.
    """

    x: Floats
    dual: Floats
    reduced_cost: Floats
    objective: Floats
    outcome: list[Outcome]
    status: list[str]
    block_of_column: Ints
    solves: int
    undecided: Ints

    @property
    def optimal(self) -> bool:
        """Whether every block is a proved optimum."""
        return all(outcome is Outcome.OPTIMAL for outcome in self.outcome)

    def require(self, what: str, name: Callable[[int], str]) -> BlockAnswers:
        """Return the answers, or raise the error of the first block that has none.

        Parameters
        ----------
        what : str
            The problem, for the message.
        name : callable
            Names a block by its number, with labels.

        Raises
        ------
        SolveError
            Of the kind of the first failed block's outcome.
        """
        for block, outcome in enumerate(self.outcome):
            if outcome is not Outcome.OPTIMAL:
                raise failure(outcome, what=what, where=name(block), status=self.status[block])
        return self


def components(program: Program) -> Ints:
    """Return the number of the connected component of each column.

    Columns belong together when a row or a quadratic term names both. Components are
    numbered in the order of their first column.
    """
    rows, columns = program.shape
    links = coo_array(program.matrix)
    first, second = [links.row], [links.col + rows]
    if program.quadratic is not None:
        quadratic = coo_array(program.quadratic)
        first.append(quadratic.row + rows)
        second.append(quadratic.col + rows)
    ends = (np.concatenate(first), np.concatenate(second))
    graph = csr_array((np.ones(len(ends[0])), ends), shape=(rows + columns,) * 2)
    labels = connected_components(graph, directed=False)[1][rows:]
    _, number = np.unique(labels, return_inverse=True)
    order = np.full(number.max(initial=-1) + 1, columns)
    np.minimum.at(order, number, np.arange(columns))
    rank = np.empty_like(order)
    rank[np.argsort(order)] = np.arange(len(order))
    return np.asarray(rank[number], dtype=np.int64)


def _structure(program: Program) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for array in (program.matrix.indptr, program.matrix.indices, program.matrix.data, program.integer):
        digest.update(np.ascontiguousarray(array).tobytes())
    if program.quadratic is not None:
        for array in (program.quadratic.indptr, program.quadratic.indices, program.quadratic.data):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def split(program: Program, block_of_column: Ints | None = None) -> Iterator[Block]:
    """Split a program into its independent blocks.

    Parameters
    ----------
    program : Program
        Any program.
    block_of_column : int array, optional
        Block of each column where it is known from the labels; found as connected
        components by default.

    Yields
    ------
    Block
        Each block, in the order of the block numbers. A row without entries belongs to
        the first block.
    """
    block = components(program) if block_of_column is None else block_of_column
    count = int(block.max(initial=-1)) + 1
    matrix = program.matrix
    lengths = np.diff(matrix.indptr)
    block_of_row = np.zeros(len(lengths), dtype=np.int64)
    filled = lengths > 0
    block_of_row[filled] = block[matrix.indices[matrix.indptr[:-1][filled]]]
    by_column, by_row = np.argsort(block, kind="stable"), np.argsort(block_of_row, kind="stable")
    first_column = np.concatenate([[0], np.cumsum(np.bincount(block, minlength=count))])
    first_row = np.concatenate([[0], np.cumsum(np.bincount(block_of_row, minlength=count))])
    # sorted once, every block is a slice: cutting blocks out one by one costs far more than solving them
    local = np.empty(len(block), dtype=matrix.indices.dtype)
    local[by_column] = np.arange(len(block)) - first_column[block[by_column]]
    ordered = csr_array(matrix[by_row, :])
    indices = local[ordered.indices]
    for number in range(count):
        columns = by_column[first_column[number] : first_column[number + 1]]
        rows = by_row[first_row[number] : first_row[number + 1]]
        starts = ordered.indptr[first_row[number] : first_row[number + 1] + 1]
        here = slice(starts[0], starts[-1])
        entries = (ordered.data[here], indices[here], starts - starts[0])
        part = program.part(columns, rows, csr_array(entries, shape=(len(rows), len(columns))))
        yield Block(columns, rows, part, _structure(part))


def hot_session(block: Block, sessions: dict[bytes, Session], options: SolverOptions) -> Session:
    """Return a session for the block, reusing that of an equal structure with its basis."""
    session = sessions.get(block.structure)
    part = block.program
    if session is None or part.integer.any():
        session = Session(part, options)
        sessions[block.structure] = session
        return session
    columns, rows = np.arange(part.shape[1]), np.arange(part.shape[0])
    session.change_cost(columns, part.cost)
    session.change_bounds(columns, part.lower, part.upper)
    session.change_row_bounds(rows, part.row_lower, part.row_upper)
    return session


def solve_blocks(
    program: Program,
    options: SolverOptions | None = None,
    *,
    block_of_column: Ints | None = None,
    then: Sequence[Floats] = (),
) -> BlockAnswers:
    """Solve every independent block of a program, hot-starting equal structures.

    Parameters
    ----------
    program : Program
        Linear, mixed-integer linear or convex quadratic.
    options : SolverOptions, optional
        Tolerances and limits.
    block_of_column : int array, optional
        See `split`.
    then : sequence of (n,) arrays
        Further costs by column, minimised in this order among the optima of the ones
        before (linear programs only).

    Returns
    -------
    BlockAnswers
        Values (after the last cost), multipliers and objectives (of the program's own
        cost), and an outcome for each block.
    """
    options = options or SolverOptions()
    rows, columns = program.shape
    block_of_column = components(program) if block_of_column is None else block_of_column
    x, reduced, dual = np.full(columns, np.nan), np.full(columns, np.nan), np.full(rows, np.nan)
    objective: list[float] = []
    outcome: list[Outcome] = []
    status: list[str] = []
    undecided: list[int] = []
    sessions: dict[bytes, Session] = {}
    solves = 0
    for number, block in enumerate(split(program, block_of_column)):
        session = hot_session(block, sessions, options)
        answer = session.solve()
        solves += 1
        outcome.append(answer.outcome)
        status.append(answer.status)
        objective.append(answer.objective)
        if not answer.optimal:
            continue
        point = answer.x
        if then:
            point, decided = descend(block.program, session, answer, [cost[block.columns] for cost in then])
            solves += len(then)
            if decided < len(then):
                undecided.append(number)
        x[block.columns], reduced[block.columns], dual[block.rows] = point, answer.reduced_cost, answer.dual
    return BlockAnswers(
        x=x,
        dual=dual,
        reduced_cost=reduced,
        objective=np.asarray(objective),
        outcome=outcome,
        status=status,
        block_of_column=block_of_column,
        solves=solves,
        undecided=np.asarray(undecided, dtype=np.int64),
    )
