"""The items of what may run: the study's signature and software, the policy, the approval, the pack."""

from __future__ import annotations

from collections.abc import Iterator

from mmfed_client.policy import Policy
from mmfed_client.preflight.finding import (
    NO_HOME,
    Finding,
    fault,
    from_error,
    not_applicable,
    ok,
    warning,
)
from mmfed_client.preflight.subject import Subject
from mmfed_common.errors import MmfedError, NetworkError
from mmfed_common.study import Study

NO_STUDY = "there is no study yet: see `mmfed-client review`"
UNREADABLE = "the study cannot be read: see the item study"


def study(subject: Subject) -> Iterator[Finding]:
    """The study document: form, and where it is signed, signature, federation and dates."""
    path = subject.study_file
    if path is None:
        yield not_applicable(NO_STUDY)
        return
    signed = subject.signed
    if signed is None:
        document = Study.load(path)
        yield ok(f"{document.study.name} (hash {document.hash[:16]}…), not signed yet", str(path))
        return
    try:
        document = signed.open(subject.home.coordinator, subject.home.config.federation, subject.now())
    except MmfedError as error:
        yield fault(error.code, error.what, error.where or str(path))
        return
    if subject.given is None and path.stem != signed.hash:
        what = f"the file holds the study {signed.hash[:16]}…, its name is that of another"
        yield fault("MMF-341", what, str(path))
        return
    name = f"{document.study.name} (hash {document.hash[:16]}…)"
    yield ok(f"{name}, signed by the coordinator, valid until {signed.expires}", str(path))


def same_software(subject: Subject) -> Iterator[Finding]:
    """The versions with which the study was signed, against those here."""
    from mmfed_common.software import software, software_differences

    try:
        signed = subject.signed
    except NetworkError:
        yield not_applicable(UNREADABLE)
        return
    if signed is None:
        yield not_applicable("there is no signed study to compare with")
        return
    differences = software_differences(signed.software)
    if not differences:
        yield ok(f"as the coordinator's: {software()}")
        return
    packages = [part.split(" ")[0] for part in differences]
    what = "; ".join(differences)
    repair = f"Install what the coordinator runs ({signed.software}), or ask it to sign with {software()}."
    if {"mmfed", "flwr"} & set(packages):
        yield fault("MMF-136", what, "", repair)
    else:
        yield warning("MMF-136", what, "", repair)


def policy(subject: Subject) -> Iterator[Finding]:
    """``policy.toml``: whether it is valid, and every reason why it refuses the study."""
    path = str(subject.home.policy_file)
    if not subject.home.path.is_dir():
        yield not_applicable(NO_HOME)
        return
    rules = Policy.load(subject.home.policy_file)
    document = subject.study
    if document is None:
        yield ok("it is valid; there is no study to compare it with", path)
        return
    fingerprint = _fingerprint(subject)
    reasons = rules.violations(document, fingerprint)
    for reason in reasons:
        yield fault(reason.code, reason.what, path)
    if reasons:
        return
    if not rules.is_open(subject.now()):
        window = f"{rules.hours} on {', '.join(rules.days)}"
        yield ok(f"it allows {document.study.name}; now nothing runs, allowed is {window}", path)
    else:
        yield ok(f"it is valid and allows {document.study.name}", path)


def approval(subject: Subject) -> Iterator[Finding]:
    """Whether the study is approved, by how many people, until when."""
    from mmfed_client.approval import state_of
    from mmfed_client.ledger import Ledger

    try:
        signed = subject.signed
    except NetworkError:
        yield not_applicable(UNREADABLE)
        return
    if signed is None:
        yield not_applicable("there is no signed study to approve" if subject.study_file else NO_STUDY)
        return
    try:
        people = Policy.load(subject.home.policy_file).people
        state = state_of(Ledger(subject.home.ledger_file), signed.hash, people)
    except MmfedError as error:
        yield not_applicable(f"not known: {error.what}")
        return
    where = f"study {signed.hash[:16]}…"
    if not state.people:
        yield not_applicable("nobody has approved it yet; `mmfed-client review` shows what would run", where)
    elif not state.complete:
        what = f"approved by {', '.join(state.people)}; {state.needed} people are needed"
        yield warning("MMF-334", what, where)
    elif not state.holds(subject.now()):
        yield fault("MMF-333", f"the approval ended at {state.expires}", where)
    else:
        yield ok(f"approved by {', '.join(state.people)}, until {state.expires}", where)


def pack(subject: Subject) -> Iterator[Finding]:
    """The knowledge pack of the study, against the hash that the study names."""
    from mmfed_client.opening import read_knowledge

    document = subject.study
    if document is None:
        yield not_applicable(NO_STUDY if subject.study_file is None else UNREADABLE)
        return
    reference = document.contract.knowledge
    if reference is None:
        yield not_applicable("the study needs no knowledge pack")
        return
    path = subject.pack
    if path is None:
        what = f"the pack {reference.sha256[:16]}… is not here yet; the node fetches it from the coordinator"
        yield not_applicable(what, str(subject.home.packs))
        return
    try:
        knowledge, _ = read_knowledge(document, path)
    except MmfedError as error:
        repair = f"Delete {path}: the node fetches the right one from the coordinator."
        finding = from_error(error)
        yield fault(finding.code, finding.what, str(path), "" if subject.given else repair)
        return
    assert knowledge is not None
    yield ok(
        f"{len(knowledge.genes)} genes, {len(knowledge.pathways)} pathways; hash as in the study", str(path)
    )


def _fingerprint(subject: Subject) -> str:
    """Who signed; for a document that is not signed, this site's own coordinator."""
    try:
        signed = subject.signed
        return signed.coordinator_fingerprint if signed else subject.home.coordinator.fingerprint
    except NetworkError:
        return ""
