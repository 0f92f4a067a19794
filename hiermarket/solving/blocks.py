"""Independent blocks of a program: found as connected components, solved one by one.

A day of 24 periods without storage rows is 24 problems, not one. Solved apart they
are faster (equal structures are hot-started from one to the next), more exact (a
joint MILP of independent parts mixes their tolerances), and each has a status of its
own: an infeasible period sinks nothing but itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from hiermarket.solving.lexicographic import descend
from hiermarket.solving.solver import Outcome, Session, SolverOptions, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import highspy
    from numpy.typing import NDArray

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
        Equal for blocks whose entries stand at the same places.
    """

    columns: Ints
    rows: Ints
    program: Program
    structure: bytes


@dataclass(frozen=True, slots=True)
class Work:
    """What answers have cost; sums up.

    Attributes
    ----------
    solves : int
        LPs or MIPs solved.
    screened : int
        Blocks whose optimum was known without an LP.
    seconds : float
        Time inside the solver [s].
    """

    solves: int = 0
    screened: int = 0
    seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.solves + other.solves, self.screened + other.screened, self.seconds + other.seconds)


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
        Outcome of each block; blocks that were not asked for count as optimal.
    status : list[str]
        The solver's own word for each block.
    block_of_column : int array
        The block of each column.
    work : Work
        How many LPs or MIPs were solved, and the time inside the solver.
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
    work: Work
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
    cut = _Cut(program, components(program) if block_of_column is None else block_of_column)
    values = program.matrix.data[cut.entry]
    return (cut.block(program, values, number) for number in range(cut.count))


