"""Two processes give the value and the gradients of one process on the whole batch.

The ranks have different numbers of sentences, lengths and tokens. Each runs its rows through
shared weights; the weights' gradients, averaged over the ranks as data-parallel training does,
must be those of one process.
"""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from core.losses.catalog import DISTILLATION_LOSSES
from core.losses.crd import CRD
from core.losses.mlm import mlm_loss
from core.losses.token_contrast import sentence_contrast, token_contrast, token_info_nce
from core.losses.word_contrast import word_info_nce

ROWS, LENGTH, SIZE = 7, 6, 8
SHARES = [slice(0, 2), slice(2, ROWS)]  # the second rank has more sentences


class TwoSides(nn.Module):
    """Heads on both sides and one loss behind them, called as `DistributedDataParallel` wants."""

    def __init__(self, name: str):
        super().__init__()
        torch.manual_seed(0)
        self.name = name
        self.first, self.second = nn.Linear(SIZE, SIZE).double(), nn.Linear(SIZE, SIZE).double()
        if name.startswith("crd"):
            self.loss = CRD(SIZE, negatives=name.split()[1], queue_size=40).double()
        elif name in DISTILLATION_LOSSES:
            self.loss = DISTILLATION_LOSSES[name]()

    def forward(self, rows: dict) -> torch.Tensor:
        first, second = self.first(rows["first"]), self.second(rows["second"])
        mask = rows["mask"]
        if self.name.startswith("crd"):
            ids = rows["ids"] if self.name.endswith("ids") else None
            return self.loss(first, second, mask, token_ids=ids)
        if self.name == "voken":
            return self.loss(first, rows["ids"], mask)
        if self.name == "mlm":
            return mlm_loss(first[mask], rows["ids"].masked_fill(~mask, -100))
        if self.name in DISTILLATION_LOSSES:
            return self.loss(first, second, mask)
        return self._contrast(F.normalize(first, dim=-1), F.normalize(second[:, 0], dim=-1), rows)

    def _contrast(self, tokens, clips, rows) -> torch.Tensor:
        mask, same = rows["mask"], rows["clip"]
        return {
            "hinge": lambda: token_contrast(tokens, clips, mask),
            "hinge same_clip": lambda: token_contrast(tokens, clips, mask, same_clip=same),
            "hinge paired": lambda: token_contrast(tokens, clips, mask, negatives="paired"),
            "info_nce": lambda: token_info_nce(tokens, clips, mask),
            "sentence": lambda: sentence_contrast(tokens, clips, mask),
            "words": lambda: word_info_nce(
                tokens, clips, mask, words=rows["ids"].masked_fill(~mask, -1)
            ),
        }[self.name]()


CONTRAST = ["hinge", "hinge same_clip", "hinge paired", "info_nce", "sentence", "words"]
LOCAL = ["nst", "regression", "soft_label", "voken", "mlm"]
NAMES = [*CONTRAST, "crd batch", "crd batch ids", "crd queue", "crd queue ids", *LOCAL]


def whole_batch(seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([2, 3, 1, 6, 4, 5, 6])
    return {
        "first": torch.randn(ROWS, LENGTH, SIZE, generator=generator).double(),
        "second": torch.randn(ROWS, LENGTH, SIZE, generator=generator).double(),
        "mask": torch.arange(LENGTH) < lengths[:, None],
        "ids": torch.randint(0, SIZE, (ROWS, LENGTH), generator=generator),
        "clip": torch.tensor([0, 1, 2, 0, 4, 1, 6]),
    }


def share_of(batch: dict, rank: int) -> dict:
    """A rank's rows; the first rank's sentences are short, and so is its padding."""
    length = 3 if rank == 0 else LENGTH
    return {
        k: v[SHARES[rank]][:, :length] if v.dim() > 1 else v[SHARES[rank]] for k, v in batch.items()
    }


def two_steps(model: nn.Module, batches: list[dict]) -> dict[str, np.ndarray]:
    """Values and weight gradients of two training steps (the second sees CRD's queue)."""
    found = {}
    for step, batch in enumerate(batches):
        model.zero_grad()
        value = model(batch)
        value.backward()
        found[f"value {step}"] = value.detach().numpy()
        for name, weights in model.named_parameters():
            if weights.grad is not None:
                found[f"{name.removeprefix('module.')} {step}"] = weights.grad.numpy().copy()
    return found


def run_rank(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    patience = timedelta(seconds=60)  # a rank that waits in vain fails, it does not hang
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2, timeout=patience)
    for number, name in enumerate(NAMES):
        model = DistributedDataParallel(TwoSides(name), find_unused_parameters=True)
        batches = [share_of(whole_batch(seed), rank) for seed in (1, 2)]
        np.savez(Path(folder) / f"{number}-{rank}.npz", **two_steps(model, batches))
    if rank == 0:  # evaluation on one rank alone must not wait for the other
        with torch.no_grad():
            for name in NAMES:
                assert TwoSides(name)(share_of(whole_batch(1), 0)).isfinite()
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> Path:
    """Folder with what two processes found for every loss."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(run_rank, (port, str(folder)), nprocs=2, start_method="spawn")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one(ranks, name):
    expected = two_steps(TwoSides(name), [whole_batch(1), whole_batch(2)])
    assert any(np.abs(v).max() > 1e-4 for k, v in expected.items() if "weight" in k)
    for rank in range(2):
        found = np.load(ranks / f"{NAMES.index(name)}-{rank}.npz")
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-8, atol=1e-10, err_msg=key)
