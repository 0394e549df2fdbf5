"""The items of this machine: software, limits of the system, permissions, disk, the home's files."""

from __future__ import annotations

import fcntl
import os
import platform
import resource
import shutil
import stat
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mmfed_client.preflight.finding import NO_HOME, Finding, fault, not_applicable, ok, warning
from mmfed_client.preflight.limits import MIB
from mmfed_client.preflight.subject import Subject
from mmfed_common.errors import NetworkError

DISTRIBUTION = "mmfed"
WRITE = stat.S_IWGRP | stat.S_IWOTH


def software(subject: Subject) -> Iterator[Finding]:
    """Versions of Python and of every package against the ranges that mmfed declares."""
    del subject
    wrong = list(_wrong_versions())
    yield from wrong
    if not wrong:
        shown = ", ".join(f"{name} {version(name)}" for name in (DISTRIBUTION, "flwr", "torch"))
        yield ok(f"{shown}, Python {platform.python_version()}: every package is of a version that fits")


def _wrong_versions() -> Iterator[Finding]:
    try:
        needed, pythons = requires(DISTRIBUTION) or [], metadata(DISTRIBUTION)["Requires-Python"] or ""
    except PackageNotFoundError:
        yield fault("MMF-135", f"{DISTRIBUTION} is not installed, it is only imported")
        return
    if not SpecifierSet(pythons).contains(platform.python_version(), prereleases=True):
        repair = f"Make an environment with a Python that is {pythons}, and install mmfed there."
        yield fault("MMF-135", f"Python is {platform.python_version()}, needed is {pythons}", "", repair)
    for text in needed:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        repair = f'Run `pip install "{requirement.name}{requirement.specifier}"`.'
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield fault("MMF-135", f"{requirement.name} is not installed", requirement.name, repair)
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            what = f"{requirement.name} is {found}, needed is {requirement.specifier}"
            yield fault("MMF-135", what, requirement.name, repair)


def system_limits(subject: Subject) -> Iterator[Finding]:
    """What the system lets this user's processes do: open files, file size, memory, processor time."""
    wrong = list(_low_limits(subject))
    yield from wrong
    if not wrong:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield ok(f"{'any number of' if files < 0 else files} open files; no limit that would stop a study")


def _low_limits(subject: Subject) -> Iterator[Finding]:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= files < subject.limits.open_files:
        repair = f"Run `ulimit -n {4 * subject.limits.open_files}` first, or set LimitNOFILE= of the service."
        yield fault("MMF-134", f"only {files} files may be open at once", "ulimit -n", repair)
    size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if size >= 0:
        repair = "Run `ulimit -f unlimited` first, or set LimitFSIZE=infinity of the service."
        yield fault("MMF-134", f"no file may be larger than {size / MIB:.0f} MiB", "ulimit -f", repair)
    processor = resource.getrlimit(resource.RLIMIT_CPU)[0]
    if processor >= 0:
        repair = "Run `ulimit -t unlimited` first, or set LimitCPU=infinity of the service."
        what = f"a process is killed after {processor} s of work"
        yield fault("MMF-134", what, "ulimit -t", repair)
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space >= 0:
        repair = "Run `ulimit -v unlimited` first, or set LimitAS=infinity of the service."
        yield warning("MMF-134", f"a process may use {space / MIB:.0f} MiB of addresses", "ulimit -v", repair)


def home_files(subject: Subject) -> Iterator[Finding]:
    """Whether the home is one: ``site.toml`` valid, every folder there."""
    home = subject.home
    if not home.path.is_dir():
        raise NetworkError("MMF-423", "there is no such folder", str(home.path))
    config = home.config
    folders = (home.ca_file.parent, home.studies, home.packs, home.state)
    missing = [folder for folder in folders if not folder.is_dir()]
    for folder in missing:
        repair = f"Run `mkdir -m 700 {folder}`."
        yield fault("MMF-423", "the folder is missing", str(folder), repair)
    if not missing:
        yield ok(f"site {config.site} of the federation {config.federation}", str(home.path))


