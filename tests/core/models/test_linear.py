"""Linear: torch's own numbers and gradients, whichever library multiplies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core.models import linear as module
from core.models.linear import Linear, linear


@pytest.fixture(params=[True, False], ids=["onednn", "torch"])
def either(request, monkeypatch):
    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch was built without oneDNN")
    monkeypatch.setattr(module, "onednn_is_faster", lambda: request.param)


@pytest.mark.parametrize("shape", [(300, 24), (16, 19, 24), (3, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch(either, shape, bias):
    torch.manual_seed(0)
    layer, reference = Linear(24, 40, bias=bias), nn.Linear(24, 40, bias=bias)
    reference.load_state_dict(layer.state_dict())
    states = torch.randn(shape, requires_grad=True)
    twin = states.detach().clone().requires_grad_()
    found, wanted = layer(states), reference(twin)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    grad = torch.randn_like(wanted)
    found.backward(grad)
    wanted.backward(grad)
    torch.testing.assert_close(states.grad, twin.grad, rtol=1e-4, atol=1e-4)
    for own, other in zip(layer.parameters(), reference.parameters()):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-3)


def test_frozen_weights_and_inputs_cost_no_gradient(either):
    layer = Linear(8, 8).requires_grad_(False)
    states = torch.randn(200, 8, requires_grad=True)
    layer(states).sum().backward()
    assert layer.weight.grad is None and states.grad is not None
    with torch.no_grad():
        assert not layer(states).requires_grad


def test_autocast_and_float64_go_through_torch(either):
    layer = Linear(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(200, 8)).dtype == torch.bfloat16
    double = torch.randn(200, 8, dtype=torch.float64)
    assert linear(double, layer.weight.double()).dtype == torch.float64


def test_transposed_rows_are_read_right(either):
    rows, weight = torch.randn(24, 300).t(), torch.randn(5, 24)
    torch.testing.assert_close(linear(rows, weight), rows @ weight.T, rtol=1e-5, atol=1e-4)
