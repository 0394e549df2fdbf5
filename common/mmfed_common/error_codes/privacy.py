"""Codes of 3xx: privacy."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-301": Code(
        "The study asks for differential privacy, which this version does not train with.",
        'Set `[privacy] mode = "none"`, or use a version that has it; nothing was trained.',
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
    "MMF-371": Code(
        "The site has too few patients for the privacy that the study asks for.",
        "Tell the coordinator to set a larger `[privacy] epsilon`, or do not take part: the noise that this "
        "site would need is larger than what all its patients together can contribute. Nothing was trained.",
    ),
}
