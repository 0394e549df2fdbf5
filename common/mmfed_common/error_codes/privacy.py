"""Codes of 3xx: privacy."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-302": Code(
        "The model has a trained layer that gives no exact gradient per patient.",
        "Build trained layers from `nn.Linear`, `nn.Embedding` and `nn.LayerNorm`, none of them shared, or "
        'set `[privacy] trainable` to what does not hold it; with `mode = "none"` any layer may train.',
    ),
    "MMF-303": Code(
        "The loss or the model is not separable: one patient's gradient depends on the others in the batch.",
        "Use a loss that is a sum over patients (discrete hazards instead of Cox, no contrastive or ranking "
        "terms) and no statistics of the batch: otherwise clipping bounds nothing. Nothing was trained.",
    ),
    "MMF-304": Code(
        "The study asks for differential privacy and for correlation edges found among the site's patients.",
        'Set `[contract.relations] source` to `"study"`, with pairs from public data, or to `"none"`: edges '
        "found among patients would tell of them without noise.",
    ),
    "MMF-305": Code(
        "The study asks for differential privacy and scales features by patients without paying for it.",
        'Set `normalisation = "reference"` with public means and deviations, or `normalisation = '
        '"federated"` with `[privacy] scaling_epsilon`, the part of ε that pays for noisy sums.',
    ),
    "MMF-360": Code(
        "The study asks for differential privacy and for early stopping by a loss over patients.",
        "Remove `[training] patience` and fix the number of rounds: every look at the loss costs privacy.",
    ),
    "MMF-361": Code(
        "Noisy sums of features need public bounds, and the contract gives none for some features.",
        "Give `minimum` and `maximum` (or `clip` for a table of measurements) for each feature named, or set "
        '`normalisation = "reference"`.',
    ),
    "MMF-365": Code(
        "The study asks for differential privacy and for a stage that compares patients with each other.",
        'Set `objective = "masked_nodes"`, whose loss is each patient\'s own, or `[privacy] mode = "none"` '
        "where the data are public: with contrastive learning every patient stands in the others' losses.",
    ),
    "MMF-306": Code(
        "The study's δ is too large for this site: it must be below 1 over the number of training patients.",
        "Tell the coordinator to set a smaller `[privacy] delta`: a larger one would allow that the data of "
        "one patient are simply published. Nothing was trained.",
    ),
    "MMF-307": Code(
        "No amount of noise gives the privacy that is asked for.",
        "Tell the coordinator to set a larger `[privacy] epsilon` (above 0.02), fewer rounds, or a larger "
        "part of ε for training when `scaling_epsilon` takes most of it.",
    ),
    "MMF-308": Code(
        "The privacy budget does not allow what was to be computed next; nothing was computed.",
        "`mmfed-client status` shows what was spent and what is left. More is possible only if the limit is "
        "raised, in the site's policy or in the study; that is a decision about patients, not a repair.",
    ),
    "MMF-309": Code(
        "The account of privacy and what was computed do not agree; nothing left the site.",
        "Do not go on: keep the ledger as it is, run `mmfed-client ledger verify`, and report it to whoever "
        "maintains mmfed at your site.",
    ),
    "MMF-370": Code(
        "The secret of this site's noise, `privacy.key`, cannot be used.",
        "If others could read it or it is damaged, remove the file: the next round makes another, and what "
        "was computed with the old one is paid again. Otherwise repair the folder's permissions or the disk.",
    ),
    "MMF-371": Code(
        "The site has too few patients for the privacy that the study asks for.",
        "Tell the coordinator to set a larger `[privacy] epsilon`, or do not take part: the noise that this "
        "site would need is larger than what all its patients together can contribute. Nothing was trained.",
    ),
}
