"""A study in plain language: what a site that takes part reads, computes and sends."""

from __future__ import annotations

from dataclasses import dataclass

from mmfed_common.contract import Column, Layer
from mmfed_common.masking.shared_noise import shares_noise
from mmfed_common.privacy import holds_against
from mmfed_common.study import Stage, Study
from mmfed_common.trainable import Part

MOST_NAMES = 12
"""How many names of a panel are written out."""

OUTCOMES: dict[str, str] = {
    "survival": "overall survival (time to death or to the end of follow-up)",
    "response": "response to treatment",
    "toxicity": "adverse events of grade 3 or more",
}
LEVELS: dict[str, str] = {
    "clinical": "the baseline and the linear clinical path",
    "additive": "what each modality adds on its own",
    "full": "attention and fusion",
}
OBJECTIVES: dict[str, str] = {
    "masked_nodes": "to fill in values of a patient's graph that are hidden for it (no outcome is read)",
    "contrastive": "to tell two altered views of a patient from the other patients (no outcome is read)",
}
PARTS: dict[Part, str] = {
    "clinical": "the linear clinical path",
    "additive": "what each modality adds on its own",
    "pathways": "how genes make up pathways",
    "embeddings": "the embeddings of genes and of other nodes",
    "attention": "attention within the graph",
    "fusion": "fusion",
}
STRATEGIES: dict[str, str] = {
    "fedavg": "the mean of the sites' weights, by number of patients (FedAvg)",
    "fedprox": "the mean of the sites' weights, with a pull towards the common model (FedProx)",
    "fedadam": "Adam at the server over the mean of the sites' changes (FedAdam)",
}
TRAINABLE: dict[str, str] = {
    "all": "everything that a stage trains",
    "heads": "the baselines, the clinical path and every gate into a task, nothing behind them",
    "adapters": "heads, biases, normalisations and the tokens of patient and absent modalities",
    "linear": "the baselines, the clinical path and the gates of the additive block",
}


@dataclass(frozen=True)
class Topic:
    """One heading with its sentences."""

    title: str
    sentences: tuple[str, ...]


def study_in_words(study: Study) -> tuple[Topic, ...]:
    """Say what a site is asked to accept, in an order that a person can decide by."""
    return (
        Topic("What it is", _identity(study)),
        Topic("What is read from your tables", _inputs(study)),
        Topic("What is computed at your site", _training(study)),
        Topic("What leaves your site", _leaves(study)),
        Topic("What never leaves", _stays()),
        Topic("Who is held out", _held_out(study)),
        Topic("Privacy", _privacy(study)),
        Topic("How the run goes on", _rules(study)),
    )


def _identity(study: Study) -> tuple[str, ...]:
    header = study.study
    return (
        f"Study {header.name}, version {header.version}: {header.description or 'without a description'}.",
        f"Its identity is the SHA-256 {study.hash}; you approve exactly this document.",
        f"Whom to ask: {header.contact or 'nobody is named'}.",
    )


def _inputs(study: Study) -> tuple[str, ...]:
    contract = study.contract
    lines = [f"{name}: {_column(column)}" for name, column in contract.columns.items()]
    if contract.gene is not None:
        genes = contract.gene
        lines += [
            f"genes, {name} ({_panel(genes.panel, 'genes')}{_layer(layer)})"
            for name, layer in genes.layers.items()
        ]
    for word, panel in (("proteins", contract.protein), ("metabolites", contract.metabolite)):
        if panel is not None:
            lines.append(f"{word} ({_panel(panel.panel, word)}{_layer(panel.layer)})")
    if contract.imaging is not None:
        imaging = contract.imaging
        most = (
            f"up to {imaging.maximum_tiles} tiles or slices of a patient" if imaging.maximum_tiles > 1 else ""
        )
        lines.append(f"imaging ({'; '.join(filter(None, [_names(imaging.features), most]))})")
    outcomes = ", ".join(OUTCOMES[task] for task in contract.tasks)
    return (*lines, f"Outcomes: {outcomes}.", "Tables are read only; nothing is written to them.")


