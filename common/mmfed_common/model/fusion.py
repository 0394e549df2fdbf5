"""Fusion: a patient query looks at the tokens, then a transformer over the patient and its modalities."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmfed_common.model.rows import rows
from mmfed_common.model.tokens import masked_mean, masked_softmax

TABLE_SCALE = 0.02


class DenseAttention(nn.Module):
    """Multi-head attention written with linear layers, which keep gradients per patient exact."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """``(patients, queries, hidden)`` over tokens of the same width; mask ``(patients, tokens)``."""
        query, key, value = (
            _by_head(layer(x), self.heads).transpose(1, 2)
            for layer, x in ((self.query, queries), (self.key, tokens), (self.value, tokens))
        )
        score = torch.matmul(query, key.transpose(2, 3)) * query.shape[3] ** -0.5
        share = masked_softmax(score, mask[:, None, None, :])
        mixed: Tensor = self.output(torch.matmul(share, value).transpose(1, 2).flatten(2))
        return mixed


class QueryAttention(nn.Module):
    """One query over many tokens: as :class:`DenseAttention`, with no projection of the tokens.

    A head's score ``(W_k t) · q`` is ``t · (W_kᵀ q)``, and its output ``Σ share (W_v t)`` is
    ``W_v (Σ share t)``: both linear layers act on one vector a head instead of on every token. ``key`` holds
    the transpose.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, query: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """``(patients, 1, hidden)`` over ``(patients, tokens, hidden)``; mask ``(patients, tokens)``."""
        hidden = query.shape[2]
        head = torch.arange(hidden, device=query.device) // (hidden // self.heads)
        own = (head == torch.arange(self.heads, device=query.device)[:, None]).to(query.dtype)
        looking_for = self.key(self.query(query) * own)
        score = torch.matmul(looking_for, tokens.transpose(1, 2)) * (hidden // self.heads) ** -0.5
        share = masked_softmax(score, mask.unsqueeze(1))
        mixed = (self.value(torch.matmul(share, tokens)) * own).sum(dim=1, keepdim=True)
        result: Tensor = self.output(mixed)
        return result


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden)
        self.attention = DenseAttention(hidden, heads)
        self.feed_norm = nn.LayerNorm(hidden)
        self.widen = nn.Linear(hidden, 2 * hidden)
        self.narrow = nn.Linear(2 * hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """``(patients, tokens, hidden)`` → the same shape."""
        normal = self.attention_norm(tokens)
        tokens = tokens + self.dropout(self.attention(normal, normal, mask))
        fed = self.narrow(functional.gelu(self.widen(self.feed_norm(tokens))))
        result: Tensor = tokens + self.dropout(fed)
        return result


def _by_head(x: Tensor, heads: int) -> Tensor:
    return x.view(x.shape[0], x.shape[1], heads, x.shape[2] // heads)


class Fusion(nn.Module):
    """Summaries of the modalities and pathway tokens → one vector for the patient.

    An absent modality is represented by its own learned token; its other tokens are masked. With
    ``cross = False`` the patient's vector starts as the mean over the modalities that are there.
    """

    def __init__(
        self, modalities: int, hidden: int, heads: int, layers: int, dropout: float, *, cross: bool
    ) -> None:
        super().__init__()
        self.absent = nn.Embedding(modalities, hidden)
        nn.init.normal_(self.absent.weight, std=TABLE_SCALE)
        self.token_norm = nn.LayerNorm(hidden)
        self.patient: nn.Embedding | None = None
        self.cross: QueryAttention | None = None
        if cross:
            self.patient = nn.Embedding(1, hidden)
            nn.init.normal_(self.patient.weight, std=TABLE_SCALE)
            self.cross = QueryAttention(hidden, heads)
        self.layers = nn.ModuleList([TransformerLayer(hidden, heads, dropout) for _ in range(layers)])
        self.final_norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, summaries: Tensor, has: Tensor, extra: Tensor | None, extra_mask: Tensor | None
    ) -> Tensor:
        """Fuse.

        Parameters
        ----------
        summaries, has
            ``(patients, modalities, hidden)`` one token for each modality; ``(patients, modalities)`` bool.
        extra, extra_mask
            ``(patients, pathways, hidden)`` pathway tokens and which of them the patient has.

        Returns
        -------
        Tensor
            ``(patients, hidden)``.
        """
        patients, modalities = has.shape
        summaries = torch.where(has.unsqueeze(2), summaries, rows(self.absent, patients))
        always = torch.ones_like(has)
        tokens, mask = summaries, always
        if extra is not None and extra_mask is not None:
            tokens, mask = torch.cat([summaries, extra], dim=1), torch.cat([always, extra_mask], dim=1)
        tokens = self.token_norm(tokens)
        summaries = tokens[:, :modalities]
        if self.cross is None or self.patient is None:
            patient = masked_mean(summaries, has).unsqueeze(1)
        else:
            query = rows(self.patient, patients).expand(patients, -1, -1)
            patient = query + self.dropout(self.cross(query, tokens, mask))
        sequence = torch.cat([patient, summaries], dim=1)
        mask = torch.cat([always[:, :1], always], dim=1)
        for layer in self.layers:
            sequence = layer(sequence, mask)
        fused = self.final_norm(sequence[:, 0])
        result: Tensor = self.dropout(fused)
        return result
