"""Codes of 45x and 46x: the checks of an answer at the server."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

SITE = (
    "Look at that site's log and versions; the others went on and the site may take part in the next round."
)
HOSTILE = "Ask the site; if it did not mean it, treat its key as stolen: `mmfed-server enrol SITE --rotate`."

CODES: dict[str, Code] = {
    "MMF-450": Code("An answer's bytes cannot be read, or there are too few or too many.", SITE),
    "MMF-451": Code("An answer does not hold what was asked for, or more than that.", SITE),
    "MMF-452": Code("An array of an answer has another shape or type than the model's.", SITE),
    "MMF-453": Code(
        "An answer holds a number that is not finite.",
        "Let the site check its data with `mmfed-client check`; lower the learning rate if several have it.",
    ),
    "MMF-454": Code(
        "The number of patients that an answer counts is not plausible.",
        "Ask the site how many training patients it has; a cohort that grew takes part in the next run.",
    ),
    "MMF-455": Code(
        "An answer belongs to another study.", "Let the site approve the study that the server runs."
    ),
    "MMF-456": Code("An answer belongs to another round.", SITE),
    "MMF-457": Code("An answer names another site than the one whose connection it came by.", HOSTILE),
    "MMF-458": Code("An answer was sent before.", HOSTILE),
    "MMF-459": Code(
        "An update is far larger than those of the other sites.",
        "Let the site check units and outliers with `mmfed-client check`; the others went on without it.",
    ),
    "MMF-460": Code(
        "An update is far larger than the site's own were before.",
        "Let the site check what changed in its data or machine; the others went on without it.",
    ),
    "MMF-461": Code("The sums that a site gave for the scaling belong to no numbers.", SITE),
    "MMF-462": Code(
        "An answer came after its deadline.",
        "It was not used. If it happens often, give a new study more `deadline_seconds`.",
    ),
    "MMF-463": Code(
        "A site is not enrolled in this run.",
        "Enrol it with `mmfed-server enrol`, or take it off the network.",
    ),
    "MMF-464": Code(
        "Two connections say that they are the same site.",
        "Stop one of the two clients; a site takes part once.",
    ),
    "MMF-465": Code(
        "The connection to a site was lost while it worked.",
        "Nothing need be done: the site is asked again as soon as it is back.",
    ),
    "MMF-466": Code("An answer is longer than any answer of this study can be.", SITE),
}
