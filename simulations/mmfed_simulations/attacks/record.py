"""What an attack leaves behind: ``attack.json``, ``attack.html``, and a line for the model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from mmfed_common.bundle import Bundle, software_versions
from mmfed_common.durable import write_durably
from mmfed_common.errors import StudyError
from mmfed_simulations.attacks.attribute import AttributeRow, Gain
from mmfed_simulations.attacks.figures import AttackFigures, Interval
from mmfed_simulations.attacks.membership import MembershipRow
from mmfed_simulations.attacks.reconstruct import ReconstructRow

RECORD, PAGE = "attack.json", "attack.html"
TARGETS = {"model": "the model", "training": "each shadow model"}


@dataclass(frozen=True)
class Report:
    """One attack's result, ready to be printed, kept and read.

    Attributes
    ----------
    attack
        ``membership``, ``reconstruct`` or ``attribute``.
    title
        Of the table.
    columns, rows
        The table, as text.
    reading
        Sentences: how to read it.
    content
        The same as numbers, for ``attack.json``.
    note
        One line for the model card.
    """

    attack: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    reading: tuple[str, ...]
    content: list[dict[str, Any]]
    note: str


def membership_report(rows: Sequence[MembershipRow], shadows: int) -> Report:
    """Write up membership inference."""
    first = rows[0]
    return Report(
        "membership",
        "Membership: was this patient trained on?",
        (
            "defence",
            "attacked",
            "likelihood ratio: AUC",
            "TPR at 1 % FPR",
            "loss threshold: AUC",
            "TPR at 1 % FPR",
            "loss: members, others",
            "pairs",
        ),
        tuple(
            (
                row.defence.label,
                TARGETS[row.target],
                str(row.likelihood_ratio.auc),
                str(row.likelihood_ratio.tpr),
                str(row.loss_threshold.auc),
                str(row.loss_threshold.tpr),
                f"{row.loss_members:.2f}, {row.loss_others:.2f}",
                f"{row.likelihood_ratio.members}, {row.likelihood_ratio.others}",
            )
            for row in rows
        ),
        (
            "AUC: chance that a patient who was trained on scores above one who was not; .5 is guessing. TPR "
            "at 1 % FPR: share of those trained on who are found while 1 % of the others are accused, "
            ".01 if one guesses. Brackets: 95 % bootstrap interval over patients; models as they are.",
            f"{shadows} shadow models, each trained on half of the patients. “Each shadow model”: one after "
            "another is attacked with the help of the others, on more pairs, so with narrower intervals.",
            "With fewer than 100 strangers “at 1 % FPR” means: without a single wrong accusation.",
        ),
        [_membership_content(row) for row in rows],
        f"Membership inference ({first.defence.label}; likelihood ratio, {shadows} shadow models): AUC "
        f"{first.likelihood_ratio.auc}, TPR at 1 % FPR {first.likelihood_ratio.tpr}.",
    )


def reconstruct_report(rows: Sequence[ReconstructRow]) -> Report:
    """Write up reconstruction from single updates."""
    worst = rows[0]
    return Report(
        "reconstruct",
        "Reconstruction: who is behind one update?",
        (
            "defence",
            "patients in the update",
            "likeness, all values",
            "likeness, clinical",
            "linking: AUC",
            "TPR at 1 % FPR",
            "alignment: AUC",
            "TPR at 1 % FPR",
        ),
        tuple(
            (
                row.defence.label,
                str(row.patients),
                _text(row.likeness),
                _text(row.clinical_likeness),
                str(row.linking.auc),
                str(row.linking.tpr),
                str(row.alignment.auc),
                str(row.alignment.tpr),
            )
            for row in rows
        ),
        (
            "The server sees one step of plain descent over so many patients of a site, and is told their "
            "outcomes: more than a study of several steps shows. A site never sends an update of fewer "
            "patients than its policy's `minimum_patients`.",
            "Likeness: correlation of a reconstructed patient with the real one, in deviations from the "
            "site's mean; 0 is guessing. Linking: the patient is picked from the site's by the "
            "reconstruction. Alignment: by the candidate's own gradient; .5 is guessing. Brackets: 95 % "
            "bootstrap interval over patients.",
            "Masked sums: as many patients of every site in one sum; only the sum is seen.",
        ),
        [_reconstruct_content(row) for row in rows],
        f"Reconstruction from one update of {worst.patients} patient(s) ({worst.defence.label}): likeness "
        f"{_text(worst.likeness)}, linking AUC {worst.linking.auc}.",
    )


def attribute_report(rows: Sequence[AttributeRow]) -> Report:
    """Write up attribute inference."""
    worst = max((row for row in rows if row.defence == rows[0].defence), key=lambda row: row.leak.estimate)
    return Report(
        "attribute",
        "Attribute: is a hidden column betrayed?",
        (
            "defence",
            "column",
            "members: AUC without",
            "with the model",
            "added, members",
            "added, strangers",
            "members above strangers",
            "patients",
        ),
        tuple(
            (
                row.defence.label,
                row.column,
                str(row.members.without),
                str(row.members.with_model),
                str(row.members.advantage),
                str(row.strangers.advantage),
                str(row.leak),
                f"{row.members.patients}, {row.strangers.patients}",
            )
            for row in rows
        ),
        (
            "The attacker knows all else of a patient, outcomes included. Without the model: a logistic "
            "regression fitted on strangers. What the model adds for strangers it learned about people at "
            "large; what it adds for members above that it keeps of them.",
            "Brackets: 95 % bootstrap interval over patients; not corrected for the number of columns.",
        ),
        [_attribute_content(row) for row in rows],
        f"Attribute inference ({worst.defence.label}): of the columns tried, {worst.column} leaks most: the "
        f"model adds {worst.leak} to the AUC for members above strangers.",
    )


def write_record(out: Path, bundle: Bundle, report: Report) -> None:
    """Write ``attack.json`` and ``attack.html``; other attacks on the same bundle that are there stay.

    Raises
    ------
    StudyError
        ``MMF-508`` when they cannot be written.
    """
    path = out / RECORD
    content = {
        "bundle": bundle.hash,
        "study": {"name": bundle.study.study.name, "hash": bundle.study.hash},
        "versions": software_versions(),
        "attacks": {**_earlier(path, bundle), report.attack: _plain(report)},
    }
    environment = Environment(
        loader=PackageLoader("mmfed_simulations.attacks", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(record=content)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode())
        write_durably(out / PAGE, page.encode())
    except OSError as error:
        raise StudyError("MMF-508", str(error), str(out)) from None


def _earlier(path: Path, bundle: Bundle) -> Mapping[str, Any]:
    """What an earlier attack on the same bundle wrote; anything else is replaced."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    same = isinstance(content, dict) and content.get("bundle") == bundle.hash
    found: Mapping[str, Any] = content["attacks"] if same else {}
    return found


