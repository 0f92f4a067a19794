"""A study written down: a TOML file whose keys are all known, with every fault of it reported at once."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from hiermarket.errors import DataError, Fault, some_labels
from hiermarket.market.rules import MarketRules
from hiermarket.network.losses import LinDistFlow, Losses
from hiermarket.schema import unknown_names
from hiermarket.stages.coordination import AsBid, OneLeader, Options, Truthful
from hiermarket.stages.decides import PricesAndVolumes, PricesOnly
from hiermarket.stages.forwarding_methods import Forwarding
from hiermarket.study.network_files import EACH, NetworkFiles, TransmissionFiles
from hiermarket.study.replicated import ReplicatedCase
from hiermarket.study.study import OnFailure, Study

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from hiermarket.stages.coordination import Behaviour
    from hiermarket.study.source import Source

#: The kind of an error of pydantic that holds the parts of a fault.
FAULT: Final = "fault"


def read_study(path: str | Path, *, output: str | Path | None = None) -> Study:
    """Read a study from a TOML file.

    Parameters
    ----------
    path : str or Path
        The file; paths in it are seen from its folder. docs/studies.md has its keys.
    output : str or Path, optional
        Folder of the results; by default that of the file, or ``<name of the file>-results``
        beside it.

    Returns
    -------
    Study
        Ready for `hiermarket.run`.

    Raises
    ------
    DataError
        With every fault of the file: unknown, missing and wrong keys, files that are not there.
    """
    file = Path(path).absolute()
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError([Fault(str(path), "no such file", "a study in TOML", "Correct the path.")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError([Fault(file.name, str(error), "TOML", "Correct this line.")]) from error
    try:
        # as JSON, in which names of files and enums are strings and still nothing is converted
        text = json.dumps(values, default=str)
        found = _File.model_validate_json(text, strict=True, context={"folder": file.parent})
    except ValidationError as error:
        raise DataError([_fault(file.name, detail) for detail in error.errors()]) from None
    own = None if found.study.output is None else file.parent / found.study.output
    return Study(
        _source(found),
        output or own or file.with_name(f"{file.stem}-results"),
        options=_options(found.options),
        batch=found.study.batch,
        on_failure=found.study.on_failure,
        retries=found.study.retries,
    )


def _folder(info: ValidationInfo) -> Path:
    context: dict[str, Path] = info.context or {}
    return context["folder"]


def _wrong(found: str, expected: str, remedy: str) -> PydanticCustomError:
    return PydanticCustomError(FAULT, "{found}", {"found": found, "expected": expected, "remedy": remedy})


def _file(value: object, info: ValidationInfo) -> Path:
    """Return a path as seen from the file that names it; the file must be there, unless it is one for each feeder."""
    if not isinstance(value, str):
        raise _wrong(repr(value), "the path of a file", "Put it in quotes.")
    path = _folder(info) / value
    if EACH not in value and not path.is_file():
        raise _wrong(f"no file {value}", "a file that can be read", "Correct the path.")
    return path


def _networks(value: object, info: ValidationInfo) -> dict[str, Path]:
    """Return the networks of a pattern, named after their files, or of a table of names and files."""
    expected = 'a pattern such as "feeders/*.nc", or a table of names and files'
    if isinstance(value, str):
        found = {path.stem: path for path in sorted(_folder(info).glob(value))}
        if not found:
            raise _wrong(f"no file like {value}", expected, "Correct the pattern.")
        return found
    if not isinstance(value, Mapping) or not all(isinstance(path, str) for path in value.values()):
        raise _wrong(repr(value), expected, "Write one of the two.")
    paths = {name: _folder(info) / path for name, path in value.items()}
    missing = [f"{name}: {value[name]}" for name, path in paths.items() if not path.is_file()]
    if missing:
        raise _wrong(f"no file {some_labels(missing)}", "files that can be read", "Correct the paths.")
    return paths


def _prices(value: object, info: ValidationInfo) -> Path | dict[str, float]:
    """Return a table's path, or prices up and down that hold always."""
    if isinstance(value, str):
        return _file(value, info)
    numbers = isinstance(value, Mapping) and all(isinstance(price, int | float) for price in value.values())
    if not isinstance(value, Mapping) or set(value) != {"up", "down"} or not numbers:
        expected = "a file with period, up, down; or numbers for up and down"
        raise _wrong(repr(value), expected, "Write { up = 60.0, down = 20.0 } or a path.")
    return {str(way): float(price) for way, price in value.items()}


