"""Codes of 6xx: knowledge, graph, model."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
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
    "MMF-630": Code(
        "The bundle that the study starts from is missing, or is another one.",
        "Put the bundle's folder where `[model] start_from` says, beside the study, and write its hash into "
        "the study: `mmfed-simulate pretrain` and `mmfed-server export` print it.",
    ),
    "MMF-631": Code(
        "Nothing of the bundle that the study starts from could be taken over.",
        "Use a bundle of a study with the same `[model]` sizes that shares genes, proteins, clinical columns "
        "or outcomes with this one, or remove the named part from `frozen`, or remove `start_from`.",
    ),
    "MMF-620": Code("There is no such defence.", "Name one of those listed, e.g. --defence dp8."),
    "MMF-621": Code(
        "A defence has no bearing on this attack.",
        "Leave it out; docs/results/attacks.md says what stops what.",
    ),
    "MMF-622": Code(
        "The cohort does not hold what this attack needs.",
        "Give the patients that the model was trained on and some that it never saw, and smaller updates.",
    ),
    "MMF-623": Code(
        "The number of shadow models does not fit.", "Give an even number of at least 8 with --shadows."
    ),
    "MMF-624": Code(
        "A column cannot be hidden and guessed.",
        "Name a binary, ordinal or category column of the study with --column.",
    ),
}
