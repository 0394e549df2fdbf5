"""A home as ``join`` leaves it, with a cohort on disk, and a coordinator that signs studies for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmfed_client.home import SiteHome
from mmfed_client.ledger import Ledger
from mmfed_client.policy import POLICY_TEMPLATE
from mmfed_common.signed_study import SignedStudy
from mmfed_common.signing import CoordinatorKey, SiteKey
from mmfed_common.study import Study

SITE, FEDERATION = "north", "lungs"
CANARY = "PATIENT-4711-"
COHORT = """
[cohort]
id_column = "id"
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


def one_column_study(name: str = "one-column", **sections: dict[str, Any]) -> Study:
    """A study of one clinical number; sections given replace the defaults."""
    content: dict[str, dict[str, Any]] = {
        "study": {"name": name, "seed": 5},
        "contract": {
            "normalisation": "site",
            "clinical": {"age": {"kind": "number", "minimum": 0, "maximum": 120}},
            "survival": {"bins": [365, 1000, 3000], "horizons": [365]},
        },
        "model": {"hidden": 8, "heads": 2, "layers": 1, "fusion_layers": 1},
        "training": {"stages": [{"level": "clinical", "rounds": 5}]},
    }
    return Study.from_content({**content, **sections})


def write_cohort(folder: Path, patients: int = 40) -> Path:
    """Tables of a site; gives ``cohort.toml``."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": [f"{CANARY}{i:02d}" for i in range(patients)],
            "age": draw.integers(30, 90, size=patients),
            "days": draw.integers(10, 2500, size=patients),
            "died": draw.integers(0, 2, size=patients),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "t.csv", index=False)
    (folder / "cohort.toml").write_text(COHORT)
    return folder / "cohort.toml"


@dataclass
class JoinedHome:
    """The home, and who signs for it."""

    folder: Path
    key: SiteKey = field(default_factory=SiteKey.generate)
    coordinator: CoordinatorKey = field(default_factory=CoordinatorKey.generate)
    address: str = "127.0.0.1:1"
    passphrase: str | None = None

    def __post_init__(self) -> None:
        self.home = SiteHome(self.folder / "home")
        self.home.make_folders()
        self.key.save(self.home.key_file, self.passphrase)
        self.home.coordinator_file.write_text(self.coordinator.public.hex())
        self.home.policy_file.write_text(POLICY_TEMPLATE)
        self.configure(str(write_cohort(self.folder / "tables")))

    @property
    def ledger(self) -> Ledger:
        """The ledger, opened anew."""
        return Ledger(self.home.ledger_file)

    def configure(self, cohort: str) -> None:
        """Write ``site.toml``."""
        lines = {"site": SITE, "federation": FEDERATION, "address": self.address, "cohort": cohort}
        text = "".join(f'{name} = "{value}"\n' for name, value in lines.items())
        self.home.config_file.write_text(text)

    def sign(self, study: Study) -> SignedStudy:
        """Sign a study for this federation."""
        return SignedStudy.sign(study, self.coordinator, FEDERATION, 30)

    def policy(self, *lines: str) -> None:
        """Put lines before the usual policy."""
        self.home.policy_file.write_text("\n".join([*lines, "require_privacy = false\n"]))
