"""``docs/errors.md``: the page of every error code, made from the table of codes.

``python -m mmfed_simulations.error_page > docs/errors.md`` writes it; a test proves that it is current.
"""

from __future__ import annotations

from mmfed_common.error_codes import CODES

FAMILIES = {
    "1": "1xx: this machine and its installation",
    "2": "2xx: a site's data",
    "3": "3xx: privacy and what protects a site",
    "4": "4xx: network and trust",
    "5": "5xx: study and runs",
    "6": "6xx: knowledge, graph, model",
}
PREAMBLE = """# Errors

Every failure has a code. The program prints it with what is wrong, where, and the next step; the exit code is
its family, e.g. 2 for `MMF-2xx`. Other exit codes: 64 wrong usage, 70 a defect of mmfed, 130 interrupted.
"""


def error_page() -> str:
    """Write the page."""
    lines = [PREAMBLE]
    for family, title in FAMILIES.items():
        rows = [(code, text) for code, text in sorted(CODES.items()) if code[4] == family]
        lines += [f"## {title}", "", "| code | what it means | next step |", "|---|---|---|"]
        lines += [f"| {code} | {_cell(text.meaning)} | {_cell(text.next_step)} |" for code, text in rows]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    print(error_page(), end="")