def permissions(subject: Subject) -> Iterator[Finding]:
    """Whether another user could change the policy, the trust or the record; the umask."""
    home = subject.home
    if not home.path.is_dir():
        yield not_applicable(NO_HOME)
        return
    inside = [path for path in sorted(home.path.rglob("*")) if _may_write(path, _may_enter(home.path))]
    open_to_others = [home.path, *inside] if _may_write(home.path, WRITE) else inside
    for path in open_to_others[:5]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        yield fault(
            "MMF-133", f"others may write it (mode {mode:04o})", str(path), f"Run `chmod go-w {path}`."
        )
    mask = _umask()
    if not mask & stat.S_IWOTH:
        repair = "Run `umask 077` first, or set UMask=0077 of the service."
        yield warning(
            "MMF-133", f"new files could be written by everybody (umask {mask:04o})", "umask", repair
        )
    if home.path.stat().st_uid != os.geteuid():
        repair = "Run mmfed as the user to whom the home belongs."
        what = f"it belongs to the user {home.path.stat().st_uid}, this is the user {os.geteuid()}"
        yield warning("MMF-133", what, str(home.path), repair)
    elif not open_to_others and mask & stat.S_IWOTH:
        yield ok(f"only its owner may change the home; umask {mask:04o}", str(home.path))


def _may_enter(folder: Path) -> int:
    """The permissions to write of those, group or others, who may enter a folder."""
    mode = folder.stat().st_mode
    group = stat.S_IWGRP if mode & stat.S_IXGRP else 0
    return group | (stat.S_IWOTH if mode & stat.S_IXOTH else 0)


def _may_write(path: Path, who: int) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # a site that runs replaces files
        return False
    return not stat.S_ISLNK(mode) and bool(mode & who)


def _umask() -> int:
    """Read the umask; on Linux without setting it, which other threads would notice."""
    for line in (
        Path("/proc/self/status").read_text().splitlines() if Path("/proc/self/status").exists() else []
    ):
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def disk(subject: Subject) -> Iterator[Finding]:
    """Free space and free files on the disk of the home."""
    path = subject.home.path
    if not path.is_dir():
        yield not_applicable(NO_HOME)
        return
    free, limits = shutil.disk_usage(path).free, subject.limits
    files = os.statvfs(path)
    if free < limits.disk_fault:
        what = f"{free / MIB:.0f} MiB are free, at least {limits.disk_fault / MIB:.0f} MiB are needed"
        yield fault("MMF-132", what, str(path))
    elif files.f_files and files.f_favail < 1000:
        what = f"only {files.f_favail} more files can be made (inodes)"
        yield fault(
            "MMF-132", what, str(path), "Delete files that are not needed; many small ones use it up."
        )
    elif free < limits.disk_warning:
        yield warning("MMF-132", f"only {free / MIB:.0f} MiB are free", str(path))
    else:
        yield ok(f"{free / (1024 * MIB):.1f} GiB are free", str(path))


def writable(subject: Subject) -> Iterator[Finding]:
    """Whether files can be made, flushed, locked and replaced in each folder of the home."""
    home = subject.home
    if not home.path.is_dir():
        yield not_applicable(NO_HOME)
        return
    failed = 0
    for folder in (home.path, home.studies, home.packs, home.state):
        if not folder.is_dir():
            continue
        try:
            _try_writing(folder)
        except OSError as error:
            failed += 1
            yield fault("MMF-112", f"cannot be written: {error.strerror}", str(folder))
    for file in (home.ledger_file, home.log_file):
        if file.exists() and not os.access(file, os.W_OK):
            failed += 1
            yield fault("MMF-112", "cannot be written by this user", str(file))
    if not failed:
        yield ok("files can be written, flushed and locked", str(home.path))


def _try_writing(folder: Path) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".check-", dir=folder)
    path, final = Path(name), Path(name + ".final")
    try:
        with os.fdopen(descriptor, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(b"mmfed" * 1000)
            file.flush()
            os.fsync(file.fileno())
        path.replace(final)
    finally:
        path.unlink(missing_ok=True)
        final.unlink(missing_ok=True)
