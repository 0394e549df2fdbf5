"""``mmfed-server study``: make, sign and show studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfed_common.command_line.output import AsJson, print_json, stdout
from mmfed_server.cli.arguments import FederationFolder, StudyFile, federation_in
from mmfed_server.cli.queue import drop, queue, submit

if TYPE_CHECKING:
    from mmfed_common.study import Study
    from mmfed_server.studies.noise import NoiseCost

app = typer.Typer(
    no_args_is_help=True,
    help="Make a study, sign it, see what sites are asked to accept, let it wait its turn.",
)
for command in (submit, queue, drop):
    app.command()(command)


@app.command()
def new(
    file: StudyFile,
    name: Annotated[str, typer.Option(help="The study's name; default: that of the file.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Default: drawn.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a commented template: a study that works as it is, with every key explained.

    Examples:

        mmfed-server study new study.toml
        mmfed-server study new lung.toml --name lung-2026 --seed 7
    """
    import secrets

    from mmfed_common.errors import StudyError
    from mmfed_server.studies.template import study_template

    drawn = secrets.randbelow(2**31) if seed is None else seed
    text = study_template(name or file.stem, drawn)
    try:
        with open(file, "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise StudyError("MMF-554", "the template was not written", str(file)) from None
    except OSError as error:
        raise StudyError("MMF-508", f"cannot be written: {error.strerror}", str(file)) from None
    if as_json:
        print_json({"study": str(file), "seed": drawn})
    else:
        console = stdout()
        console.print(f"Wrote {file}. Edit it, then: mmfed-server study show {file}", markup=False)


@app.command()
def sign(
    file: StudyFile,
    days: Annotated[int, typer.Option(min=1, max=3660, help="How long sites may begin to work on it.")] = 365,
    out: Annotated[Path | None, typer.Option(help="Also write the signed study to this file.")] = None,
    folder: FederationFolder = None,
    as_json: AsJson = False,
) -> None:
    """Sign a study with the coordinator's key and keep it, with its knowledge pack, in the federation.

    `start --study FILE` does this by itself. Sign by hand to set another expiry, or to send the study to a
    site before the server runs: `mmfed-client review SIGNED`.

    Examples:

        mmfed-server study sign study.toml --dir fed --days 90
    """
    from mmfed_common.durable import write_durably
    from mmfed_common.errors import StudyError
    from mmfed_server.studies.shelf import StudyShelf

    federation = federation_in(folder)
    study, signed = StudyShelf(federation).put(file, days)
    kept = federation.study_file(study.hash)
    if out is not None:
        try:
            write_durably(out, signed.to_json().encode())
        except OSError as error:
            raise StudyError("MMF-508", f"cannot be written: {error.strerror}", str(out)) from None
    if as_json:
        print_json({"study": study.hash, "expires": signed.expires, "file": str(out or kept)})
    else:
        console = stdout()
        console.print(f"Signed {study.study.name} {study.hash[:12]} until {signed.expires}: {out or kept}")


@app.command()
def show(file: StudyFile, folder: FederationFolder = None, as_json: AsJson = False) -> None:
    """Print in plain language what a site will be asked to accept.

    Takes study.toml, or a study that was signed.

    Examples:

        mmfed-server study show study.toml
        mmfed-server study show fed/studies/….json --dir fed
    """
    from mmfed_common.study_words import study_in_words

    study, signature = _read(file, folder)
    topics = study_in_words(study)
    costs = _noise(study, file.parent, folder)
    if as_json:
        words = {topic.title: list(topic.sentences) for topic in topics}
        content = study.model_dump(mode="json")
        noise = {"noise": [cost.as_dict() for cost in costs]} if costs else {}
        shown = {"hash": study.hash, "signed": signature or None, "words": words, **noise, "study": content}
        print_json(shown)
        return
    console = stdout()
    for topic in topics:
        console.print(f"\n[bold]{topic.title}[/]")
        for sentence in topic.sentences:
            console.print(f"  {sentence}", markup=False)
    if costs:
        _show_noise(costs)
    console.print(f"\n{signature or 'Not signed yet.'}", markup=False)


def _noise(study: Study, beside: Path, folder: Path | None) -> tuple[NoiseCost, ...]:
    """Say what noise each choice of what moves would cost; nothing without privacy or without the pack."""
    from mmfed_common.graph import build_topology
    from mmfed_common.knowledge import KnowledgePack
    from mmfed_server.studies.noise import noise_costs
    from mmfed_server.studies.shelf import StudyShelf

    if study.privacy.mode == "none":
        return ()
    reference = study.contract.knowledge
    if reference is None:
        return noise_costs(study, build_topology(study.contract, None))
    if (beside / reference.file).is_file():
        pack = KnowledgePack.load_for(reference, beside)
        return noise_costs(study, build_topology(study.contract, pack))
    return noise_costs(study, StudyShelf(federation_in(folder)).topology(study))


def _show_noise(costs: Sequence[NoiseCost]) -> None:
    from rich.table import Table

    table = Table(title="Noise of one step over the most that its patients can add", title_justify="left")
    for title in ("stage", "trainable", "parameters"):
        table.add_column(title)
    for site in costs[0].sites:
        table.add_column(f"{site.patients} patients", justify="right")
    for cost in costs:
        shown = [
            site.refused if site.ratio is None else f"{site.ratio:.2g} (σ {site.sigma:.3g})"
            for site in cost.sites
        ]
        mark = " ←" if cost.chosen else ""
        table.add_row(str(cost.stage), f"{cost.trainable}{mark}", f"{cost.parameters:,}", *shown)
    console = stdout()
    console.print()
    console.print(table)
    console.print(
        "  Below about 0.1 a step hardly feels the noise; far above 1 it is noise. σ follows from ε, δ, "
        "rounds, batch and the site's number of patients.",
        markup=False,
    )


def _read(file: Path, folder: Path | None) -> tuple[Study, str]:
    from mmfed_common.study import Study
    from mmfed_server.studies.shelf import StudyShelf, is_signed

    if not is_signed(file):
        return Study.load(file), ""
    from mmfed_common.signed_study import SignedStudy

    signed = SignedStudy.from_json(file.read_bytes())
    study = StudyShelf(federation_in(folder)).open(signed)
    return study, f"Signed for {signed.federation} at {signed.issued}, good until {signed.expires}."