class _Cut:
    """Where each block's columns, rows and entries are: cut once, for all programs of the same structure.

    Sorted once, every block is a slice: cutting blocks out one by one costs far more than
    solving them.
    """

    def __init__(self, program: Program, block: Ints) -> None:
        matrix = program.matrix
        self.count = int(block.max(initial=-1)) + 1
        self.block_of_column = block
        lengths = np.diff(matrix.indptr)
        block_of_row = np.zeros(len(lengths), dtype=np.int64)
        filled = lengths > 0
        block_of_row[filled] = block[matrix.indices[matrix.indptr[:-1][filled]]]
        self._columns, self._rows = np.argsort(block, kind="stable"), np.argsort(block_of_row, kind="stable")
        self._first_column, self._first_row = (
            np.concatenate([[0], np.cumsum(np.bincount(of, minlength=self.count))]) for of in (block, block_of_row)
        )
        local = np.empty(len(block), dtype=np.int32)
        local[self._columns] = np.arange(len(block)) - self._first_column[block[self._columns]]
        places = csr_array((np.arange(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
        ordered = csr_array(places[self._rows, :])
        self.entry, self._starts = ordered.data, ordered.indptr.astype(np.int32)
        self._indices = local[ordered.indices]
        self.structure = [self._digest(program, number) for number in range(self.count)]

    def _slices(self, number: int) -> tuple[Ints, Ints, NDArray[np.int32], slice]:
        columns = self._columns[self._first_column[number] : self._first_column[number + 1]]
        first, last = self._first_row[number], self._first_row[number + 1]
        starts = self._starts[first : last + 1]
        return columns, self._rows[first:last], starts - starts[0], slice(starts[0], starts[-1])

    def _digest(self, program: Program, number: int) -> bytes:
        columns, _, starts, here = self._slices(number)
        digest = hashlib.blake2b(digest_size=16)
        for array in (starts, self._indices[here], program.integer[columns]):
            digest.update(array.tobytes())
        if program.quadratic is not None:
            quadratic = csr_array(program.quadratic[:, columns][columns, :])
            for array in (quadratic.indptr, quadratic.indices, quadratic.data):
                digest.update(array.tobytes())
        return digest.digest()

    def block(self, program: Program, values: Floats, number: int) -> Block:
        """Return a block of a program whose entries, in the order of `entry`, are `values`."""
        columns, rows, starts, here = self._slices(number)
        matrix = csr_array((values[here], self._indices[here], starts), shape=(len(rows), len(columns)))
        return Block(columns, rows, program.part(columns, rows, matrix), self.structure[number])


@dataclass(slots=True)
class _Held:
    """A session, and the entries of the block that it holds."""

    session: Session
    entries: Floats


@dataclass(slots=True)
class BlockSolver:
    """Solves the blocks of programs that differ in values only, each from where it ended before.

    Parameters
    ----------
    program : Program
        The first program; it gives the structure.
    options : SolverOptions
        Tolerances and limits.
    block_of_column : int array, optional
        See `split`.
    """

    program: Program
    options: SolverOptions = field(default_factory=SolverOptions)
    block_of_column: Ints | None = None
    _cut: _Cut = field(init=False)
    _held: dict[bytes, _Held] = field(init=False, default_factory=dict)
    _bases: dict[int, highspy.HighsBasis] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        known = self.block_of_column
        self._cut = _Cut(self.program, components(self.program) if known is None else known)

    @property
    def of_column(self) -> Ints:
        """The block of each column."""
        return self._cut.block_of_column

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return self._cut.count

    def solve(
        self, program: Program | None = None, *, wanted: NDArray[np.bool_] | None = None, then: Sequence[Floats] = ()
    ) -> BlockAnswers:
        """Solve blocks.

        Parameters
        ----------
        program : Program, optional
            The values, with the first program's structure; the first program by default.
        wanted : bool array (block,), optional
            Which blocks to solve; all by default. The others get no values.
        then : sequence of (n,) arrays
            Further costs by column, minimised in this order among the optima of the ones
            before (linear programs only).

        Returns
        -------
        BlockAnswers
            Values (after the last cost), multipliers and objectives (of the program's own
            cost), and an outcome for each block.
        """
        program = program or self.program
        cut = self._cut
        rows, columns = program.shape
        x, reduced, dual = np.full(columns, np.nan), np.full(columns, np.nan), np.full(rows, np.nan)
        objective = np.full(cut.count, np.nan)
        outcome, status = [Outcome.OPTIMAL] * cut.count, ["not solved"] * cut.count
        undecided: list[int] = []
        work = Work()
        values = program.matrix.data[cut.entry]
        for number in range(cut.count) if wanted is None else np.flatnonzero(wanted).tolist():
            block = cut.block(program, values, number)
            session = self._session(block, number)
            before = session.solves, session.seconds
            answer = session.solve()
            outcome[number], status[number], objective[number] = answer.outcome, answer.status, answer.objective
            point = answer.x
            if answer.optimal:
                if not block.program.integer.any():
                    self._bases[number] = session.basis()
                if then:
                    further = [cost[block.columns] for cost in then]
                    point, decided = descend(block.program, session, answer, further)
                    if decided < len(then):
                        undecided.append(number)
                x[block.columns], reduced[block.columns] = point, answer.reduced_cost
                dual[block.rows] = answer.dual
            work += Work(session.solves - before[0], 0, session.seconds - before[1])
        return BlockAnswers(
            x=x,
            dual=dual,
            reduced_cost=reduced,
            objective=objective,
            outcome=outcome,
            status=status,
            block_of_column=cut.block_of_column,
            work=work,
            undecided=np.asarray(undecided, dtype=np.int64),
        )

    def _session(self, block: Block, number: int) -> Session:
        """Return a session that holds the block, hot where one of its structure is there."""
        part = block.program
        held = self._held.get(block.structure)
        if held is None or part.integer.any():
            session = Session(part, self.options)
            self._held[block.structure] = _Held(session, part.matrix.data)
        else:
            session = held.session
            if np.array_equal(held.entries, part.matrix.data):
                columns, rows = np.arange(part.shape[1]), np.arange(part.shape[0])
                session.change_cost(columns, part.cost)
                session.change_bounds(columns, part.lower, part.upper)
                session.change_row_bounds(rows, part.row_lower, part.row_upper)
            else:
                session.replace(part)
                held.entries = part.matrix.data
        if number in self._bases:
            session.start_at(self._bases[number])
        return session


def solve_blocks(
    program: Program,
    options: SolverOptions | None = None,
    *,
    block_of_column: Ints | None = None,
    then: Sequence[Floats] = (),
) -> BlockAnswers:
    """Solve every independent block of a program once.

    Parameters
    ----------
    program : Program
        Linear, mixed-integer linear or convex quadratic.
    options : SolverOptions, optional
        Tolerances and limits.
    block_of_column : int array, optional
        See `split`.
    then : sequence of (n,) arrays
        See `BlockSolver.solve`.

    Returns
    -------
    BlockAnswers
        Values, multipliers, and an outcome for each block.
    """
    return BlockSolver(program, options or SolverOptions(), block_of_column).solve(then=then)
