"""``mmfed-simulate attack``: what a model, or one update, tells about the patients behind it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json, progress_bar, stdout
from mmfed_simulations.cli.arguments import CohortFolder, DataRoot

if TYPE_CHECKING:
    from mmfed_common.bundle import Bundle
    from mmfed_simulations.attacks.record import Report
    from mmfed_simulations.attacks.shadows import Patients

app = typer.Typer(no_args_is_help=True, help="Attack our own model, with and without each defence.")

BundleFolder = Annotated[Path, typer.Option("--bundle", help="The released model: a folder.")]
Knowledge = Annotated[
    Path | None,
    typer.Option("--knowledge", help="Folder of the study's knowledge pack; by default the cohort's."),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder for attack.json, attack.html and finished shadow models.")
]
Note = Annotated[bool, typer.Option("--note", help="Write the result onto the bundle's model card.")]
Defences = Annotated[
    list[str] | None,
    typer.Option(
        "--defence",
        help="released (as it is), none, dp8 (any ε), fp16, bf16, int8, secure; may be given again. All but "
        "released train the study again.",
    ),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")]


class Level(StrEnum):
    """Which level of the model the attacked round trains."""

    clinical = "clinical"
    additive = "additive"
    full = "full"


@dataclass(frozen=True)
class _Target:
    bundle: Bundle
    patients: Patients
    kept: Path


@app.command()
def membership(
    bundle: BundleFolder,
    cohort: CohortFolder,
    data: DataRoot = None,
    knowledge: Knowledge = None,
    out: Out = None,
    defence: Defences = None,
    shadows: Annotated[int, typer.Option(help="Shadow models for each defence; even, at least 8.")] = 16,
    workers: Workers = 1,
    note: Note = False,
    as_json: AsJson = False,
) -> None:
    """Tell who was trained on: likelihood-ratio test with shadow models, and the loss threshold.

    Needs the patients that the bundle was trained on and those that it held out. The same command with --out
    goes on after an interruption.

    Examples:

        mmfed-simulate attack membership --bundle run/model --cohort sites --out attacked --note
        mmfed-simulate attack membership --bundle run/model --cohort sites --out attacked
            --defence released --defence dp8 --defence dp1 --workers 2
    """
    from mmfed_simulations.attacks.defences import MASKS_NOTHING_RELEASED, parse_defences, refuse_meaningless
    from mmfed_simulations.attacks.membership import attack_membership
    from mmfed_simulations.attacks.record import membership_report

    wanted = parse_defences(defence)
    refuse_meaningless(wanted, MASKS_NOTHING_RELEASED)
    with _target(bundle, cohort, data, knowledge, out) as target, _progress() as told:
        rows = attack_membership(
            target.bundle, target.patients, wanted, target.kept, shadows=shadows, workers=workers, told=told
        )
    _finish(target.bundle, membership_report(rows, shadows), bundle, out, note=note, as_json=as_json)


@app.command()
def reconstruct(
    bundle: BundleFolder,
    cohort: CohortFolder,
    data: DataRoot = None,
    knowledge: Knowledge = None,
    out: Out = None,
    defence: Defences = None,
    patients: Annotated[
        list[int] | None, typer.Option(min=1, help="Patients in the update; may be given again.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Updates attacked for each row.")] = 20,
    iterations: Annotated[int, typer.Option(min=0, help="Steps of gradient matching.")] = 300,
    level: Annotated[
        Level | None, typer.Option(help="What the attacked round trains; by default the study's last level.")
    ] = None,
    note: Note = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild the patients behind a single update, as the server could: gradient inversion.

    Examples:

        mmfed-simulate attack reconstruct --bundle run/model --cohort sites --out attacked
        mmfed-simulate attack reconstruct --bundle run/model --cohort sites --patients 1 --patients 8
            --defence none --defence dp8 --defence secure
    """
    from mmfed_simulations.attacks.defences import Defence, parse_defences, refuse_meaningless
    from mmfed_simulations.attacks.reconstruct import Settings, attack_reconstruct
    from mmfed_simulations.attacks.record import reconstruct_report

    settings = Settings(trials, iterations, None if level is None else level.value)
    with _target(bundle, cohort, data, knowledge, out) as target, _progress() as told:
        wanted = parse_defences(defence) if defence else [Defence.of(target.bundle.study)]
        refuse_meaningless(wanted, {"released": "an update has the defence of its study: name it"})
        counts = patients or [1, 4, 16]
        rows = attack_reconstruct(target.bundle, target.patients, wanted, counts, settings, told)
    _finish(target.bundle, reconstruct_report(rows), bundle, out, note=note, as_json=as_json)


