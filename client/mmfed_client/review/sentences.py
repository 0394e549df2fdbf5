"""What a study would do at a site, each point in a sentence for people who do not read TOML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mmfed_client.policy import Policy
from mmfed_common.privacy import holds_against
from mmfed_common.study import Stage, Study
from mmfed_common.study_words import OBJECTIVES, compression_in_words, start_in_words

MODALITIES = {
    "clinical_feature": "clinical data and demographics",
    "gene": "genes",
    "protein": "proteins",
    "metabolite": "metabolites",
    "imaging_feature": "imaging features",
}
TASKS = {
    "survival": "overall survival",
    "response": "treatment response",
    "toxicity": "grade 3+ adverse events",
}


@dataclass(frozen=True)
class Statement:
    """One point: what it is about, and the sentence."""

    about: str
    text: str


def statements(study: Study, policy: Policy | None = None) -> Iterator[Statement]:
    """Give every point, those about what leaves first."""
    header = study.study
    yield Statement("purpose", header.description or "The study does not say.")
    yield Statement("contact", header.contact or "The study names nobody.")
    yield Statement("predicts", ", ".join(TASKS[task] for task in study.contract.tasks) + ".")
    yield Statement("reads", _reads(study))
    yield from _leaves(study, policy)
    yield Statement("privacy", _privacy(study))
    yield Statement("trains", _trains(study))
    for about, text in zip(("starts from", ""), start_in_words(study), strict=False):
        yield Statement(about, text)
    yield Statement("combines", _combines(study))
    yield Statement("tests on", _tests(study))
    if study.contract.knowledge is not None:
        yield Statement(
            "knowledge", f"A knowledge pack is fetched; its SHA-256 is {study.contract.knowledge.sha256}."
        )
    yield Statement("code", "No code comes with the study: only what is installed here runs.")


def _reads(study: Study) -> str:
    contract = study.contract
    used = [MODALITIES[name] for name in contract.node_types]
    columns = ", ".join(contract.columns)
    layers = "" if contract.gene is None else f" Gene layers: {', '.join(sorted(contract.gene.layers))}."
    return f"{', '.join(used)}." + (f" Columns: {columns}." if columns else "") + layers


def _leaves(study: Study, policy: Policy | None) -> Iterator[Statement]:
    floor = max(study.aggregation.minimum_patients, policy.minimum_patients if policy else 1)
    private = study.privacy.mode == "dp"
    told = "the number of patients and" if private else "the number of patients, the mean loss and"
    yield Statement(
        "leaves",
        f"After each round the weights that were trained, {told} the seconds it took; nothing with fewer "
        f"than {floor} training patients. No patient's record leaves.",
    )
    if study.contract.normalisation == "federated":
        least = max(study.aggregation.minimum_patients, policy.minimum_per_feature if policy else 1)
        yield Statement(
            "",
            "Once, before round 1: count, sum and sum of squares of each feature that is standardised, over "
            f"the training patients, {'with noise' if private else f'where at least {least} have it'}.",
        )
    if study.aggregation.compression != "none":
        yield Statement("", compression_in_words(study.aggregation.compression))
    if study.aggregation.secure:
        yield Statement("", _masks(policy))
    cell = max(study.evaluation.minimum_cell, policy.minimum_cell if policy else 1)
    if private:
        yield Statement("", "No loss over any patient: it would cost privacy.")
    elif policy is not None and not policy.evaluation:
        yield Statement("", "No loss over held-out patients: the policy keeps it back.")
    else:
        yield Statement(
            "", f"Now and then the summed loss over held-out patients, if there are at least {cell}."
        )
    held_back = policy is not None and (not policy.evaluation or policy.hide_counts)
    if study.training.validation_fraction > 0 and not held_back:
        yield Statement(
            "",
            f"Each round the summed loss over {study.training.validation_fraction:.0%} of the training "
            f"patients, whom training leaves out to see when it may end, if they are at least {cell}; "
            "never under masks.",
        )
    if policy is not None and len(policy.metrics) < 3:
        kept = sorted({"loss", "seconds"} - set(policy.metrics))
        yield Statement("", f"The policy keeps back: {', '.join(kept)}; 0 is sent instead.")


def _masks(policy: Policy | None) -> str:
    text = (
        "The weights, their loss and number of patients, and sums of features: this leaves under masks that "
        "come off only in the sum over a round's sites, more than half of three or more; the coordinator "
        "sees none of it of this site alone. Not masked are seconds"
    )
    if policy is not None and policy.hide_counts:
        text += ". The number of patients is told to nobody; the sum holds the total of all its sites."
    else:
        text += ", losses over held-out patients, and in the first answer the number of patients."
    if policy is not None and not policy.peers:
        text += (
            " The other sites' keys come from the coordinator, who could invent sites: list them as `peers`."
        )
    return text


def _privacy(study: Study) -> str:
    if study.privacy.mode == "none":
        return (
            "No differential privacy: weights leave as they were trained, and somebody who sees them may "
            "learn something about single patients."
        )
    privacy = study.privacy
    scaled = "" if privacy.scaling_epsilon is None else f", {privacy.scaling_epsilon:g} of it for sums"
    moves = "" if privacy.trainable == "all" else f" Only {privacy.trainable} parameters move."
    return (
        f"Differential privacy, the unit is one patient: ε = {privacy.epsilon:g}{scaled}, "
        f"δ = {privacy.delta:g} for all rounds together. Each patient's gradient is clipped to length "
        f"{privacy.clipping:g} and noise is added here before anything leaves.{moves} {holds_against(study)}"
    )


def _trains(study: Study) -> str:
    training = study.training
    stages = "; ".join(_stage(stage) for stage in training.stages)
    batch = "all patients at once" if training.batch == 0 else f"{training.batch} patients at a time"
    epochs = (
        f"{training.local_epochs} time{'s' if training.local_epochs > 1 else ''} over the patients a round"
    )
    return f"{training.rounds} rounds ({stages}), {epochs}, {batch}; model {study.model.preset}."


def _stage(stage: Stage) -> str:
    if stage.objective != "outcomes":
        return f"{stage.rounds} without outcomes, {OBJECTIVES[stage.objective]}"
    return f"{stage.rounds} of level {stage.level}"


def _combines(study: Study) -> str:
    a = study.aggregation
    return (
        f"{a.strategy} over at least {a.minimum_sites} sites of at least {a.minimum_patients} patients each; "
        f"a round ends after {a.deadline_seconds:g} seconds at the latest."
    )


def _tests(study: Study) -> str:
    e = study.evaluation
    rules = {
        "hash": f"{e.fraction:.0%} of the patients, chosen by a hash of their ids; they never train.",
        "fold": f"fold {e.fold} of {e.folds}; its patients never train.",
        "site": f"all patients of {', '.join(e.sites)}; they never train.",
        "none": "nobody is held out.",
    }
    return rules[e.rule]
