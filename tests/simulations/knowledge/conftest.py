"""Tiny hand-written files in the formats that the owners publish."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

HGNC = """\
hgnc_id	symbol	name	locus_group	locus_type	status	alias_symbol	prev_symbol	date_modified	entrez_id	uniprot_ids
HGNC:391	AKT1	AKT serine/threonine kinase 1	protein-coding gene	gene with protein product	Approved	"RAC|PKB"		2023-01-20	207	P31749
HGNC:392	AKT2	AKT serine/threonine kinase 2	protein-coding gene	gene with protein product	Approved	"PKBB|RAC"		2024-02-01	208	P31751
HGNC:7553	MYC	MYC proto-oncogene	protein-coding gene	gene with protein product	Approved	"c-Myc|bHLHe39"		2023-06-02	4609	P01106
HGNC:11998	TP53	tumor protein p53	protein-coding gene	gene with protein product	Approved	"p53|LFS1"		2023-01-20	7157	P04637
HGNC:293	ADSS2	adenylosuccinate synthase 2	protein-coding gene	gene with protein product	Approved		ADSS	2023-01-20	159	P30520
HGNC:29665	HOTAIR	HOX transcript antisense RNA	non-coding RNA	RNA, long non-coding	Approved	HOXC-AS4		2023-01-20	100124700	
HGNC:5	GONE	withdrawn gene	withdrawn	withdrawn	Entry Withdrawn			2024-03-03		
"""  # noqa: E501
INFO = """\
#string_protein_id	preferred_name	protein_size	annotation
9606.ENSP1	AKT1	480	RAC-alpha serine/threonine-protein kinase.
9606.ENSP2	AKT2	481	RAC-beta serine/threonine-protein kinase.
9606.ENSP3	MYC	454	Myc proto-oncogene protein.
9606.ENSP4	TP53	393	Cellular tumor antigen p53.
9606.ENSP5	ADSS	456	Adenylosuccinate synthetase isozyme 2.
9606.ENSP6	UNHEARD	99	Nothing known.
"""
LINKS = """\
protein1 protein2 combined_score
9606.ENSP1 9606.ENSP4 990
9606.ENSP4 9606.ENSP1 990
9606.ENSP3 9606.ENSP4 950
9606.ENSP4 9606.ENSP3 950
9606.ENSP2 9606.ENSP4 800
9606.ENSP4 9606.ENSP2 800
9606.ENSP5 9606.ENSP3 720
9606.ENSP3 9606.ENSP5 720
9606.ENSP1 9606.ENSP5 300
9606.ENSP5 9606.ENSP1 300
9606.ENSP1 9606.ENSP6 999
9606.ENSP6 9606.ENSP1 999
"""
TRRUST = """\
MYC	TP53	Activation	7667268
MYC	TP53	Unknown	8657146
TP53	MYC	Repression	12077307
TP53	AKT1	Activation	11111111
TP53	AKT1	Repression	22222222
UNHEARD	MYC	Activation	33333333
MYC	ADSS	Unknown	44444444
"""
REACTOME = """\
Apoptosis	R-HSA-1	AKT1	MYC	TP53	AKT2
Intrinsic apoptosis	R-HSA-2	AKT1	MYC	TP53
Other	R-HSA-3	ADSS	MYC	AKT2	UNHEARD
Other	R-HSA-4	HOTAIR	MYC	p53
"""
RELATION = """\
R-HSA-1	R-HSA-2
R-HSA-9	R-HSA-3
R-MMU-1	R-MMU-2
"""
ANTIBODIES = """\
antibody,genes,phospho_site,how,cohorts
Akt_pS473,AKT1 AKT2,pS473,list,LUAD
Akt,AKT1 AKT2,,list,LUAD
p53,TP53,,list,LUAD
XPB1,,,unmapped,LUAD
"""


def write(path: Path, text: str) -> Path:
    """Write a text file, gzip if its name says so."""
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def published(tmp_path: Path) -> dict[str, Path]:
    """The files under the names that their owners give them."""
    return {
        "hgnc": write(tmp_path / "hgnc_complete_set.txt", HGNC),
        "info": write(tmp_path / "9606.protein.info.v12.0.txt.gz", INFO),
        "links": write(tmp_path / "9606.protein.links.v12.0.txt.gz", LINKS),
        "trrust": write(tmp_path / "trrust_rawdata.human.tsv", TRRUST),
        "reactome": write(tmp_path / "ReactomePathways.gmt", REACTOME),
        "relation": write(tmp_path / "ReactomePathwaysRelation.txt", RELATION),
        "antibodies": write(tmp_path / "rppa_antibody_to_gene.csv", ANTIBODIES),
    }