@app.command()
def attribute(
    bundle: BundleFolder,
    cohort: CohortFolder,
    data: DataRoot = None,
    knowledge: Knowledge = None,
    out: Out = None,
    defence: Defences = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Column to hide; by default every one that is no number; may be given again."),
    ] = None,
    note: Note = False,
    as_json: AsJson = False,
) -> None:
    """Guess a hidden column of a patient with the model's help, beside the same guess without it.

    Examples:

        mmfed-simulate attack attribute --bundle run/model --cohort sites
        mmfed-simulate attack attribute --bundle run/model --cohort sites --column sex --defence released
            --defence dp8
    """
    from mmfed_simulations.attacks.attribute import attack_attribute
    from mmfed_simulations.attacks.defences import MASKS_NOTHING_RELEASED, parse_defences, refuse_meaningless
    from mmfed_simulations.attacks.record import attribute_report

    wanted = parse_defences(defence)
    refuse_meaningless(wanted, MASKS_NOTHING_RELEASED)
    with _target(bundle, cohort, data, knowledge, out) as target, _progress() as told:
        rows = attack_attribute(target.bundle, target.patients, wanted, column, told)
    _finish(target.bundle, attribute_report(rows), bundle, out, note=note, as_json=as_json)


@contextmanager
def _target(
    bundle: Path, cohort: Path, data: Path | None, knowledge: Path | None, out: Path | None
) -> Iterator[_Target]:
    """The model and everybody whom it may have seen; what is kept without ``--out`` is deleted at the end."""
    from mmfed_common.bundle import load_bundle
    from mmfed_simulations.attacks.shadows import Patients
    from mmfed_simulations.cli.loading import load_cohorts

    opened = load_bundle(bundle)
    loaded = load_cohorts(opened.study, knowledge or cohort, cohort, data)
    with tempfile.TemporaryDirectory(prefix="mmfed-attack-") as folder:
        kept = Path(folder) if out is None else out / "shadows"
        yield _Target(opened, Patients(loaded.cohort, loaded.topology), kept)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    with progress_bar() as bar:
        task = bar.add_task("attack", total=None)
        yield lambda what, done, total: bar.update(task, completed=done, total=total, description=what)


def _finish(
    bundle: Bundle, report: Report, folder: Path, out: Path | None, *, note: bool, as_json: bool
) -> None:
    from mmfed_common.bundle import note_on_card
    from mmfed_simulations.attacks.record import PAGE, write_record

    if out is not None:
        write_record(out, bundle, report)
    if note:
        note_on_card(folder, "Attacks on this model", report.attack, report.note)
    if as_json:
        print_json({"attack": report.attack, "bundle": bundle.hash, "rows": report.content})
        return
    from rich.table import Table

    console = stdout()
    table = Table(title=report.title, title_justify="left")
    for position, name in enumerate(report.columns):
        table.add_column(name, justify="left" if position < 1 else "right")
    for row in report.rows:
        table.add_row(*row)
    console.print(table)
    for sentence in report.reading:
        console.print(sentence, markup=False)
    if out is not None:
        console.print(f"Report: {out / PAGE}", markup=False, soft_wrap=True)
    if note:
        console.print(f"Model card: {folder / 'model_card.md'}", markup=False, soft_wrap=True)
