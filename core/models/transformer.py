"""The Transformer layer that the language and the video encoder share.

Post-normalised as BERT's, so BERT weights fit; queries, keys and values in one matrix; SDPA.
Attention weights are not dropped out, hidden states are: SDPA's fused kernels then serve on
CPUs too, and small models train no worse.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.models.linear import Linear, linear


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward block: [B, L, H] and an attention mask -> [B, L, H]."""

    def __init__(self, hidden: int, heads: int, intermediate: int, dropout: float, eps=1e-12):
        super().__init__()
        if hidden % heads:
            raise ValueError(
                f"Wanted a hidden size that {heads} heads can share, found {hidden}. "
                "Change num_heads or hidden_size."
            )
        self.heads = heads
        self.qkv = Linear(hidden, 3 * hidden)
        self.attention_output = Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=eps)
        self.up = Linear(hidden, intermediate)
        self.down = Linear(intermediate, hidden)
        self.output_norm = nn.LayerNorm(hidden, eps=eps)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, attend: Tensor) -> Tensor:
        """`attend` is bool, broadcastable to [B, heads, L, L]; True where a key may be seen."""
        batch, length, hidden = states.shape
        qkv = self.qkv(states).view(batch, length, 3, self.heads, hidden // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=attend)
        return self._finish(states, seen.transpose(1, 2).reshape(batch, length, hidden))

    def at(self, states: Tensor, attend: Tensor, places: Tensor) -> Tensor:
        """The layer's output at one place of each row alone: places int64 [B] -> [B, H].

        Keys and values are all it needs of the others, a fifth of the layer's work.
        """
        batch, length, hidden = states.shape
        weight, bias = self.qkv.weight, self.qkv.bias
        asked = states[torch.arange(batch, device=states.device), places]  # [B, H]
        query = linear(asked, weight[:hidden], bias[:hidden]).view(batch, self.heads, 1, -1)
        others = linear(states, weight[hidden:], bias[hidden:])
        key, value = others.view(batch, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=attend)
        return self._finish(asked, seen.reshape(batch, hidden))

    def _finish(self, states: Tensor, seen: Tensor) -> Tensor:
        states = self.attention_norm(states + self.dropout(self.attention_output(seen)))
        fed = self.down(F.gelu(self.up(states)))
        return self.output_norm(states + self.dropout(fed))


class Dropout(nn.Module):
    """Dropout that draws 16 random bits a value on CPU, where torch's own is 4 times slower.

    The probability is exact to 1/65536.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, states: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return states
        if states.device.type != "cpu":
            return F.dropout(states, self.probability, training=True)
        count = states.numel()
        bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        threshold = round(self.probability * 65536) - 32768
        keep = bits.view(torch.int16)[:count].view(states.shape) >= threshold
        return states * keep.to(states.dtype).mul_(1 / (1 - self.probability))


def init_bert_weights(module: nn.Module) -> None:
    """BERT's initialisation: normal with standard deviation 0.02, biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
