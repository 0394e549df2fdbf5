"""One query over tokens equals PyTorch's multi-head attention on the same weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmfed_common.model.fusion import DenseAttention, QueryAttention

HIDDEN, HEADS = 16, 4


def _tokens() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(6)
    mask = torch.rand(3, 9, generator=generator) > 0.4
    mask[:, 0] = True
    return (
        torch.randn(3, 1, HIDDEN, generator=generator),
        torch.randn(3, 9, HIDDEN, generator=generator),
        mask,
    )


def _reference(ours: DenseAttention | QueryAttention, key: Tensor) -> nn.MultiheadAttention:
    reference = nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([ours.query.weight, key, ours.value.weight]))
        zeros = torch.zeros(HIDDEN)
        reference.in_proj_bias.copy_(torch.cat([ours.query.bias, zeros, ours.value.bias]))
        reference.out_proj.load_state_dict(ours.output.state_dict())
    return reference


def test_dense_attention() -> None:
    _, tokens, mask = _tokens()
    ours = DenseAttention(HIDDEN, HEADS)
    reference = _reference(ours, ours.key.weight)
    expected, _ = reference(tokens, tokens, tokens, key_padding_mask=~mask)
    torch.testing.assert_close(ours(tokens, tokens, mask), expected, rtol=1e-5, atol=1e-5)


def test_query_attention() -> None:
    query, tokens, mask = _tokens()
    ours = QueryAttention(HIDDEN, HEADS)
    reference = _reference(ours, ours.key.weight.T)
    expected, _ = reference(query, tokens, tokens, key_padding_mask=~mask)
    torch.testing.assert_close(ours(query, tokens, mask), expected, rtol=1e-5, atol=1e-5)