def _plain(report: Report) -> dict[str, Any]:
    return {
        "title": report.title,
        "columns": list(report.columns),
        "table": [list(row) for row in report.rows],
        "reading": list(report.reading),
        "rows": report.content,
    }


def _figures(figures: AttackFigures) -> dict[str, Any]:
    return {
        "auc": figures.auc.as_dict(),
        "tpr_at_1_percent_fpr": figures.tpr.as_dict(),
        "members": figures.members,
        "others": figures.others,
    }


def _membership_content(row: MembershipRow) -> dict[str, Any]:
    return {
        "defence": row.defence.name,
        "attacked": row.target,
        "likelihood_ratio": _figures(row.likelihood_ratio),
        "loss_threshold": _figures(row.loss_threshold),
        "loss_members": row.loss_members,
        "loss_others": row.loss_others,
    }


def _reconstruct_content(row: ReconstructRow) -> dict[str, Any]:
    return {
        "defence": row.defence.name,
        "patients": row.patients,
        "likeness": _plain_interval(row.likeness),
        "clinical_likeness": _plain_interval(row.clinical_likeness),
        "linking": _figures(row.linking),
        "alignment": _figures(row.alignment),
    }


def _attribute_content(row: AttributeRow) -> dict[str, Any]:
    return {
        "defence": row.defence.name,
        "column": row.column,
        "members": _gain(row.members),
        "strangers": _gain(row.strangers),
        "members_above_strangers": row.leak.as_dict(),
    }


def _gain(gain: Gain) -> dict[str, Any]:
    return {
        "auc_without": gain.without.as_dict(),
        "auc_with_model": gain.with_model.as_dict(),
        "added": gain.advantage.as_dict(),
        "patients": gain.patients,
    }


def _plain_interval(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else interval.as_dict()


def _text(interval: Interval | None) -> str:
    return "–" if interval is None else str(interval)
