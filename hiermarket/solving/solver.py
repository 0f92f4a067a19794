"""HiGHS behind one door: options in, status and arrays out, errors by name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csc_array, csr_array, tril

from hiermarket.errors import (
    InfeasibleError,
    LimitReachedError,
    ModelError,
    NumericalError,
    SolveError,
    UnboundedError,
)

if TYPE_CHECKING:
    import highspy
    from numpy.typing import NDArray

    from hiermarket.solving.program import Floats, Ints, Program


class Outcome(StrEnum):
    """What a solver's answer is worth."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    LIMIT = "limit reached"
    TROUBLE = "numerical trouble"


#: The error of each outcome that is no answer, and what the user can do about it.
_ERRORS: dict[Outcome, tuple[type[SolveError], str]] = {
    Outcome.INFEASIBLE: (InfeasibleError, "Look for contradicting bounds and rows; recourse variables tell where."),
    Outcome.UNBOUNDED: (UnboundedError, "Bound the variables that improve the objective: a price cap, a volume."),
    Outcome.LIMIT: (LimitReachedError, "Give more time, or take the incumbent knowingly."),
    Outcome.TROUBLE: (
        NumericalError,
        "Check the scaling of the data; enlarge declared bounds, or do without.",
    ),
}

#: HiGHS adds this to the diagonal of a QP's Hessian; 0 leaves some singular QPs without an answer.
QP_REGULARISATION = 1e-10

#: Largest error of a QP's optimality conditions, relative to the size of its terms.
QP_ERROR = 1e-6


@dataclass(frozen=True, slots=True)
class SolverOptions:
    """Options of HiGHS that the package sets; every one is read back after it is set.

    Parameters
    ----------
    feasibility : float
        Primal and dual feasibility tolerance of LPs, and the integrality and
        feasibility tolerance of MIPs. HiGHS' own default for MIPs, 1e-6, makes
        big-M answers wrong.
    gap : float
        Relative optimality gap of MIPs.
    time_limit : float
        [s] for one solve.
    presolve : bool
        Whether HiGHS may presolve a first solve; hot starts never do.
    seed : int
        Random seed of the solver.
    screening : bool
        Whether stages leave out LPs whose optimum is known without them. The results are
        the same; False is for checking that.
    """

    feasibility: float = 1e-9
    gap: float = 1e-9
    time_limit: float = 600.0
    presolve: bool = True
    seed: int = 0
    screening: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """One solve: outcome, values, multipliers.

    Attributes
    ----------
    outcome : Outcome
        What the answer is worth.
    status : str
        The solver's own word.
    x, dual, reduced_cost : arrays
        Primal values; ∂(objective)/∂(right-hand side) by row and ∂(objective)/∂(active
        bound) by column, in the program's own sense; NaN without a solution, and
        multipliers NaN for MIPs.
    objective : float
        Value in the program's own sense.
    has_point : bool
        Whether `x` is a feasible point (also of a limit reached with an incumbent).
    bound : float
        Proved bound on the objective (MIPs).
    """

    outcome: Outcome
    status: str
    x: Floats
    dual: Floats
    reduced_cost: Floats
    objective: float
    has_point: bool
    bound: float

    @property
    def optimal(self) -> bool:
        """Whether the answer is a proved optimum."""
        return self.outcome is Outcome.OPTIMAL

    def require(self, what: str, where: str) -> Answer:
        """Return the answer, or raise the error that its outcome deserves.

        Raises
        ------
        SolveError
            Of the kind of the outcome, when it is not optimal.
        """
        if self.optimal:
            return self
        raise failure(self.outcome, what=what, where=where, status=self.status)


def failure(outcome: Outcome, *, what: str, where: str, status: str) -> SolveError:
    """Return the error of an outcome that is no answer."""
    kind, remedy = _ERRORS[outcome]
    return kind(what, where=where, status=status, remedy=remedy)


