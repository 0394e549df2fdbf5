"""A cohort of one table and a study over it: the least that a site can have."""

from __future__ import annotations

from mmfed_common.study import Study

COHORT = """
[cohort]
id_column = "id"
site_column = "site"
fold_column = "fold"
[tables]
t = "t.csv"
[clinical]
table = "t"
columns = ["age"]
[outcome.survival]
table = "t"
time = "days"
event = "died"
unit = "days"
"""
WITHOUT_FOLDS = COHORT.replace('fold_column = "fold"\n', "")


def one_table_study(**sections: object) -> Study:
    """A study of one round over that table, with further sections."""
    content = {
        "study": {"name": "one-table", "seed": 5},
        "contract": {
            "clinical": {"age": {"kind": "number", "minimum": 0, "maximum": 120}},
            "survival": {"bins": [365, 1000, 3000], "horizons": [365]},
        },
        "training": {"stages": [{"level": "clinical", "rounds": 1}]},
    }
    return Study.from_content(content | sections)
