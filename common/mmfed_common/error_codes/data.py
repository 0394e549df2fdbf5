"""Codes of 2xx: a site's data."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
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
}