class Session:
    """One HiGHS instance that holds one program and is hot-started from solve to solve.

    Parameters
    ----------
    program : Program
        Linear, mixed-integer linear or convex quadratic; a quadratic objective with
        integers is refused, as HiGHS answers such problems with zeros.
    options : SolverOptions
        Tolerances and limits.

    Attributes
    ----------
    solves, seconds : int, float
        How often it was solved, and the time inside the solver.
    """

    def __init__(self, program: Program, options: SolverOptions | None = None) -> None:
        import highspy

        if program.quadratic is not None and program.integer.any():
            raise ModelError(
                "A quadratic objective with integer variables cannot be solved by HiGHS",
                where=f"{int(program.integer.sum())} integer columns",
                remedy="Use a reformulation without binaries, or a linear objective.",
            )
        self._sense = 1.0 if program.minimise else -1.0
        self._mip = bool(program.integer.any())
        self._columns, self._rows = program.shape[1], program.shape[0]
        self._quadratic = program.quadratic
        self._highs = highspy.Highs()
        self._time_limit = (options or SolverOptions()).time_limit
        self._set_options(options or SolverOptions())
        self._pass(program)
        self.solves, self.seconds = 0, 0.0

    def _set_options(self, options: SolverOptions) -> None:
        wanted: dict[str, float | int | str | bool] = {
            "output_flag": False,
            "primal_feasibility_tolerance": options.feasibility,
            "dual_feasibility_tolerance": options.feasibility,
            "mip_feasibility_tolerance": options.feasibility,
            "mip_rel_gap": options.gap,
            "mip_abs_gap": options.gap,
            "time_limit": options.time_limit,
            "presolve": "choose" if options.presolve else "off",
            "random_seed": options.seed,
            "threads": 1,
            # the default, 1e-7, moves optima of QPs and makes unbounded ones look optimal
            "qp_regularization_value": QP_REGULARISATION,
        }
        for name, value in wanted.items():
            self._highs.setOptionValue(name, value)
            # HiGHS ignores values that it does not like, without a word
            if self._highs.getOptionValue(name)[1] != value:
                what = f"The solver did not accept {name} = {value!r}"
                raise ModelError(what, where="SolverOptions", remedy="Take a larger value.")

    def _pass(self, program: Program) -> None:
        import highspy

        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self._columns, self._rows
        lp.col_cost_ = self._sense * program.cost
        lp.col_lower_, lp.col_upper_ = program.lower, program.upper
        lp.row_lower_, lp.row_upper_ = program.row_lower, program.row_upper
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = self._columns, self._rows
        lp.a_matrix_.start_ = program.matrix.indptr
        lp.a_matrix_.index_ = program.matrix.indices
        lp.a_matrix_.value_ = program.matrix.data
        if self._mip:
            kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
            lp.integrality_ = [kinds[int(flag)] for flag in program.integer]
        if program.quadratic is None:
            self._highs.passModel(lp)
            return
        lower = csc_array(tril(self._sense * program.quadratic, format="csc"))
        model = highspy.HighsModel()
        model.lp_ = lp
        model.hessian_.dim_ = self._columns
        model.hessian_.start_ = lower.indptr
        model.hessian_.index_ = lower.indices
        model.hessian_.value_ = lower.data
        self._highs.passModel(model)

    def replace(self, program: Program) -> None:
        """Hold another program of the same structure, with its own values; the basis stays.

        Parameters
        ----------
        program : Program
            Linear, with as many rows and columns and the same entries as the first one.
        """
        basis = self._highs.getBasis()
        self._sense = 1.0 if program.minimise else -1.0
        self._pass(program)
        if basis.valid:
            self._highs.setBasis(basis)

    def basis(self) -> highspy.HighsBasis:
        """Return the basis of the last solve, for `start_at`."""
        basis: highspy.HighsBasis = self._highs.getBasis()
        return basis

    def start_at(self, basis: highspy.HighsBasis) -> None:
        """Start the next solve at a basis of an equal structure."""
        self._highs.setBasis(basis)

    def nonbasic(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which columns and which rows the last basis holds at a bound; all of them where there is no basis."""
        status, basic = self._highs.getBasicVariables()
        columns, rows = np.ones(self._columns, dtype=bool), np.ones(self._rows, dtype=bool)
        if status.name != "kOk":
            return columns, rows
        # rows are numbered −1, −2, …
        columns[basic[basic >= 0]], rows[-1 - basic[basic < 0]] = False, False
        return columns, rows

    def change_cost(self, columns: Ints, cost: Floats) -> None:
        """Change the linear cost of some columns (positions)."""
        self._highs.changeColsCost(len(columns), columns.astype(np.int32), self._sense * np.asarray(cost, dtype=float))

    def change_bounds(self, columns: Ints, lower: Floats, upper: Floats) -> None:
        """Change the bounds of some columns (positions)."""
        self._highs.changeColsBounds(
            len(columns), columns.astype(np.int32), np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
        )

    def change_row_bounds(self, rows: Ints, lower: Floats, upper: Floats) -> None:
        """Change the two sides of some rows (positions)."""
        self._highs.changeRowsBounds(
            len(rows), rows.astype(np.int32), np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
        )

    def infeasible_ray(self) -> Floats | None:
        """Return the row multipliers by which the last solve found no point, if it kept them."""
        status, exists, ray = self._highs.getDualRay()
        return np.asarray(ray, dtype=float) if exists and status.name == "kOk" else None

    def start_from(self, columns: Ints, values: Floats) -> None:
        """Offer values of some columns (positions) as the start of a MIP; HiGHS completes them."""
        self._highs.setSolution(len(columns), columns.astype(np.int32), np.asarray(values, dtype=float))

    def maximise_cost(self) -> None:
        """Turn the sense of the objective round (for bounding one expression from both sides)."""
        self._sense = -self._sense

    def solve(self) -> Answer:
        """Solve, from the last basis if there is one."""
        import highspy

        highs = self._highs
        hot = highs.getBasis().valid and not self._mip
        self._run()
        self.solves += 1
        status = highs.getModelStatus()
        # presolve may call an unbounded problem infeasible: that verdict counts without presolve only
        doubtful = (highspy.HighsModelStatus.kUnboundedOrInfeasible, highspy.HighsModelStatus.kInfeasible)
        if status in doubtful and not hot and highs.getOptionValue("presolve")[1] != "off":
            status = self._run_afresh(presolve="off")
        elif status in (highspy.HighsModelStatus.kUnknown, highspy.HighsModelStatus.kSolveError) and hot:
            # a start from the last basis may end nowhere: start afresh
            status = self._run_afresh(presolve=highs.getOptionValue("presolve")[1])
        info = highs.getInfo()
        has_point = info.primal_solution_status == 2
        outcome = self._outcome(status, has_point=has_point)
        nothing = np.full(self._columns, np.nan)
        x, dual, reduced = nothing, np.full(self._rows, np.nan), nothing
        if has_point:
            solution = highs.getSolution()
            x = np.asarray(solution.col_value, dtype=float)
            if solution.dual_valid and not self._mip:
                dual = self._sense * np.asarray(solution.row_dual, dtype=float)
                reduced = self._sense * np.asarray(solution.col_dual, dtype=float)
        word = highs.modelStatusToString(status)
        if outcome is Outcome.OPTIMAL and self._quadratic is not None:
            error = self._error_of_qp(x, dual, reduced)
            if not error <= QP_ERROR:
                outcome, word = Outcome.TROUBLE, f"{word}, but its optimality conditions are off by {error:.3g}"
        return Answer(
            outcome=outcome,
            status=word,
            x=x,
            dual=dual,
            reduced_cost=reduced,
            objective=self._sense * info.objective_function_value if has_point else float("nan"),
            has_point=has_point,
            bound=self._sense * info.mip_dual_bound if self._mip else float("nan"),
        )

    def _error_of_qp(self, x: Floats, dual: Floats, reduced: Floats) -> float:
        """Return by how much a QP's answer misses its optimality conditions, relative to their terms.

        Qx + c − A'y − z = 0 for the Hessian as it was given, and z, y of the signs that
        their active bounds allow.
        """
        lp = self._highs.getLp()
        kind = csr_array if lp.a_matrix_.format_.name == "kRowwise" else csc_array
        matrix = kind((lp.a_matrix_.value_, lp.a_matrix_.index_, lp.a_matrix_.start_), (self._rows, len(x)))
        cost = self._sense * np.asarray(lp.col_cost_)
        curvature = self._quadratic @ x if self._quadratic is not None else np.zeros(len(x))
        size = 1.0 + max(float(np.abs(term).max(initial=0.0)) for term in (cost, curvature, dual))
        error = np.abs(curvature + cost - matrix.T @ dual - reduced).max(initial=0.0) / size
        for value, multiplier, lower, upper in (
            (x, reduced, lp.col_lower_, lp.col_upper_),
            (matrix @ x, dual, lp.row_lower_, lp.row_upper_),
        ):
            push = self._sense * multiplier / size
            room = np.where(push > 0, value - np.asarray(lower), np.asarray(upper) - value) / (1.0 + np.abs(value))
            error = max(error, float(np.minimum(np.abs(push), room).max(initial=0.0)))
        return float(error)

    def _run(self) -> None:
        # HiGHS counts the time of all runs of an instance against its limit
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + self._time_limit)
        began = perf_counter()
        self._highs.run()
        self.seconds += perf_counter() - began

    def _run_afresh(self, presolve: str) -> highspy.HighsModelStatus:
        """Solve again from nothing."""
        kept = self._highs.getOptionValue("presolve")[1]
        self._highs.setOptionValue("presolve", presolve)
        self._highs.clearSolver()
        self._run()
        self._highs.setOptionValue("presolve", kept)
        status: highspy.HighsModelStatus = self._highs.getModelStatus()
        return status

    @staticmethod
    def _outcome(status: highspy.HighsModelStatus, *, has_point: bool) -> Outcome:
        import highspy

        kinds = highspy.HighsModelStatus
        if status in (kinds.kOptimal, kinds.kModelEmpty):
            return Outcome.OPTIMAL if has_point or status == kinds.kModelEmpty else Outcome.TROUBLE
        if status == kinds.kInfeasible:
            return Outcome.INFEASIBLE
        if status == kinds.kUnbounded:
            return Outcome.UNBOUNDED
        if status in (kinds.kTimeLimit, kinds.kIterationLimit, kinds.kSolutionLimit, kinds.kInterrupt):
            return Outcome.LIMIT
        return Outcome.TROUBLE
