"""Codes of 11x and 12x: this machine and the processes of a site on it."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-110": Code(
        "Another node of this site is running.",
        "Look at it with `mmfed-client status`; stop it before you start another one.",
    ),
    "MMF-111": Code(
        "The node's process ended without saying why.",
        "It is started again by itself. If it goes on, look at memory and at state/node.err in the home.",
    ),
    "MMF-112": Code(
        "The site's home cannot be written.",
        "Free space on its disk, or give the program's user the right to write there.",
    ),
    "MMF-113": Code(
        "site.toml names no cohort.",
        'Add the line `cohort = "/path/to/cohort.toml"` to site.toml; it is read again by itself.',
    ),
    "MMF-114": Code(
        "No study is offered yet, and none has been seen before.",
        "Wait until the coordinator starts a study, or give the file of a signed study.",
    ),
    "MMF-115": Code(
        "The site's program ended without saying so.",
        "Start it again with `mmfed-client start`; under systemd that happens by itself.",
    ),
    "MMF-117": Code(
        "The port for metrics cannot be opened.",
        "Choose another port with --metrics; everything else works without it.",
    ),
    "MMF-118": Code(
        "The node did something that has no explanation.",
        "It is started again by itself. Please report the exception's name and place in log.jsonl.",
    ),
    "MMF-119": Code(
        "The site's own column of the cohort does not hold this site's name.",
        "Correct the column, or take `site_column` out of cohort.toml: it is for simulations.",
    ),
    "MMF-120": Code(
        "The node did not report within the time it had.",
        "It is killed and started again by itself; look at the machine's load and at its disks.",
    ),
}