def _column(column: Column) -> str:
    unit = f" in {column.unit}" if column.unit else ""
    low, high = column.minimum, column.maximum
    limits = "" if low is None and high is None else f", between {_limit(low)} and {_limit(high)}"
    values = f" ({', '.join(column.values)})" if column.values else ""
    return f"{column.kind}{unit}{values}{limits}{'' if column.required else ', may be missing'}"


def _limit(value: float | None) -> str:
    return "any value" if value is None else f"{value:g}"


def _panel(panel: str | tuple[str, ...], word: str) -> str:
    return f"all {word} of the knowledge pack" if isinstance(panel, str) else _names(panel)


def _layer(layer: Layer) -> str:
    return f"; in {layer.unit}" if layer.unit else ""


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"


def _training(study: Study) -> tuple[str, ...]:
    training = study.training
    batch = f"{training.batch} patients a step" if training.batch else "all patients in one step"
    stages = [_stage(number, stage) for number, stage in enumerate(training.stages, start=1)]
    return (
        f"The model is the installed one (preset {study.model.preset}); no code comes with the study.",
        f"{training.rounds} rounds; in each, {training.local_epochs} pass(es) over your training patients, "
        f"{batch}, {training.optimiser}.",
        *stages,
        *_survival(study),
        *start_in_words(study),
    )


def _survival(study: Study) -> tuple[str, ...]:
    """What a study of survival sets otherwise than most do."""
    survival, lines = study.contract.survival, []
    if survival is not None and survival.censoring == "day":
        lines.append("A patient who was alive when last seen counts to that day, not to the last whole bin.")
    if survival is not None and survival.reference_survival is not None:
        known = survival.reference_survival
        lines.append(
            f"Hazards begin where {100 * known.alive:g} % are alive after {known.days:g} days, as is "
            "publicly known; nothing of yours is in that."
        )
    return tuple(lines)


def start_in_words(study: Study) -> tuple[str, ...]:
    """From what the weights start, and what of it stays; empty where they start from nothing."""
    reference = study.model.start_from
    if reference is None:
        return ()
    lines = [
        f"The weights start from a released model, the bundle {reference.sha256}; they come with round 1."
    ]
    if study.model.frozen:
        lines.append(f"Of it stays as it is: {', '.join(PARTS[part] for part in study.model.frozen)}.")
    return tuple(lines)


def compression_in_words(kind: str) -> str:
    """How weights leave where a study asks for compressed updates."""
    words = {"fp16": "16 bits", "bf16": "16 bits (bfloat16)", "int8": "8 bits"}[kind]
    text = f"Of the weights their change leaves, each rounded to {words}."
    return f"{text} What rounding loses stays here and goes into the next change." if kind == "int8" else text


def _stage(number: int, stage: Stage) -> str:
    if stage.objective != "outcomes":
        learns = f"train attention and fusion {OBJECTIVES[stage.objective]}"
        return f"Stage {number}: {stage.rounds} rounds {learns}; learning rate {stage.learning_rate:g}."
    blocks = ", ".join(LEVELS[level] for level in stage.trained_blocks)
    return f"Stage {number}: {stage.rounds} rounds train {blocks}; learning rate {stage.learning_rate:g}."