InFile = Annotated[Path, PlainValidator(_file)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Table(BaseModel):
    """A table of the file: nothing is converted, nothing unknown is dropped."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Case(_Table):
    name: str
    copies: Annotated[int, Field(ge=1)] = 1
    periods: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0


class _Market(_Table):
    networks: Annotated[dict[str, Path], PlainValidator(_networks)]
    bids: InFile
    imbalance: InFile
    tbm_prices: Annotated[Path | dict[str, float], PlainValidator(_prices)]
    tbm_limit: Annotated[float, Field(ge=0)] = float("inf")
    price_cap: Number
    price_floor: Number = 0.0
    value_of_lost_load: Number


class _Transmission(_Table):
    network: InFile
    bids: InFile
    imbalance: InFile | None = None
    interface: dict[str, str]


class _Options(_Table):
    behaviour: Literal["truthful", "as-bid"] = "truthful"
    leader: str | None = None
    volumes: bool = False
    forwarding: Forwarding = Forwarding.SAFE_BOX
    undo: bool | None = None
    loss_passes: Annotated[int, Field(ge=0)] = 2
    losses: Losses = Losses.LINEARISED

    @model_validator(mode="after")
    def _one_behaviour(self) -> _Options:
        if self.leader is not None and "behaviour" in self.model_fields_set:
            found = f"behaviour {self.behaviour!r} beside leader {self.leader!r}"
            raise _wrong(found, "one of the two", "Drop behaviour: the rivals of a leader bid as their bids say.")
        if self.volumes and self.leader is None:
            raise _wrong("volumes without a leader", "a leader that decides them", "Name a leader, or drop volumes.")
        return self


class _Run(_Table):
    output: Path | None = None
    batch: Annotated[int, Field(ge=1)] | None = None
    on_failure: OnFailure = OnFailure.STOP
    retries: Annotated[int, Field(ge=0)] = 1


class _File(_Table):
    case: _Case | None = None
    market: _Market | None = None
    transmission: _Transmission | None = None
    options: _Options = _Options()
    study: _Run = _Run()

    @model_validator(mode="after")
    def _one_source(self) -> _File:
        both = self.case is not None and self.market is not None
        if both or (self.case is None and self.market is None):
            expected = "one table [case], or one table [market]"
            raise _wrong("both" if both else "none of the two", expected, "Choose where the feeders come from.")
        if self.case is not None and self.transmission is not None:
            raise _wrong("[transmission] beside [case]", "the grid of the case", "Drop it, or write a [market].")
        return self


_TABLES: Final[dict[str, type[_Table]]] = {
    "case": _Case, "market": _Market, "transmission": _Transmission, "options": _Options, "study": _Run,
}  # fmt: skip


def _fault(file: str, detail: ErrorDetails) -> Fault:
    """Say in our words what pydantic has found."""
    place = [str(part) for part in detail["loc"]]
    where = f"{file}, {'.'.join(place)}" if place else file
    if detail["type"] == FAULT:
        parts = detail["ctx"]
        return Fault(where, parts["found"], parts["expected"], parts["remedy"])
    if detail["type"] == "missing":
        return Fault(where, "nothing", "a value", "Add it.")
    if detail["type"] == "extra_forbidden":
        table = _File if len(place) == 1 else _TABLES[place[0]]
        return unknown_names(where, [place[-1]], list(table.model_fields))[0]
    expected = detail["msg"].removeprefix("Input should be ")
    return Fault(where, repr(detail["input"]), expected, "Correct it.")


def _source(found: _File) -> Source:
    if found.case is not None:
        case = found.case
        return ReplicatedCase(case.name, case.copies, case.periods, case.seed)
    market = found.market
    assert market is not None
    side = found.transmission
    return NetworkFiles(
        networks=market.networks,
        bids=market.bids,
        imbalance=market.imbalance,
        tbm_prices=market.tbm_prices,
        tbm_limit=market.tbm_limit,
        rules=MarketRules(
            price_cap=market.price_cap,
            price_floor=market.price_floor,
            value_of_lost_load=market.value_of_lost_load,
        ),
        transmission=None
        if side is None
        else TransmissionFiles(side.network, side.bids, side.interface, side.imbalance),
    )


def _options(given: _Options) -> Options:
    behaviour: Behaviour = Truthful() if given.behaviour == "truthful" else AsBid()
    decides = PricesAndVolumes() if given.volumes else PricesOnly()
    return Options(
        behaviour=behaviour if given.leader is None else OneLeader(given.leader, decides),
        forwarding=given.forwarding.method(undo=given.undo),
        grid=LinDistFlow(loss_passes=given.loss_passes, losses=given.losses),
    )
