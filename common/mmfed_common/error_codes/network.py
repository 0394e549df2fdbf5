"""Codes of 4xx: network and trust."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
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
    "MMF-408": Code(
        "A compressed update holds numbers that no site sends.",
        "The others went on without it. Ask the site which version it runs and whether its machine is sound.",
    ),
}
