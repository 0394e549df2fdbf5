"""Gene symbols: approved ones, and old or alternative names that mean exactly one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SymbolTable:
    """Approved gene symbols and their other names.

    Attributes
    ----------
    approved
        Approved symbols.
    aliases
        Other name → every approved symbol that has it. A name that is itself an approved symbol, and also
        an old name of another gene, lists itself among them.
    """

    approved: frozenset[str]
    aliases: Mapping[str, tuple[str, ...]]

    def resolve(self, symbol: str) -> str | None:
        """Give the approved symbol that a name means.

        Returns
        -------
        The symbol itself if it is approved; the one gene that has it as another name; ``None`` where it is
        unknown or several genes have it: an ambiguous name is never guessed.
        """
        if symbol in self.approved:
            return symbol
        candidates = self.aliases.get(symbol, ())
        if len(candidates) == 1 and candidates[0] in self.approved:
            return candidates[0]
        return None

    def is_ambiguous(self, symbol: str) -> bool:
        """Tell whether a name that is not approved here is shared by several genes."""
        return symbol not in self.approved and len(self.aliases.get(symbol, ())) > 1

    @staticmethod
    def build(approved: Iterable[str], other_names: Iterable[tuple[str, str]]) -> SymbolTable:
        """Collect a table from approved symbols and (other name, approved symbol) pairs.

        Pairs whose approved symbol is not listed are left out.
        """
        symbols = frozenset(approved)
        collected: dict[str, set[str]] = {}
        for name, symbol in other_names:
            if symbol in symbols and name and name != symbol:
                collected.setdefault(name, {name} if name in symbols else set()).add(symbol)
        aliases = {name: tuple(sorted(collected[name])) for name in sorted(collected)}
        return SymbolTable(symbols, aliases)