def _leaves(study: Study) -> tuple[str, ...]:
    private = study.privacy.mode == "dp"
    noise, loss = (", with noise", "") if private else ("", "the mean training loss, ")
    lines = [
        f"Each round: the model's weights after training on your patients{noise}, how many patients trained, "
        f"{loss}and the seconds it took."
    ]
    if study.contract.normalisation == "federated":
        lines.append(
            "Once, before round 1: of each feature the count, the sum and the sum of squares over your "
            f"training patients{noise}, for one common scale."
        )
    if study.aggregation.compression != "none":
        lines.append(compression_in_words(study.aggregation.compression))
    if study.aggregation.secure:
        lines.append(
            "The weights, their loss and number of patients, and sums of features: this leaves under masks "
            "that come off only in the sum over a round's sites, and the coordinator sees none of it of your "
            "site alone. Not masked are seconds, losses over held-out patients and, in the first answer, the "
            "number of patients. The other sites see your site's name and public key."
        )
    cell = study.evaluation.minimum_cell
    if private:
        lines.append("No loss over any of your patients leaves.")
    elif study.evaluation.rule != "none":
        every = study.evaluation.every
        when = f"Every {every} rounds and after the last round" if every else "After the last round"
        lines.append(
            f"{when}: the mean loss over your held-out patients and their number, if {cell} or more."
        )
    if study.training.patience is not None:
        lines.append(
            "Each round: the mean loss over your validation patients and their number, if they are at least "
            f"{cell}."
        )
    lines.append("Your site's name, the head of your ledger, your software's versions; codes of errors.")
    return tuple(lines)


def _stays() -> tuple[str, ...]:
    return (
        "Patient records, patient identifiers, tables, images, predictions, and the text of errors.",
        "Every message that leaves is written to your ledger first; `mmfed-client ledger show` lists them.",
    )


def _held_out(study: Study) -> tuple[str, ...]:
    e = study.evaluation
    how = {
        "hash": f"{e.fraction:.0%} of your patients, by a hash of the study's seed and the patient's id",
        "fold": f"fold {e.fold} of {e.folds}",
        "site": f"all patients of {', '.join(e.sites)}",
        "none": "nobody",
    }[e.rule]
    return (f"Fixed before round 1, and never trained on: {how}.",)


def _privacy(study: Study) -> tuple[str, ...]:
    if study.privacy.mode == "none":
        return (
            "No differential privacy: weights are not noised and can hold traces of your patients. Your "
            "policy decides whether that is allowed.",
        )
    privacy = study.privacy
    lines = [
        f"Differential privacy, the unit is one patient: ε = {privacy.epsilon:g} and δ = {privacy.delta:g} "
        "bound what all rounds together tell of any one of your training patients.",
        "In each step every patient is drawn at random by your site, his gradient is shortened to "
        f"{privacy.clipping:g} at most, and noise is added before anything else is done with the sum. How "
        "much noise follows from your number of patients, which counts as public.",
        f"Of the model moves: {TRAINABLE[privacy.trainable]}.",
    ]
    if shares_noise(study):
        lines[1] = (
            "In each round every patient's gradient is shortened to "
            f"{privacy.clipping:g} at most and all are summed, your site adds its share of the noise, and "
            "the sum leaves under masks. A round that is tried again has other noise and is paid again; a "
            "twentieth more rounds are planned for that."
        )
    lines.append(holds_against(study))
    if privacy.scaling_epsilon is not None:
        lines.append(f"ε = {privacy.scaling_epsilon:g} of it pays for the noisy sums of features.")
    return tuple(lines)


def _rules(study: Study) -> tuple[str, ...]:
    rule = study.aggregation
    share = "" if rule.fraction >= 1 else f" {rule.fraction:.0%} of the sites are asked each round."
    return (
        f"The next model is {STRATEGIES[rule.strategy]}.{share}",
        f"A round needs {rule.minimum_sites} sites and waits at most {rule.deadline_seconds:g} s for one.",
        f"A site with fewer than {rule.minimum_patients} training patients sends nothing.",
        *_sums(study),
    )


def _sums(study: Study) -> tuple[str, ...]:
    rule = study.aggregation
    if not rule.secure:
        return ()
    return (
        f"A sum is opened when at least {rule.secure_threshold:.0%} of a round's sites, always more than "
        "half, have sent their masked updates and agree to it; a round begins with three sites or more.",
        f"Each change of a weight is clipped to ±{rule.secure_largest_change:g} for it.",
    )


__all__ = ["Topic", "study_in_words"]
