"""The arms of a comparison: their names, labels and what each is."""

from __future__ import annotations

NETWORK_ARMS = ("federated", "pooled", "local", "personalised", "attention_fusion")
PERSONALISED = "personalised"
SINGLE_PREFIX = "only_"

LABELS: dict[str, str] = {
    "federated": "Federated",
    "pooled": "Pooled",
    "local": "Local",
    "personalised": "Federated, own head",
    "cox_clinical": "Cox, clinical",
    "cox_expression": "Cox, clinical + expression",
    "ridge_all": "Ridge Cox, all modalities",
    "logistic_clinical": "Logistic, clinical",
    "only_clinical_feature": "Clinical only",
    "only_gene": "Genes only",
    "only_protein": "Proteins only",
    "only_metabolite": "Metabolites only",
    "only_imaging_feature": "Imaging only",
    "late_fusion": "Late fusion",
    "attention_fusion": "Attention fusion",
}

DESCRIPTIONS: dict[str, str] = {
    "federated": "the study's model, trained by the sites together; only weights were shared",
    "pooled": "the same model and schedule, as if all patients were at one site",
    "local": "the same model, trained by each site on its own patients; each patient is scored by the own "
    "site's model, whose scale is its own: compare within sites",
    "personalised": "the federated model whose heads each site moved on its own training patients, as far as "
    "inner folds of these said; many sites keep the federated one",
    "cox_clinical": "Cox regression on the clinical features of all sites together, a small ridge penalty",
    "cox_expression": "Cox regression on clinical features and principal components of gene expression, "
    "pooled; ridge penalty by inner cross-validation",
    "ridge_all": "Cox regression on clinical features and principal components of every modality, pooled; "
    "ridge penalty by inner cross-validation",
    "logistic_clinical": "logistic regression on the clinical features of all sites together",
    "late_fusion": "mean of the standardised risk scores of those single-modality models that a patient has "
    "data for",
    "attention_fusion": "federated; tokens and cross-attention only: no clinical path, no additive path, no "
    "graph attention",
}

MODALITIES: dict[str, str] = {
    "clinical_feature": "clinical",
    "gene": "genes",
    "protein": "proteins",
    "metabolite": "metabolites",
    "imaging_feature": "imaging",
}
"""Node types as a reader knows them."""


def label(arm: str) -> str:
    """Name of an arm as a reader sees it."""
    return LABELS.get(arm, arm)


def description(arm: str) -> str:
    """What an arm is, in one line."""
    if arm.startswith(SINGLE_PREFIX):
        return "federated; the same model with this modality alone"
    return DESCRIPTIONS.get(arm, "")
