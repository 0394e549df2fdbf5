"""``cohort.toml``: which of a site's own tables and columns hold what the contract asks for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from mmfed_common.contract import Section
from mmfed_common.errors import DataError

Columns = tuple[str, ...] | dict[str, str]
Cell = bool | int | float | str
Confirmation = Literal["unit", "event"]


class TableFile(Section):
    """One table: its file, and what differs from the defaults."""

    file: Path
    id_column: str | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    decimal: Annotated[str, Field(min_length=1, max_length=1)] = "."


class Identity(Section):
    """``[cohort]``: the columns that say who and where; ``table`` is the table with one row per patient."""

    id_column: str
    site_column: str | None = None
    fold_column: str | None = None
    table: str | None = None
    root: Path | None = None


class FeatureColumns(Section):
    """``[demographics]`` and ``[clinical]``: a list of columns, or ``{contract_name = "their column"}``."""

    table: str | None = None
    columns: Columns = ()

    @property
    def mapping(self) -> dict[str, str]:
        """Contract name → column of the site's table."""
        return as_mapping(self.columns)


class Measurements(Section):
    """One table of measurements; ``columns`` maps those contract names that the table calls otherwise."""

    table: str
    columns: dict[str, str] = Field(default_factory=dict)


class GeneTables(Section):
    """``[gene.…]``: one table for each layer."""

    expression: Measurements | None = None
    methylation: Measurements | None = None
    cnv: Measurements | None = None
    mutation: Measurements | None = None

    @property
    def layers(self) -> dict[str, Measurements]:
        """Layer name → its table, those given."""
        return {name: section for name in type(self).model_fields if (section := getattr(self, name))}


class ImagingTable(Measurements):
    """``[imaging]``: one row a patient, or several tiles or slices with coordinates."""

    x: str | None = None
    y: str | None = None
    z: str | None = None

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Coordinate columns that the table has."""
        return tuple(column for column in (self.x, self.y, self.z) if column is not None)


class SurvivalColumns(Section):
    """``[outcome.survival]``: follow-up and event.

    ``event_value`` is what a cell holds when the event happened (one value or several); ``censored_value``
    what it holds otherwise, needed only when more than one other value occurs. ``confirmed`` names what
    someone has checked although it looks implausible (``MMF-208``, ``MMF-209``).
    """

    table: str
    time: str
    event: str
    unit: Literal["days", "weeks", "months", "years"]
    event_value: Cell | tuple[Cell, ...] = 1
    censored_value: Cell | tuple[Cell, ...] | None = None
    confirmed: tuple[Confirmation, ...] = ()


class ResponseColumn(Section):
    """``[outcome.response]``: one column of response categories."""

    table: str
    column: str


class ToxicityColumns(Section):
    """``[outcome.toxicity]``: 0/1 columns, a list or ``{contract_label = "their column"}``."""

    table: str
    columns: Columns

    @property
    def mapping(self) -> dict[str, str]:
        """Contract label → column of the site's table."""
        return as_mapping(self.columns)


class OutcomeTables(Section):
    """``[outcome.…]``: at least one."""

    survival: SurvivalColumns | None = None
    response: ResponseColumn | None = None
    toxicity: ToxicityColumns | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if not (self.survival or self.response or self.toxicity):
            raise ValueError(
                "give at least one of [outcome.survival], [outcome.response], [outcome.toxicity]"
            )
        return self


class CohortDescription(Section):
    """A whole ``cohort.toml``."""

    cohort: Identity
    tables: Annotated[dict[str, TableFile], Field(min_length=1)]
    demographics: FeatureColumns = FeatureColumns()
    clinical: FeatureColumns = FeatureColumns()
    gene: GeneTables = GeneTables()
    protein: Measurements | None = None
    metabolite: Measurements | None = None
    imaging: ImagingTable | None = None
    outcome: OutcomeTables

    @field_validator("tables", mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        """Accept ``name = "file"`` for ``name = {file = "file"}``."""
        if not isinstance(value, Mapping):
            return value
        return {name: {"file": t} if isinstance(t, str | Path) else t for name, t in value.items()}

    @model_validator(mode="after")
    def _tables_exist(self) -> Self:
        for where, table in self._named_tables():
            if table is not None and table not in self.tables:
                raise ValueError(f"{where} names the table {table!r}, which [tables] does not have")
        twice = set(self.demographics.mapping) & set(self.clinical.mapping)
        if twice:
            raise ValueError(f"columns stand in [demographics] and in [clinical]: {sorted(twice)}")
        return self

    def _named_tables(self) -> list[tuple[str, str | None]]:
        sections: dict[str, Any] = {
            "cohort": self.cohort,
            "demographics": self.demographics,
            "clinical": self.clinical,
            **{f"gene.{name}": section for name, section in self.gene.layers.items()},
            "protein": self.protein,
            "metabolite": self.metabolite,
            "imaging": self.imaging,
            "outcome.survival": self.outcome.survival,
            "outcome.response": self.outcome.response,
            "outcome.toxicity": self.outcome.toxicity,
        }
        return [(f"[{name}] table", section.table) for name, section in sections.items() if section]

    @property
    def patient_table(self) -> str:
        """The table whose rows are the patients.

        ``[cohort] table``, otherwise the table of ``[clinical]``, of ``[demographics]``, or of the first
        outcome.
        """
        o = self.outcome
        named = (self.cohort, self.clinical, self.demographics, o.survival, o.response, o.toxicity)
        return next(section.table for section in named if section is not None and section.table)

    def feature_sources(self) -> dict[str, tuple[str, str]]:
        """Contract column → (table, column) for demographics and clinical data."""
        sources: dict[str, tuple[str, str]] = {}
        for section in (self.demographics, self.clinical):
            table = section.table or self.patient_table
            sources |= {name: (table, column) for name, column in section.mapping.items()}
        return sources

    def id_column(self, table: str) -> str:
        """Name the identifier column of one table."""
        return self.tables[table].id_column or self.cohort.id_column


def as_mapping(columns: Columns) -> dict[str, str]:
    """Write a list of columns as contract name → column."""
    return dict(columns) if isinstance(columns, dict) else {column: column for column in columns}


def load_description(path: Path, root: Path | None = None) -> CohortDescription:
    """Read ``cohort.toml``.

    Parameters
    ----------
    path
        The file, or the folder that holds it.
    root
        Folder of the tables. The key ``[cohort] root`` comes first, then this, then the file's own folder.

    Raises
    ------
    DataError
        ``MMF-201`` when the file cannot be read, ``MMF-202`` with every fault of its content.
    """
    file = path / "cohort.toml" if path.is_dir() else path
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError("MMF-201", f"cannot read it: {error.strerror}", str(file)) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError("MMF-202", f"not a TOML document: {error}", str(file)) from None
    try:
        description = CohortDescription.model_validate(content)
    except ValidationError as error:
        lines = [f"{'.'.join(str(p) for p in e['loc']) or '-'}: {e['msg']}" for e in error.errors()]
        raise DataError("MMF-202", "\n  ".join([f"{len(lines)} fault(s)", *lines]), str(file)) from None
    own = description.cohort.root
    base = file.parent / own if own is not None else root if root is not None else file.parent
    tables = {
        name: table.model_copy(update={"file": base / table.file})
        for name, table in description.tables.items()
    }
    return description.model_copy(update={"tables": tables})
