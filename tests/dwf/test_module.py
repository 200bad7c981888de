"""The library face in one's own loop: which layers, which kinds, and what else in PyTorch it must get along with."""

import copy
import re
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

import dwfbench
from dwfbench.base.errors import UsageError
from dwfbench.dwf.factors import product_std, redrawn
from dwfbench.sparsity.count import macs


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def factor_names(model):
    return [name for name, _ in model.named_parameters() if ".original" in name]


def depths(model):
    """Weight name -> depth, of what is factorized."""
    return {row["name"]: row["depth"] for row in dwfbench.init_statistics(model)}


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def plain_and_factorized(group="none"):
    """Without normalisation, every gradient means something."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3))
    return dwfbench.factorize(model, 3, group=group, generator=seeded())


def batch():
    return torch.randn(20, 1, 4, 4, generator=seeded()), torch.arange(20) % 3


def steps(model, optimizer, count=5):
    inputs, labels = batch()
    for _ in range(count):
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()


# ---------------------------------------------------------------- one's own loop

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
(LOOP,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_the_whole_loop_runs(capsys):
    """On one batch: 2 * 15 / 3 * 0.1 = 1, so that one step of decay brings the factors of depth 3 to zero."""
    assert len(LOOP.strip().splitlines()) <= 25
    torch.manual_seed(0)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    names = {"epochs": 1, "batches": [(images, labels)], "strength": 15.0}
    exec(LOOP, names)
    model = names["model"]
    assert "fc.weight" in dict(model.named_parameters())
    assert not factor_names(model)
    said = dict(line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert float(said["decay budget"]) == pytest.approx(15 * 0.1 / (1 - 0.9))
    assert float(said["misalignment"]) > 0
    assert float(said["compression"]) > 10
    assert (model.fc.weight != 0).all()  # at depth 2 the step goes past zero, to -0.5 times the factors


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
@pytest.mark.parametrize("group", ["none", "channel"])
def test_any_optimiser_trains_and_sees_the_decay(kind, group):
    """The decay is coupled: a gradient of 2 strength / D times the factor, whatever the optimiser makes of it."""
    ends = []
    for by_hand in (False, True):
        model = plain_and_factorized(group).double()
        chosen = dwfbench.param_groups(model, 0.0 if by_hand else 0.1)
        optimizer = kind(chosen, lr=1e-3)
        inputs, labels = batch()
        inputs = inputs.double()
        first = cross_entropy(model(inputs), labels).item()
        for _ in range(20):
            optimizer.zero_grad()
            loss = cross_entropy(model(inputs), labels)
            if by_hand:
                loss = loss + 0.1 / 3 * sum(factor.square().sum() for factor in chosen[0]["params"])
            loss.backward()
            optimizer.step()
        assert cross_entropy(model(inputs), labels).item() < first
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-9)


def test_autocast_computes_in_bfloat16_and_leaves_float32_factors():
    model = plain_and_factorized()
    inputs, labels = batch()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(inputs)
        loss = cross_entropy(logits, labels)
    assert logits.dtype == torch.bfloat16
    loss.backward()
    narrow = [factor.grad for factor in model.parameters()]
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in narrow)
    model.zero_grad()
    cross_entropy(model(inputs), labels).backward()
    wide = torch.cat([factor.grad.flatten() for factor in model.parameters()])
    assert (torch.cat([g.flatten() for g in narrow]) - wide).norm() < 0.05 * wide.norm()


@pytest.mark.parametrize(("group", "tie"), [("none", True), ("none", False), ("row", False)])
def test_training_goes_on_identically_from_a_state_dict(group, tie, tmp_path):
    def start(seed):
        torch.manual_seed(seed)
        model = dwfbench.factorize(TiedNet(tie), {"attention": 3, "head": 2}, group=group)
        return model, torch.optim.SGD(dwfbench.param_groups(model, 1e-2), lr=0.1, momentum=0.9)

    def go(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            model(TOKENS).square().mean().backward()
            optimizer.step()

    model, optimizer = start(0)
    go(model, optimizer)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    other, its_optimizer = start(1)
    assert not torch.equal(other(TOKENS), model(TOKENS))
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(saved["model"])
    its_optimizer.load_state_dict(saved["optimizer"])
    for pair in ((model, optimizer), (other, its_optimizer)):
        go(*pair)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(dwfbench.collapse(model)(TOKENS), dwfbench.collapse(other)(TOKENS))


def test_a_compiled_model_has_the_same_gradients():
    """As far as it is ours: one graph, with the gradients of eager code; no code for a processor is made of it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    dwfbench.factorize(dwfbench.factorize(model, 3, layers="0"), 2, layers="2", group="row")
    inputs, labels = torch.randn(8, 5), torch.arange(8) % 3
    gradients = []
    for called in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        cross_entropy(called(inputs), labels).backward()
        gradients.append([factor.grad.clone() for factor in model.parameters()])
        model.zero_grad()
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def train_distributed(rank, file, folder):
    """Half of the batch in each of two processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    model = plain_and_factorized()
    optimizer = torch.optim.SGD(dwfbench.param_groups(model, 1e-2), lr=0.1, momentum=0.9)
    inputs, labels = batch()
    wrapped = nn.parallel.DistributedDataParallel(model)
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(wrapped(inputs[rank::2]), labels[rank::2]).backward()
        optimizer.step()
    torch.save(dwfbench.collapse(model).state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    torch.multiprocessing.spawn(train_distributed, (tmp_path / "rendezvous", tmp_path), nprocs=2)
    model = plain_and_factorized()
    steps(model, torch.optim.SGD(dwfbench.param_groups(model, 1e-2), lr=0.1, momentum=0.9), 3)
    expected = dwfbench.collapse(model).state_dict()
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in expected.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("group", ["none", "channel"])
def test_what_is_done_to_a_copy_leaves_the_original_alone(group):
    model = dwfbench.factorize(small_net(), 2, group=group)
    twin, report = copy.deepcopy(model), dwfbench.sparsity_report(model)
    assert report["numel"] == 4 * 9 + 16 * 3
    before = model[0].weight.detach().clone()
    steps(twin, torch.optim.SGD(dwfbench.param_groups(twin, 0.1), lr=0.1))
    dwfbench.collapse(twin)
    assert torch.equal(model[0].weight, before)
    assert not torch.equal(twin[0].weight, before)
    assert type(twin[0]) is nn.Conv2d
    assert parametrize.is_parametrized(model[0], "weight")
    assert type(dwfbench.collapse(model)[0]) is nn.Conv2d


# ---------------------------------------------------------------- which layers, and how deep


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3)
        self.conv2 = nn.Conv2d(2, 2, 3)
        self.block = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        self.tokens = nn.Embedding(4, 3)
        self.attention = nn.MultiheadAttention(4, 2)


CONVOLUTIONS = {"conv1.weight", "conv2.weight"}
BLOCK = {"block.0.weight", "block.2.weight"}
ATTENTION = {"attention.in_proj_weight", "attention.out_proj.weight"}
CHOICES = {
    "default": ({}, CONVOLUTIONS | BLOCK | ATTENTION),
    "everything": ({"layers": "*"}, CONVOLUTIONS | BLOCK | ATTENTION | {"tokens.weight"}),
    "a name": ({"layers": "conv1"}, {"conv1.weight"}),
    "patterns": ({"layers": ["conv?", "tokens"]}, CONVOLUTIONS | {"tokens.weight"}),
    "what is in it": ({"layers": "block"}, BLOCK),
    "a type": ({"layers": nn.Conv2d}, CONVOLUTIONS),
    "types and names": ({"layers": (nn.Sequential, "conv2")}, BLOCK | {"conv2.weight"}),
    "attention whole": ({"layers": nn.MultiheadAttention}, ATTENTION),
    "a function": ({"layers": lambda name, module: name.endswith("2")}, {"conv2.weight", "block.2.weight"}),
    "of the module": ({"layers": lambda _, module: getattr(module, "in_features", 0) == 3}, BLOCK),
}


@pytest.mark.parametrize("case", CHOICES)
def test_layers_are_chosen_by_name_pattern_type_or_function(case):
    options, expected = CHOICES[case]
    assert set(depths(dwfbench.factorize(Named(), 3, **options))) == expected


DEPTHS = {
    "star is the default": (
        {"conv1": 2, "*": 3},
        {"conv1.weight": 2, "conv2.weight": 3} | dict.fromkeys(BLOCK | ATTENTION, 3),
    ),
    "star comes last": (
        {"*": 3, "conv1": 2, "attention": 4},
        {"conv1.weight": 2, "conv2.weight": 3} | dict.fromkeys(ATTENTION, 4) | dict.fromkeys(BLOCK, 3),
    ),
    "the first counts": ({"conv1": 2, "conv*": 4}, {"conv1.weight": 2, "conv2.weight": 4}),
    "left alone": ({"conv1": 1, "block": None, "attention": 1, "*": 2}, {"conv2.weight": 2}),
    "an embedding by name": ({"tokens": 4}, {"tokens.weight": 4}),
}


@pytest.mark.parametrize("case", DEPTHS)
def test_depths_go_by_pattern(case):
    depth, expected = DEPTHS[case]
    assert depths(dwfbench.factorize(Named(), depth)) == expected


@pytest.mark.parametrize("layer", [nn.RNN(3, 4), nn.GRU(3, 4), nn.LSTM(3, 4, num_layers=2, bidirectional=True)])
def test_a_collapsed_recurrent_layer_trains_and_is_counted_like_a_plain_one(layer):
    plain = copy.deepcopy(layer)
    dwfbench.factorize(layer, 2, keep_weights=True)
    inputs = torch.randn(5, 2, 3, generator=seeded())
    layer(inputs)
    dwfbench.collapse(layer)
    for _ in range(2):  # the first pass after collapse sees the parameters even of a stale list
        layer.zero_grad()
        layer(inputs)[0].sum().backward()
        assert all(parameter.grad is not None for parameter in layer.parameters())
    assert not layer._forward_hooks
    assert macs(layer, (5, 3)) == macs(plain, (5, 3)) > (0, 0)


def test_a_model_is_factorized_in_parts():
    model = dwfbench.factorize(Named(), 2, layers="conv1")
    dwfbench.factorize(model, 4, layers="block", group="channel")
    assert depths(model) == {"conv1.weight": 2} | dict.fromkeys(BLOCK, 4)
    decays = {group["weight_decay"] for group in dwfbench.param_groups(model, 1.0)}
    assert decays == {1.0, 0.5, 0.0}


# ---------------------------------------------------------------- kinds of layers

TOKENS = torch.tensor([[1, 2, 3, 0], [4, 4, 5, 0]])


class TiedNet(nn.Module):
    """A language model of six tokens, the first of which is padding."""

    def __init__(self, tie=True):
        super().__init__()
        self.embedding = nn.Embedding(6, 4, padding_idx=0)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 6, bias=False)
        if tie:
            self.head.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens)
        return self.head(x + self.attention(x, x, x)[0])


@pytest.mark.parametrize("group", ["none", "channel", "row"])
@pytest.mark.parametrize("separate", [False, True])
def test_attention_projects_with_the_product(group, separate):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(4, 2, **({"kdim": 6, "vdim": 5} if separate else {}))
    query, key, value = torch.randn(3, 2, 4), torch.randn(3, 2, 6), torch.randn(3, 2, 5)
    inputs = (query, key, value) if separate else (query, query, query)
    expected = layer(*inputs)[0]
    plain = layer.state_dict().keys()
    dwfbench.factorize(layer, 3, group=group, keep_weights=True)
    assert len(factor_names(layer)) == 3 * (4 if separate else 2)
    out = layer(*inputs)[0]
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in layer.named_parameters() if "original" in name)
    report = dwfbench.sparsity_report(layer)
    assert report["numel"] == (16 + 24 + 20 + 16 if separate else 48 + 16)
    dwfbench.collapse(layer)
    torch.testing.assert_close(layer(*inputs)[0], expected)
    assert layer.state_dict().keys() == plain


@pytest.mark.parametrize("group", ["none", "row"])
def test_the_transformer_s_fast_path_sees_the_product(group, monkeypatch):
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), 2).eval()
    before = model(torch.ones(2, 3, 4))
    dwfbench.factorize(model, 2, group=group)
    for name, factor in model.named_parameters():
        factor.data *= 1.5 if ".original" in name else 1
    inputs = torch.randn(2, 3, 4)
    slow = model.train()(inputs)
    fused = torch._transformer_encoder_layer_fwd
    calls = []
    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", lambda *args: calls.append(1) or fused(*args))
    with torch.no_grad():
        fast = model.eval()(inputs)
        assert not torch.allclose(model(torch.ones(2, 3, 4)), before, atol=1e-3)
        torch.testing.assert_close(dwfbench.collapse(model)(inputs), fast)
    assert len(calls) == 6
    torch.testing.assert_close(fast, slow)


def test_an_embedding_s_padding_stays_zero():
    model = dwfbench.factorize(TiedNet(tie=False), 3, layers="*", generator=seeded())
    optimizer = torch.optim.SGD(dwfbench.param_groups(model, 1e-2), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(TOKENS).square().mean().backward()
        optimizer.step()
    weight = dwfbench.collapse(model).embedding.weight
    assert (weight[0] == 0).all()
    assert (weight[1:] != 0).all()


@pytest.mark.parametrize("layers", [None, "embedding", "head", nn.Embedding])
def test_tied_weights_are_factorized_once_and_stay_tied(layers):
    torch.manual_seed(0)
    model = TiedNet()
    model.attention = nn.Identity()
    model.forward = lambda tokens: model.head(model.embedding(tokens))
    dwfbench.factorize(model, 3, layers=layers)
    assert list(depths(model)) == ["embedding.weight"]
    assert len(list(model.parameters())) == 3
    assert torch.equal(model.head.weight, model.embedding.weight)
    (group,) = dwfbench.param_groups(model, 0.3)
    assert group["weight_decay"] == pytest.approx(0.2)
    once = dwfbench.misalignment(model)
    dwfbench.factorize(other := nn.Embedding(6, 4), 3, layers="*")
    for own, factor in zip(other.parameters(), group["params"], strict=True):
        own.data.copy_(factor)
    assert once == pytest.approx(dwfbench.misalignment(other))

    # Both uses send their gradients to the same factors; the sum of the logits of token 1 is that of W w_1.
    weight = model.head.weight.detach().clone().requires_grad_()
    (weight @ weight[1]).sum().backward()
    model(torch.tensor([1])).sum().backward()
    first, second, third = group["params"]
    torch.testing.assert_close(first.grad, weight.grad * (second * third).detach())

    twin = copy.deepcopy(model)
    assert len(list(twin.parameters())) == 3
    dwfbench.collapse(model)
    assert model.head.weight is model.embedding.weight
    assert dict(model.named_parameters()).keys() == {"embedding.weight"}
    assert dwfbench.sparsity_report(model)["numel"] == 24
    assert torch.equal(dwfbench.collapse(twin).head.weight, model.head.weight)


@pytest.mark.parametrize("keep_weights", [False, True])
def test_the_report_counts_what_was_factorized(keep_weights):
    model = TiedNet(tie=False)
    linear = 48 + 16 + 24  # the attention's projections and the head
    assert dwfbench.sparsity_report(model)["numel"] == linear
    dwfbench.factorize(model, 2, layers=["embedding", "head"], keep_weights=keep_weights)
    for report in (dwfbench.sparsity_report(model), dwfbench.sparsity_report(dwfbench.collapse(model))):
        assert report["numel"] == linear + 24
        assert [layer["name"] for layer in report["layers"]].count("embedding.weight") == 1
        assert report["nnz"] == linear + 24 - 4  # the padding


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_is_done_without_gradients_is_what_is_done_with_them(mode):
    model = small_net()
    with mode():
        dwfbench.factorize(model, 3)
        factorized = dwfbench.sparsity_report(model, (1, 4, 4))
        dwfbench.collapse(model)
        assert dwfbench.sparsity_report(model, (1, 4, 4)) == factorized
    assert factorized["numel"] == 36 + 48
    assert factorized["macs_sparse"] == 4 * 36 + 48
    model(torch.rand(2, 1, 4, 4)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


# ---------------------------------------------------------------- what is refused


def tied():
    return TiedNet()


def lazy():
    return nn.Sequential(nn.Linear(3, 3), nn.LazyLinear(2))


def whole_numbers():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[1].weight = nn.Parameter(torch.ones(2, 3, dtype=torch.int8), requires_grad=False)
    return model


def attention_with_weight_norm():
    return weight_norm(nn.MultiheadAttention(4, 2), "in_proj_weight")


REFUSED = {
    "no such layer": (Named, {"depth": {"conv3": 2, "*": 3}}, "'conv3'; did you mean conv"),
    "no such choice": (Named, {"layers": ["conv1", "blok"]}, "'blok'; did you mean block"),
    "no such type": (Named, {"layers": nn.Conv1d}, "no layer is a 'Conv1d'"),
    "not a layer": (Named, {"layers": ["conv1", 3]}, "names, types or a function"),
    "no chosen layer": (Named, {"layers": lambda name, module: False}, "No layer is chosen"),
    "all left alone": (Named, {"depth": {"*": 1}}, "No layer is chosen"),
    "outside the choice": (Named, {"depth": {"block": 2}, "layers": "conv1"}, "no layer is named 'block'"),
    "depth 0": (Named, {"depth": {"conv1": 0, "*": 2}}, "depth of 'conv1'"),
    "depth 1": (Named, {"depth": 1}, "at least 2, not 1"),
    "depth 2.5": (Named, {"depth": 2.5}, "at least 2, not 2.5"),
    "depth of a type": (Named, {"depth": {nn.Conv2d: 2}}, "names of layers are text"),
    "lazy": (lazy, {}, "1.weight has no values yet"),
    "meta": (lambda: nn.Linear(3, 2, device="meta"), {}, "weight has no values yet"),
    "integers": (lambda: whole_numbers().requires_grad_(False), {}, "1.weight is of type int8"),
    "complex": (lambda: nn.Linear(3, 2, dtype=torch.complex64), {}, "of type complex64"),
    "max_norm": (lambda: nn.Embedding(3, 2, max_norm=1.0), {"layers": "*"}, "max_norm"),
    "sparse": (lambda: nn.Embedding(3, 2, sparse=True), {"layers": "*"}, "sparse=True"),
    "two depths of one weight": (tied, {"depth": {"embedding": 2, "*": 3}}, "one tied weight; give them one depth"),
    "attention": (attention_with_weight_norm, {}, "in_proj_weight is computed already"),
    "twice": (lambda: dwfbench.factorize(Named(), 2, layers="conv2"), {}, "conv2.weight is factorized already"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_model_is_left_alone_and_the_reason_named(case):
    make, options, message = REFUSED[case]
    model = make()
    keys = list(model.state_dict())
    with pytest.raises(UsageError, match=message):
        dwfbench.factorize(model, **{"depth": 3, **options})
    assert list(model.state_dict()) == keys


# ---------------------------------------------------------------- statistics of the start


def test_statistics_of_a_start_agree_with_closed_forms():
    model = nn.Sequential(nn.Linear(400, 300), nn.Linear(300, 200))
    for layer in model:
        nn.init.normal_(layer.weight, std=0.05, generator=seeded(1))
    dwfbench.factorize(model, {"0": 2, "1": 3}, generator=seeded())
    rows = dwfbench.init_statistics(model)
    assert [(row["name"], row["depth"], row["group"]) for row in rows] == [
        ("0.weight", 2, "none"),
        ("1.weight", 3, "none"),
    ]
    for row, layer in zip(rows, model, strict=True):
        assert row["sigma"] == pytest.approx(0.05, rel=0.01)
        assert row["std"] == pytest.approx(product_std(0.05, row["depth"], 3e-3), rel=0.02)
        assert row["min_abs"] == pytest.approx(layer.weight.abs().min().item())
        assert 3e-3 * 0.999 < row["min_abs"] < 4e-3


def test_kurtosis_is_that_of_a_product():
    """Two factors of +-1 and +-2, each as often: w^2 is 1, 4, 4, 16, so E w^4 / (E w^2)^2 = 72.25 / 39.0625."""
    layer = dwfbench.factorize(nn.Linear(4, 4, bias=False), 2, keep_weights=True)
    values = torch.tensor([1.0, -1.0, 2.0, -2.0])
    first, second = layer.parameters()
    first.data, second.data = values[:, None].repeat(1, 4), values[None].repeat(4, 1)
    (row,) = dwfbench.init_statistics(layer)
    assert row["kurtosis"] == pytest.approx(72.25 / 39.0625)
    assert row["std"] == pytest.approx(2.5)
    assert row["truncated"] is None


@pytest.mark.parametrize(("sigma", "depth"), [(0.05, 2), (0.05, 3), (0.9, 2)])
def test_the_share_that_is_drawn_again_is_that_of_rejection_sampling(sigma, depth):
    scale = sigma ** (1 / depth)
    draws = (scale * torch.randn(400_000, generator=seeded(), dtype=torch.float64)).abs()
    outside = (draws <= 3e-3 ** (1 / depth)) | (draws >= min(1.0, (2 * sigma) ** (1 / depth)))
    assert redrawn(sigma, depth, 3e-3) == pytest.approx(outside.double().mean().item(), abs=4e-3)


def test_statistics_of_groups_and_kept_weights_have_the_ordinary_deviation():
    for options in ({"group": "channel"}, {"keep_weights": True}):
        (row,) = dwfbench.init_statistics(dwfbench.factorize(nn.Linear(30, 20), 3, **options))
        assert row["std"] == pytest.approx(row["sigma"])
        assert row["truncated"] is None
        assert row["kurtosis"] == pytest.approx(1.8, abs=0.2)  # uniform
    assert dwfbench.init_statistics(nn.Linear(3, 2)) == []


def test_a_trained_network_of_torchvision_keeps_its_outputs():
    """Trained here for two steps, so that its statistics are not those of a fresh one."""
    torch.manual_seed(0)
    model, images = torchvision.models.resnet18(num_classes=10), torch.randn(4, 3, 32, 32)
    steps_of = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        steps_of.zero_grad()
        nn.functional.cross_entropy(model(images), torch.arange(4)).backward()
        steps_of.step()
    model.eval()
    with torch.no_grad():
        before = model(images)
        dwfbench.factorize(model, 3, keep_weights=True)
        assert dwfbench.misalignment(model) < 1e-3 * sum(float(p.square().sum()) for p in model.parameters())
        torch.testing.assert_close(model(images), before, rtol=1e-3, atol=1e-3)
        dwfbench.collapse(model)
        torch.testing.assert_close(model(images), before, rtol=1e-3, atol=1e-3)


def test_a_layer_that_is_compiled_is_collapsed_once():
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), torch.compile(nn.Linear(6, 4), backend="eager"))
    inputs = torch.randn(3, 8)
    dwfbench.factorize(model, 3, generator=seeded())
    expected = model(inputs)
    torch.testing.assert_close(dwfbench.collapse(model)(inputs), expected)
    assert not any("parametrizations" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("options", [{"keep_weights": True}, {"group": "row"}, {}])
def test_a_weight_with_nan_is_refused(options):
    layer = nn.Linear(3, 2)
    layer.weight.data[0, 0] = float("nan")
    with pytest.raises(UsageError, match="infinite or NaN"):
        dwfbench.factorize(layer, 3, **options)
