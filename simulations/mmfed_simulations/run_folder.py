"""A run's folder: the study and the sites' prepared patients, as files that any back end can open.

    study.json                        the study in its canonical form
    start/                            the released model that the study starts from, if it does
    run.json                          names and digests of the sites
    sites/<n>/site.safetensors        one site's patients
    topologies/<digest>.safetensors   the graphs that they lie on
    state/  events.jsonl              the server's record, see ``mmfed_server.record``

Every file is whole or not there; nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite
from mmfed_common.bundle import copy_bundle
from mmfed_common.durable import PARTIAL, write_durably
from mmfed_common.errors import StudyError
from mmfed_common.study import Study
from mmfed_server.plan import RunPlan
from mmfed_server.record.folder import StateFile
from mmfed_simulations.site_files import digest, read_site, read_topology, serialise_site, serialise_topology


class RunFolder:
    """Writes and reads a run's folder.

    Parameters
    ----------
    path
        The folder given as ``--out``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.study_path = self.path / "study.json"
        self.run_path = self.path / "run.json"
        self.topologies = self.path / "topologies"
        self.start = self.path / "start"

    def begin(self, study: Study, sites: Sequence[SiteData], files: Path | None = None) -> None:
        """Prepare an empty folder.

        Parameters
        ----------
        files
            Where the files lie that the study names; None: in the current folder.

        Raises
        ------
        StudyError
            ``MMF-503`` when it is not empty.
        ModelError
            ``MMF-630`` when the bundle that the study starts from is missing or another one.
        """
        begun = {self.study_path.name + PARTIAL}  # all that a run has that was killed in its first moment
        if self.path.exists() and {entry.name for entry in self.path.iterdir()} - begun:
            raise StudyError("MMF-503", "the run folder holds files", str(self.path))
        self.path.mkdir(parents=True, exist_ok=True)
        write_durably(self.study_path, study.canonical())
        self._keep_start(study, files)
        self._write_sites(sites)

    def go_on(self, study: Study, sites: Sequence[SiteData], files: Path | None = None) -> None:
        """Check that a folder is of this study and these patients, and finish preparing it if need be.

        Raises
        ------
        StudyError
            ``MMF-504`` when there is no run, ``MMF-502`` when it is another study's, ``MMF-522`` when the
            patients are others.
        """
        if self.study().hash != study.hash:
            raise StudyError("MMF-502", f"not of study {study.hash[:12]}", str(self.path))
        if not self.run_path.exists():
            self._keep_start(study, files)
            self._write_sites(sites)
            return
        known = {entry["site"]: entry["sha256"] for entry in self._sites()}
        found = {data.name: digest(serialise_site(data)) for data in sites}
        changed = sorted(name for name in {*known, *found} if known.get(name) != found.get(name))
        if changed:
            raise StudyError("MMF-522", f"patients differ at {', '.join(changed)}", str(self.path))

    def study(self) -> Study:
        """Read the study.

        Raises
        ------
        StudyError
            ``MMF-504`` when there is none.
        """
        if not self.study_path.exists():
            raise StudyError("MMF-504", "no run was begun here", str(self.path))
        return Study.load(self.study_path)

    def site_names(self) -> tuple[str, ...]:
        """Names of the sites in the order of their partition numbers."""
        return tuple(entry["site"] for entry in self._sites())

    def site(self, partition: int) -> SiteData:
        """Read one site's patients.

        Raises
        ------
        StudyError
            ``MMF-509`` when there is no such site, or its file is damaged.
        """
        return read_site(self.path / "sites" / str(partition) / "site.safetensors", self.topologies)

    def kept(self, partition: int) -> Path:
        """Where a site keeps what must outlive its process, counted in the order of their names."""
        return self.path / "sites" / str(partition) / "kept"

    def plan(self) -> RunPlan:
        """The plan of this run, going on with what is there."""
        entries = self._sites()
        topology = read_topology(self.topologies / f"{entries[0]['topology']}.safetensors")
        study = self.study()
        start = None if study.model.start_from is None else self.start
        return RunPlan(study, self.site_names(), topology, self.path, resume=True, bundle=start)

    def _keep_start(self, study: Study, files: Path | None) -> None:
        reference = study.model.start_from
        if reference is not None:
            copy_bundle((files or Path()) / reference.file, self.start, reference.sha256)

    def _sites(self) -> list[dict[str, str]]:
        if not self.run_path.exists():
            raise StudyError("MMF-509", "the run folder was not prepared to its end", str(self.path))
        sites: list[dict[str, str]] = json.loads(self.run_path.read_text(encoding="utf-8"))["sites"]
        return sites

    def _write_sites(self, sites: Sequence[SiteData]) -> None:
        entries = []
        self.topologies.mkdir(exist_ok=True)
        for number, data in enumerate(sorted(sites, key=lambda data: data.name)):
            topology = serialise_topology(data.topology)
            target = self.topologies / f"{digest(topology)}.safetensors"
            if not target.exists():
                write_durably(target, topology)
            folder = self.path / "sites" / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            content = serialise_site(data)
            write_durably(folder / "site.safetensors", content)
            entries.append({"site": data.name, "sha256": digest(content), "topology": digest(topology)})
        StateFile(self.path).write_status("prepared")
        write_durably(self.run_path, json.dumps({"sites": entries}, indent=1).encode())


@lru_cache(maxsize=256)
def local_site(path: Path, partition: int) -> LocalSite:
    """A site at work, opened from a run's folder once in a process.

    Raises
    ------
    StudyError
        ``MMF-509`` when there is no such site, or its file is damaged.
    """
    folder = RunFolder(path)
    return LocalSite(folder.study(), folder.site(partition), kept=folder.kept(partition))
