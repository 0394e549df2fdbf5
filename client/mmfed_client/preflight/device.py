"""The item of the GPU: what the driver lists, and whether torch can use it."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator

import torch

from mmfed_client.preflight.finding import Finding, ok, warning
from mmfed_client.preflight.limits import GIB
from mmfed_client.preflight.subject import Subject

DRIVER_PROGRAM = "nvidia-smi"
QUERY = ("--query-gpu=name,driver_version", "--format=csv,noheader")
DRIVER_SECONDS = 10


def device(subject: Subject) -> Iterator[Finding]:
    """Which device trains; a GPU that is there and cannot be used is named with the reason."""
    del subject
    listed, trouble = _listed()
    usable, reason = _usable()
    if usable:
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name, cuda = torch.cuda.get_device_name(number), torch.version.cuda
            memory = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
            driver = f"; driver: {listed[number]}" if number < len(listed) else ""
            yield ok(f"GPU {number}: {name}, {memory}, CUDA {cuda}{driver}")
    elif trouble:
        repair = "Install or load the driver again (`nvidia-smi` must list the GPU); a restart often helps."
        yield warning("MMF-138", f"the driver does not work: {trouble}", DRIVER_PROGRAM, repair)
    elif listed:
        yield _unusable(listed, reason)
    else:
        yield ok("no GPU; the site trains on the CPU")


def _unusable(listed: list[str], reason: str) -> Finding:
    gpus = "; ".join(listed)
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        repair = "Unset the variable CUDA_VISIBLE_DEVICES if the site is to train on the GPU."
        return warning("MMF-138", f"{gpus}: hidden by the environment", "CUDA_VISIBLE_DEVICES", repair)
    if torch.version.cuda is None:
        what = f"{gpus}: torch {torch.__version__} is built without CUDA"
        repair = "Install the CUDA build: `pip install --force-reinstall torch`, see https://pytorch.org."
        return warning("MMF-138", what, "torch", repair)
    what = f"{gpus}: torch {torch.__version__} with CUDA {torch.version.cuda} cannot use it: {reason}"
    repair = f"Install a driver that is made for CUDA {torch.version.cuda} or newer."
    return warning("MMF-138", what, "driver", repair)


def _listed() -> tuple[list[str], str]:
    """GPUs that the driver lists, and what is wrong with the driver."""
    program = shutil.which(DRIVER_PROGRAM)
    if program is None:
        return [], ""
    try:
        done = subprocess.run(
            [program, *QUERY], capture_output=True, text=True, timeout=DRIVER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return [], f"no answer within {DRIVER_SECONDS} s"
    except OSError as error:
        return [], str(error.strerror)
    lines = [" driver ".join(part.strip() for part in line.split(",")) for line in done.stdout.splitlines()]
    if done.returncode != 0:
        text = (done.stdout + done.stderr).strip().splitlines()
        return [], text[0][:200] if text else f"it ends with status {done.returncode}"
    return [line for line in lines if line], ""


def _usable() -> tuple[bool, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    return usable, str(caught[0].message).splitlines()[0] if caught else "no reason is given"
