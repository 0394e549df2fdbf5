"""Gene symbols: old names are resolved, ambiguous ones are never guessed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmfed_common.knowledge import SymbolTable

NAMES = st.text("ABCD", min_size=1, max_size=2)


def test_names_mean_what_hgnc_says() -> None:
    # HGNC: ADSS is a previous symbol of ADSS2; p65 is an alias of RELA and of others; CD20 of MS4A1.
    table = SymbolTable.build(
        ["ADSS2", "RELA", "TXN", "CD20L"], [("ADSS", "ADSS2"), ("p65", "RELA"), ("p65", "TXN"), ("X", "GONE")]
    )
    assert table.resolve("ADSS2") == "ADSS2"
    assert table.resolve("ADSS") == "ADSS2"
    assert table.resolve("p65") is None
    assert table.is_ambiguous("p65")
    assert table.resolve("X") is None
    assert not table.is_ambiguous("X")
    assert table.resolve("adss2") is None


def test_an_approved_symbol_wins_over_the_same_word_as_an_alias() -> None:
    table = SymbolTable.build(["A", "B"], [("A", "B")])
    assert table.resolve("A") == "A"
    assert table.aliases["A"] == ("A", "B")


@given(st.sets(NAMES), st.lists(st.tuples(NAMES, NAMES)))
def test_a_name_resolves_to_its_only_meaning_or_not_at_all(
    approved: set[str], other: list[tuple[str, str]]
) -> None:
    table = SymbolTable.build(approved, other)
    for name in {name for name, _ in other} | approved:
        meanings = {symbol for alias, symbol in other if alias == name and symbol in approved}
        if name in approved:
            assert table.resolve(name) == name
        elif len(meanings) == 1:
            assert table.resolve(name) == next(iter(meanings))
        else:
            assert table.resolve(name) is None
