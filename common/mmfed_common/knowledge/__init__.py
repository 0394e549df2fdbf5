"""Knowledge packs: genes, proteins, pathways and their relations, with sources, licences and a hash.

Reading a pack needs nothing but this package; packs are built by ``mmfed-simulate knowledge build``.
"""

from mmfed_common.knowledge.pack import KnowledgePack, Pair, Protein, Source, restrict
from mmfed_common.knowledge.symbols import SymbolTable

__all__ = ["KnowledgePack", "Pair", "Protein", "Source", "SymbolTable", "restrict"]
