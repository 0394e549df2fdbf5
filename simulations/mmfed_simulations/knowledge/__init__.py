"""Building knowledge packs from the files that HGNC, STRING, Reactome, MSigDB and TRRUST publish.

The pack itself, and reading it, is in ``mmfed_common.knowledge``: a site needs nothing from here.
"""

from mmfed_simulations.knowledge.build import PackSettings, build_pack
from mmfed_simulations.knowledge.source_files import SourceFile, choose_sources

__all__ = ["PackSettings", "SourceFile", "build_pack", "choose_sources"]
