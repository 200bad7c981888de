"""The warning at the first step of an optimiser that decouples the decay of factors."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

import dwfbench
from dwfbench.dwf import watch


def factorized():
    return dwfbench.factorize(nn.Linear(6, 4), 3, generator=torch.Generator().manual_seed(0))


def step(model, optimizer):
    optimizer.zero_grad()
    model(torch.ones(2, 6)).square().sum().backward()
    optimizer.step()


def said(model, optimizer, steps=3):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            step(model, optimizer)
    return [str(one.message) for one in caught]


class AdamW8bit(torch.optim.SGD):
    """The name of another package's optimiser."""


@pytest.mark.parametrize("kind", [torch.optim.AdamW, AdamW8bit])
def test_decoupled_decay_is_told_once(kind):
    model = factorized()
    (sentence,) = said(model, kind(dwfbench.param_groups(model, 1e-2), lr=1e-3))
    assert sentence.startswith(f"{kind.__name__} decouples weight decay")
    assert "inverts the effect of depth" in sentence


def test_adamw_on_plain_parameters_is_told_that_nothing_becomes_sparse():
    """The default of Hugging Face's Trainer: AdamW with a decay of 0 on groups of its own."""
    model = factorized()
    (sentence,) = said(model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0))
    assert "without weight decay, so that nothing becomes sparse" in sentence


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.NAdam])
def test_coupled_decay_is_not(kind):
    model = factorized()
    assert said(model, kind(dwfbench.param_groups(model, 1e-2), lr=1e-3)) == []


def test_a_flag_of_pytorch_decouples_other_rules():
    model = factorized()
    groups = dwfbench.param_groups(model, 1e-2)
    assert len(said(model, torch.optim.NAdam(groups, lr=1e-3, decoupled_weight_decay=True))) == 1


def test_adamw_may_train_what_is_no_factor():
    model, factors = nn.Linear(6, 4), factorized()
    assert said(model, torch.optim.AdamW(model.parameters())) == []
    (sentence,) = said(factors, torch.optim.AdamW(factors.parameters()))  # it is still looked out for
    assert "AdamW" in sentence


def test_a_copy_is_told_of_too():
    model = copy.deepcopy(factorized())
    assert len(said(model, torch.optim.AdamW(dwfbench.param_groups(model, 1e-2)))) == 1


def test_a_marked_factor_is_copied_and_kept_as_any_other(tmp_path):
    model = factorized()
    factors = list(model.parameters())
    assert pickle.loads(pickle.dumps(factors[0])).equal(factors[0])
    torch.save({"factors": factors, "state": model.state_dict()}, tmp_path / "x")
    read = torch.load(tmp_path / "x", weights_only=True)
    assert all(map(torch.equal, read["factors"], factors))
    assert read["state"].keys() == copy.deepcopy(model).state_dict().keys()


def test_no_mark_is_left_on_what_was_trained():
    model = factorized()
    assert sum(hasattr(factor, watch.MARK) for factor in model.parameters()) == 3
    step(model, torch.optim.SGD(dwfbench.param_groups(model, 1e-2), lr=0.1))
    assert not any(hasattr(factor, watch.MARK) for factor in model.parameters())
