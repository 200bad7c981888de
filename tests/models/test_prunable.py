"""What of a network is prunable, and the same answer from the library, counts, masks, paths, training and exports."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import dwfbench
from dwfbench.base.errors import UsageError
from dwfbench.deploy.export import export
from dwfbench.models.prunable import choose_embeddings, left_out, prunable
from dwfbench.sparsity.masks import top_k_masks


class Attention(nn.Module):
    """Tokens of 4 numbers, of which attention makes 3 outputs."""

    def __init__(self, **options):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True, **options), nn.Linear(4, 3)

    def forward(self, x):
        keys = torch.cat([x, x], -1)[..., : self.attention.kdim]
        return self.head(self.attention(x, keys, x)[0].mean(1))


class Recurrent(nn.Module):
    """Sequences of 4 numbers, of whose last state a Linear layer makes 3 outputs."""

    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        self.cell = kind(4, 5, batch_first=True, **options)
        width = (options.get("proj_size") or 5) * (1 + options.get("bidirectional", False))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class Cells(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


class Tokens(nn.Module):
    def __init__(self, kind=nn.Embedding):
        super().__init__()
        self.table, self.head = kind(6, 4), nn.Linear(4, 3)
        self.position = nn.Parameter(torch.zeros(1, 4))

    def forward(self, x):
        found = self.table(x.argmax(-1))
        return self.head((found.mean(1) if found.dim() == 3 else found) + self.position)


LAYERS = {
    "packed attention": (Attention, ["attention.in_proj_weight", "attention.out_proj.weight", "head.weight"]),
    "attention in parts": (
        lambda: Attention(kdim=3),
        [f"attention.{letter}_proj_weight" for letter in "qkv"] + ["attention.out_proj.weight", "head.weight"],
    ),
    "lstm": (Recurrent, ["cell.weight_ih_l0", "cell.weight_hh_l0", "head.weight"]),
    "projected lstm": (
        lambda: Recurrent(proj_size=2),
        ["cell.weight_ih_l0", "cell.weight_hh_l0", "cell.weight_hr_l0", "head.weight"],
    ),
    "gru both ways": (
        lambda: Recurrent(nn.GRU, bidirectional=True, num_layers=2),
        [f"cell.weight_{way}_l{layer}{end}" for layer in (0, 1) for end in ("", "_reverse") for way in ("ih", "hh")]
        + ["head.weight"],
    ),
    "rnn": (lambda: Recurrent(nn.RNN), ["cell.weight_ih_l0", "cell.weight_hh_l0", "head.weight"]),
    "gru cell": (Cells, ["cell.weight_ih", "cell.weight_hh", "head.weight"]),
    "embedding": (Tokens, ["head.weight"]),
}


def shares(model):
    return sum(weight.numel() for weight in prunable(model).values())


@pytest.mark.parametrize("name", LAYERS)
def test_the_library_the_counts_and_the_masks_speak_of_the_same_weights(name):
    torch.manual_seed(0)
    make, names = LAYERS[name]
    model = make()
    assert list(prunable(model)) == names
    assert [layer["name"] for layer in dwfbench.sparsity_report(model)["layers"]] == names
    assert list(top_k_masks(prunable(model), 2)) == names
    x = torch.randn(2, 7, 4)
    expected = model(x)
    factorized = dwfbench.factorize(model, 3, keep_weights=True)
    assert [row["name"] for row in dwfbench.init_statistics(factorized)] == names
    torch.testing.assert_close(factorized(x), expected)
    factorized(x).sum().backward()
    assert all(p.grad is not None for name, p in factorized.named_parameters() if ".original" in name)
    twin = copy.deepcopy(factorized)
    torch.testing.assert_close(dwfbench.collapse(twin)(x), expected)
    assert set(prunable(twin)) == set(names)
    assert dwfbench.sparsity_report(factorized)["numel"] == shares(twin)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_an_embedding_is_prunable_where_it_is_chosen(kind, tmp_path):
    model = Tokens(kind)
    assert list(prunable(model)) == ["head.weight"]
    assert left_out(model) == (
        "prunable: 27.9 % of 43 weights; not: position (of Tokens, 4), table.weight (of " + kind.__name__ + ", 24)"
    )
    choose_embeddings(model)
    assert list(prunable(model)) == ["table.weight", "head.weight"]
    assert dwfbench.sparsity_report(model)["numel"] == 36
    collapsed = dwfbench.collapse(dwfbench.factorize(Tokens(kind), 2, layers=["table", "head"]))
    assert list(prunable(collapsed)) == ["table.weight", "head.weight"]
    for chosen in (model, collapsed):
        manifest = export(chosen, torch.randn(2, 7, 4), tmp_path / str(id(chosen)), ("dense",))
        assert [layer["name"] for layer in manifest["layers"]] == ["table.weight", "head.weight"]


def test_frozen_weights_are_left_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    assert list(prunable(model)) == ["1.weight"]
    assert left_out(model) == "prunable: 34.3 % of 35 weights; not: 0.weight (frozen, 16)"
    assert dwfbench.sparsity_report(model)["notes"] == [left_out(model)]
    dwfbench.factorize(model, 2)
    assert [row["name"] for row in dwfbench.init_statistics(model)] == ["1.weight"]
    assert torch.equal(model[0].weight, before)
    with pytest.raises(UsageError, match="No layer is chosen"):
        dwfbench.factorize(model, 2, layers="0")


def test_nothing_counts_as_frozen_in_a_network_that_was_made_ready_for_use():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)).requires_grad_(False)
    assert dwfbench.sparsity_report(model)["numel"] == 28


def test_a_usual_network_leaves_nothing_out():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3), nn.LayerNorm(3))
    assert left_out(model) is None
    assert dwfbench.sparsity_report(model)["notes"] == []


def test_only_some_are_named_of_many():
    model = nn.Sequential(*(nn.Bilinear(2, 2, 2) for _ in range(8)), nn.Linear(2, 2))
    assert left_out(model).endswith("4.weight (of Bilinear, 8) and 3 more")


def test_a_weight_without_elements_is_not_prunable():
    model = nn.Sequential(nn.Linear(0, 4), nn.Linear(4, 3))
    assert list(prunable(model)) == ["1.weight"]
    dwfbench.factorize(model, 2)
    assert [row["name"] for row in dwfbench.init_statistics(model)] == ["1.weight"]


# ---------------------------------------------------------------- weights that a layer computes


def pruned():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    prune.l1_unstructured(model[1], "weight", amount=0.95)
    return model


def normed(norm):
    """``norm`` on a network, half of whose first weights are zero, whatever they are divided by."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    with torch.no_grad():
        model[1].weight[:, ::2] = 0
    norm(model[1])
    return model


