"""The shape of the project: who may import whom, how long modules are, that docs name every code and key."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from mmfed_common.contract import Section
from mmfed_common.error_codes import CODES
from mmfed_common.study import Study
from mmfed_simulations.error_page import error_page

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "mmfed_common": ROOT / "common" / "mmfed_common",
    "mmfed_client": ROOT / "client" / "mmfed_client",
    "mmfed_server": ROOT / "server" / "mmfed_server",
    "mmfed_simulations": ROOT / "simulations" / "mmfed_simulations",
}
MAY_IMPORT = {
    "mmfed_common": {"mmfed_common"},
    "mmfed_client": {"mmfed_common", "mmfed_client"},
    "mmfed_server": {"mmfed_common", "mmfed_server"},
    "mmfed_simulations": set(PACKAGES),
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "misc", "common_utils", "manager"}
MOST_LINES = 400
MOST_FUNCTION_LINES = 90


def modules(package: str) -> list[Path]:
    """Every module of a package."""
    found = sorted(PACKAGES[package].rglob("*.py"))
    assert found, f"{package} has no modules"
    return found


def every_module() -> list[Path]:
    """Every module of the project, tests included."""
    return [path for name in PACKAGES for path in modules(name)] + sorted((ROOT / "tests").rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Top-level packages that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    forbidden = (set(PACKAGES) - MAY_IMPORT[package]) | {"tests", "deploy", "pytest", "hypothesis"}
    wrong = {str(path.relative_to(ROOT)): set(imported(path)) & forbidden for path in modules(package)}
    assert {path: names for path, names in wrong.items() if names} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_relative_imports_do_not_hide_a_direction(package: str) -> None:
    for path in modules(package):
        levels = [n.level for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
        assert not any(levels), f"{path.relative_to(ROOT)} uses a relative import"


def test_modules_are_short_and_well_named() -> None:
    long = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in every_module()}
    assert {path: lines for path, lines in long.items() if lines > MOST_LINES} == {}
    assert [path for path in long if Path(path).stem in FORBIDDEN_NAMES] == []


def test_functions_fit_a_screen() -> None:
    long = []
    for path in every_module():
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.FunctionDef)
                and (node.end_lineno or 0) - node.lineno > MOST_FUNCTION_LINES
            ):
                long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert long == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is_for(package: str) -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in modules(package)
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_nothing_is_swallowed() -> None:
    found = []
    for path in (p for name in PACKAGES for p in modules(name)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                only_pass = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
                if node.type is None or only_pass:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def code_uses() -> dict[str, set[str]]:
    """Error code → modules that name it in a string, the table of codes aside."""
    uses: dict[str, set[str]] = {}
    for path in (p for name in PACKAGES for p in modules(name) if p.parent.name != "error_codes"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for code in re.findall(r"^MMF-\d{3}$", node.value):
                    uses.setdefault(code, set()).add(str(path.relative_to(ROOT)))
    return uses


def test_codes_in_the_code_are_registered() -> None:
    assert {code: where for code, where in code_uses().items() if code not in CODES} == {}


def test_every_code_has_texts_and_is_raised_somewhere() -> None:
    for code, text in CODES.items():
        assert re.fullmatch(r"MMF-[1-6]\d\d", code)
        assert text.meaning.endswith(".")
        assert text.next_step.endswith((".", "`"))
    assert sorted(set(CODES) - set(code_uses())) == []


def test_the_page_of_errors_is_current() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert page == error_page(), "run `python -m mmfed_simulations.error_page > docs/errors.md`"


def sections(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """(section class, key) of a document and of everything in it."""
    for name, field in model.model_fields.items():
        yield model.__name__, name
        for inner in nested(field.annotation):
            yield from sections(inner)


def nested(annotation: object) -> Iterator[type[BaseModel]]:
    """Section classes inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from nested(part)


def test_every_key_of_a_study_is_explained() -> None:
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    rows = {key for line in page.splitlines() if line.startswith("| `") for key in keys_of(line)}
    headings = set(re.findall(r"^## \[(\w+)\]", page, flags=re.MULTILINE))
    expected = {(section, key) for section, key in sections(Study) if section != "Study"}
    assert {key for section, key in sections(Study) if section == "Study"} == headings
    assert sorted((section, key) for section, key in expected if key not in rows) == []
    assert sorted(rows - {key for _, key in expected}) == []


def keys_of(row: str) -> list[str]:
    """Keys in the first cell of a table row."""
    return re.findall(r"`(\w+)`", row.split("|")[1])
