"""Codes of 5xx: study and runs."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-501": Code(
        "study.toml is not valid.",
        "Correct the named key; unknown keys are errors. `docs/study.md` lists them all.",
    ),
    "MMF-502": Code(
        "The run folder holds a run of another study.", "Choose another --out, or the study that made it."
    ),
    "MMF-503": Code("The run folder is not empty.", "Add --resume to continue it, or choose another --out."),
    "MMF-504": Code("There is nothing to resume.", "Start without --resume."),
    "MMF-505": Code(
        "A held-out patient was about to be trained on.",
        "This is a defect of mmfed: nothing was sent. Please report it with the study file.",
    ),
    "MMF-506": Code(
        "A patient is at more than one site.",
        "Keep each patient at one site; otherwise a held-out patient could train elsewhere.",
    ),
    "MMF-507": Code(
        "The held-out rule cannot be applied.",
        "Check `[evaluation]` in the study and `fold_column` in cohort.toml.",
    ),
    "MMF-508": Code(
        "A run could not write its results.",
        "Free disk space or choose another --out; the last whole round is safe, add --resume.",
    ),
    "MMF-509": Code(
        "The record of a run is damaged.", "Restore it from a copy, or start again with another --out."
    ),
    "MMF-510": Code(
        "The back end needs a package that is not installed.", 'Install it with `pip install "mmfed[ray]"`.'
    ),
    "MMF-511": Code(
        "A comparison cannot be made.",
        "Check the cohort against the named arm, or leave the arm out with --arms.",
    ),
    "MMF-512": Code(
        "The settings of a synthetic consortium contradict each other.",
        "Change the named option; `mmfed-simulate cohort --help` lists them with their defaults.",
    ),
    "MMF-514": Code(
        "There is no modality to hide.",
        "Take a study with two modalities or more; clinical columns and demographics are one of them.",
    ),
    "MMF-521": Code("A run was interrupted.", "Add --resume to continue it; the last whole round is safe."),
    "MMF-522": Code(
        "The cohort has changed since the run began.",
        "Restore the tables as they were to resume, or start again with another --out.",
    ),
    "MMF-523": Code(
        "The run folder was not named.",
        "Prepare one with `mmfed-simulate run … --prepare-only`, then "
        "`flwr run . --run-config 'run-dir=\"FOLDER\"' --federation-config 'num-supernodes=SITES'`.",
    ),
}