COMPUTED = {
    "a pruning mask": (pruned, 320),
    "weight_norm by a hook": (lambda: normed(nn.utils.weight_norm), 3200),
    "spectral_norm by a hook": (lambda: normed(nn.utils.spectral_norm), 3200),
    "weight_norm": (lambda: normed(nn.utils.parametrizations.weight_norm), 3200),
    "spectral_norm": (lambda: normed(nn.utils.parametrizations.spectral_norm), 3200),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("case", COMPUTED)
def test_computed_weights_are_counted_and_exported_and_neither_pruned_nor_factorized(case, tmp_path):
    torch.manual_seed(0)
    make, nnz = COMPUTED[case]
    model = make()
    x = torch.randn(4, 1, 8, 8)
    model.eval()(x)  # leaves tensors that Python cannot copy
    keys = list(model.state_dict())
    report = dwfbench.sparsity_report(model, (1, 8, 8))
    assert (report["numel"], report["nnz"]) == (7400, nnz + 1000)
    assert report["effective_compression"] >= report["compression"] > 1
    for refused in (prunable, lambda model: dwfbench.factorize(model, 2)):
        with pytest.raises(UsageError, match=r"1.weight is computed already .* called with \(layer, 'weight'\)"):
            refused(model)
    manifest = export(model, x, tmp_path / "out", ("dense", "sparse", "compact"))
    assert manifest["parameters"]["nonzero"] == nnz + 1000 + 110
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.orthogonal])
def test_a_frozen_computed_weight_is_left_alone(norm):
    model = nn.Sequential(norm(nn.Linear(4, 4)), nn.Linear(4, 3))
    model[0].requires_grad_(False)
    assert list(prunable(model)) == ["1.weight"]
    assert dwfbench.sparsity_report(model)["numel"] == 12


# ---------------------------------------------------------------- constant weights


def test_a_constant_weight_is_drawn_at_the_deviation_of_the_usual_initialiser():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(300, 400))
    nn.init.zeros_(model[2].weight)
    dwfbench.factorize(model, 3, generator=torch.Generator().manual_seed(0))
    single, head = dwfbench.init_statistics(model)
    assert (single["sigma"], head["sigma"]) == (pytest.approx(3**-0.5), pytest.approx(900**-0.5))
    assert head["min_abs"] > 0
