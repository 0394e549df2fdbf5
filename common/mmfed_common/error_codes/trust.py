"""Codes of 41x to 44x: keys, certificates, signatures, enrolment."""

from __future__ import annotations

from mmfed_common.error_codes.code import Code

CODES: dict[str, Code] = {
    "MMF-411": Code("A key cannot be read.", "Check the path, or restore the key from its copy."),
    "MMF-412": Code(
        "A private key can be read by others.", "Run `chmod 600` on the file, then think about a new key."
    ),
    "MMF-413": Code(
        "The passphrase of a key is missing or wrong.", "Give it in the variable MMFED_PASSPHRASE."
    ),
    "MMF-416": Code(
        "What came from a site is not signed by the site's key.",
        "Look at the site's log; if its key was changed, use `mmfed-server enrol --rotate`.",
    ),
}
