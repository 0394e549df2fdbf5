"""The table of error codes: what each means and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """The fixed texts of one error code."""

    meaning: str
    next_step: str


CODES: dict[str, Code] = {
    # 2xx: a site's data
    "MMF-200": Code(
        "The cohort does not meet the contract.",
        "Repair each fault listed above; nothing was read into a model.",
    ),
    "MMF-201": Code(
        "A file cannot be found or read.", "Check the path in cohort.toml and that this user may read it."
    ),
    "MMF-202": Code(
        "cohort.toml is not valid.",
        "Correct the named key; `[section] key` names are listed in docs/cohort.md.",
    ),
    "MMF-203": Code(
        "A column that cohort.toml names is not in the table.",
        "Correct the name in cohort.toml; the nearest names of the table are given.",
    ),
    "MMF-204": Code(
        "A patient appears more than once.",
        "Keep one row for each patient, or describe the table as imaging with several rows.",
    ),
    "MMF-205": Code("A numeric column holds text.", "Replace the text by a number or leave the cell empty."),
    "MMF-206": Code(
        "A value is impossible for its column.",
        "Correct the value or leave the cell empty; the contract gives the allowed range.",
    ),
    "MMF-207": Code(
        "A category is not in the contract's vocabulary.",
        "Map it with `aliases` in the study, or correct the cell.",
    ),
    "MMF-208": Code(
        "Times look as if they were given in another unit.",
        "Set `unit` of the outcome in cohort.toml to what the column really holds.",
    ),
    "MMF-209": Code(
        "The event column looks as if it were coded backwards.",
        "1 must mean that the event happened; set `event_value` in cohort.toml if it is coded otherwise.",
    ),
    "MMF-210": Code(
        "No patient has an event, or none can be followed.",
        "Check the event and time columns; a survival study needs both events and follow-up.",
    ),
    "MMF-211": Code(
        "An outcome, or a column derived from one, is used as a feature.",
        "Take the column out of the features; it is not known when a prediction is made.",
    ),
    "MMF-212": Code(
        "A modality is empty.",
        "Check its table and panel, or take the modality out of cohort.toml; it is then treated as absent.",
    ),
    "MMF-213": Code(
        "A gene symbol is unknown.",
        "Use HGNC symbols; old names that the knowledge pack knows are resolved by themselves.",
    ),
    "MMF-214": Code(
        "A feature that the contract requires is missing.",
        "Add the column, or ask the coordinator to make it optional.",
    ),
    "MMF-215": Code("A patient identifier is empty.", "Give every row an identifier or remove the row."),
    "MMF-216": Code(
        "Patients of a table are unknown to the clinical table.",
        "Check the identifier column; such rows are left out and counted.",
    ),
    "MMF-217": Code("A table is of an unknown format.", "Use .csv, .csv.gz, .parquet or .feather."),
    "MMF-218": Code("Two columns resolve to the same feature.", "Keep one of them."),
    "MMF-219": Code(
        "Too few patients remain.",
        "Check the outcome columns and the held-out rule; the study needs more patients than are left.",
    ),
    "MMF-220": Code("A binary column holds something other than 0 and 1.", "Recode the column to 0 and 1."),
    "MMF-221": Code(
        "An outcome of some patients is not known.",
        "Nothing need be done: who has no known outcome is left out. Fill the cells if they are known.",
    ),
    "MMF-222": Code(
        "Some patients have a follow-up of zero.",
        "They are kept and count in the first time bin; correct the cell if the time is really unknown.",
    ),
    "MMF-223": Code(
        "A patient has no site, or a fold that is not a whole number.",
        "Fill the columns that `site_column` and `fold_column` name, or take the keys out of cohort.toml.",
    ),
    "MMF-224": Code(
        "Some patients have more tiles or slices than the study takes.",
        "A fixed selection of them is used; nothing need be done.",
    ),
    # 3xx: privacy
    "MMF-301": Code(
        "The study asks for differential privacy, which this version does not train with.",
        'Set `[privacy] mode = "none"`, or use a version that has it; nothing was trained.',
    ),
    # 4xx: network and trust
    "MMF-401": Code(
        "A site did not answer before the deadline.", "Look at the site's log; the others went on."
    ),
    "MMF-402": Code(
        "An update was refused.",
        "The reason stands beside the site's name; the site may take part in the next round.",
    ),
    "MMF-403": Code(
        "Too few sites answered.",
        "Wait for more sites, or lower `[aggregation] minimum_sites` in a new study.",
    ),
    "MMF-404": Code(
        "A site failed while it worked on a message.", "Look at that site's own log for the cause."
    ),
    "MMF-405": Code(
        "A message belongs to another study.",
        "Start the site with the study that the server runs; nothing was trained.",
    ),
    "MMF-406": Code(
        "A site has fewer training patients than the study's floor.",
        "The site takes no part; lower `[aggregation] minimum_patients` in a new study if that is right.",
    ),
    "MMF-407": Code(
        "Something was about to leave a site that the study does not allow.",
        "This is a defect of mmfed: nothing was sent. Please report it with the study file.",
    ),
    # 5xx: study and runs
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
    # 6xx: knowledge, graph, model
    "MMF-601": Code(
        "A knowledge source cannot be read.", "Check the file against the format named in docs/knowledge.md."
    ),
    "MMF-602": Code(
        "A knowledge pack does not have the hash that the study names.",
        "Use the pack the study was written for, or write its hash into a new study.",
    ),
    "MMF-603": Code(
        "A knowledge pack is damaged.", "Build it again; its content does not match its own hash."
    ),
    "MMF-604": Code(
        "The model became non-finite.",
        "Lower the learning rate or check the inputs; the last good round is kept.",
    ),
    "MMF-605": Code("Weights do not fit the model.", "Use the study that the weights were made with."),
    "MMF-606": Code("A bundle is damaged or incomplete.", "Export it again."),
    "MMF-607": Code(
        "A fast kernel is not available here.",
        "The plain form is used instead: same results, slower. Install numba for the fused form.",
    ),
    "MMF-608": Code("The graph cannot be built.", "Check the contract's panels against the knowledge pack."),
    "MMF-609": Code(
        "The sizes of the model do not fit together.",
        "Make `[model] hidden` a multiple of `heads`.",
    ),
}
