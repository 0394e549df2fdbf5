"""Codes of 56x: sites that leave a study, and runs that are trained again without them."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-560": Code(
        "The site has withdrawn from this study.",
        "Nothing of it is taken any more; if it was a mistake, the coordinator lets it back with "
        "`mmfed-server runs readmit RUN --site SITE`.",
    ),
    "MMF-561": Code(
        "This run is trained again without the site.",
        "Nothing is asked of the site in it; the site may stay for other studies.",
    ),
    "MMF-562": Code(
        "The run holds nothing of the site.",
        "There is nothing to train again: see what the site contributed with `mmfed-server runs "
        "contributions SITE`.",
    ),
    "MMF-563": Code(
        "The run holds contributions of a site that has withdrawn.",
        "Train it again without the site: `mmfed-server runs replay RUN --without SITE`.",
    ),
    "MMF-564": Code(
        "The run was replaced by one that is trained again without a site.",
        "Use the run that replaces it; `mmfed-server runs` names it.",
    ),
    "MMF-565": Code(
        "The coordinator has no such study.",
        "Look at the hashes of the studies in `mmfed-client ledger show --kind approval`.",
    ),
    "MMF-566": Code(
        "The site's ledger does not show what the runs count of it.",
        "Compare the rounds that are named with the site by telephone: one of the two records is wrong.",
    ),
    "MMF-567": Code(
        "The site has not withdrawn from this study.",
        "See who has with `mmfed-server runs contributions SITE`.",
    ),
}
