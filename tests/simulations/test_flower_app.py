"""What ``flwr run .`` finds: the apps that pyproject.toml names, over a prepared folder."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest
import torch
from flwr.app import Context, RecordDict
from tests.conftest import ROOT
from tests.simulations.small_federation import gene_study, small_sites

from mmfed_common.errors import MmfedError
from mmfed_server.record.folder import StateFile
from mmfed_simulations.backends.inprocess import InProcessGrid
from mmfed_simulations.run import prepare_run, run_study


def app(component: str) -> object:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert content["config"] == {"run-dir": ""}
    module, _, name = content["components"][component].partition(":")
    return getattr(importlib.import_module(module), name)


def context(folder: str) -> Context:
    return Context(1, 1, {}, RecordDict(), {"run-dir": folder})


def test_the_named_apps_run_a_prepared_folder_to_the_usual_weights(tmp_path: Path) -> None:
    study = gene_study()
    folder = prepare_run(study, small_sites(study), tmp_path / "prepared")
    client = app("clientapp")

    def carry(jobs, timeout):  # type: ignore[no-untyped-def]
        for _, node in jobs:
            node.run_config["run-dir"] = str(folder.path)
        return {position: client(message, node) for position, (message, node) in enumerate(jobs)}

    app("serverapp")(InProcessGrid(3, carry), context(str(folder.path)))  # type: ignore[operator]
    usual = run_study(study, small_sites(study), tmp_path / "usual")
    found = StateFile(folder.path).load()
    assert found is not None
    assert found.finished
    assert all(torch.equal(found.weights[name], usual.state[name]) for name in usual.state)


def test_without_a_folder_it_says_what_to_do() -> None:
    with pytest.raises(MmfedError, match="run-dir") as caught:
        app("serverapp")(InProcessGrid(1, lambda jobs, timeout: {}), context(""))  # type: ignore[operator]
    assert caught.value.code == "MMF-523"
    assert "--prepare-only" in caught.value.next_step
