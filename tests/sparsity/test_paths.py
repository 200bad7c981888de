"""Live weights against an oracle: without biases, a weight is live where some output changes with it.

The oracle takes the gradients of random outputs of the real network for a few random inputs. Flows may count a
dependence that numbers rule out, so a live weight too many is allowed where a case says so; one too few never.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dwfbench.base.errors import UsageError
from dwfbench.models.prunable import prunable
from dwfbench.sparsity.count import macs
from dwfbench.sparsity.paths import live
from dwfbench.sparsity.report import sparsity_report

WIDTH, STEPS = 6, 4


class Between(nn.Module):
    """A function between two Linear layers, which see (N, STEPS, WIDTH); what it makes is averaged over axis 1."""

    def __init__(self, function, layer=None, width=WIDTH):
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH, bias=False)
        self.layer = layer
        self.last = nn.Linear(width, 3, bias=False)
        self.function = function

    def forward(self, x):
        x = self.function(self, self.first(x))
        return self.last(x.mean(1) if x.dim() == 3 else x)


def between(function, layer=lambda: None, width=WIDTH):
    return lambda: Between(function, layer(), width)


def by_hand(net, x):
    """Attention written out."""
    scores = (x @ x.transpose(-2, -1) / WIDTH**0.5).softmax(-1)
    return scores @ net.layer(x)


def heads(net, x):
    query, key, value = net.layer(x).chunk(3, -1)
    split = lambda part: part.unflatten(-1, (2, -1)).transpose(1, 2)  # noqa: E731
    return F.scaled_dot_product_attention(split(query), split(key), split(value)).transpose(1, 2).flatten(2)


def written(net, x):
    out = torch.zeros_like(x)
    out[:, :, ::2] = x[:, :, ::2]
    out[:, :, 1] = 0.0
    return out.cumsum(1)


def joined(net, x):
    token = torch.full((len(x), 1, WIDTH), -3.0)
    return torch.cat([token, x], 1)[:, :3]


def without_gradients(net, x):
    with torch.no_grad():
        return x * 2 + x.data + x.detach()


def recurrent(net, x):
    return net.layer(x)[0][:, -1]


def cells(net, x):
    state = None
    for step in x.unbind(1):
        state = net.layer(step, state)
    return state[0] if isinstance(state, tuple) else state


def started(net, x):
    """The initial state is a function of the inputs."""
    return net.layer[1](x[:, 1:], net.layer[0](x[:, 0]).tanh()[None])[0][:, -1]


def translated(net, x):
    """An encoder, whose last state a decoder of constants begins with."""
    _, state = net.layer[0](x)
    return net.layer[1](x.new_zeros(len(x), 2, 2), state)[0][:, -1]


def added_to_a_constant(net, x):
    out = x.new_zeros(x.shape)
    out.add_(x)
    part = out[:, :, :2]
    part += x.flip(1)[:, :, :2]
    return out


def linear():
    return nn.Linear(WIDTH, WIDTH, bias=False)


def rnn(kind, **options):
    return lambda: kind(WIDTH, 5, batch_first=True, bias=False, **options)


EXACT = {
    "max over an axis": between(lambda net, x: x.max(1)[0]),
    "max, named": between(lambda net, x: torch.max(x, dim=1, keepdim=True).values),
    "amax": between(lambda net, x: x.amax(1)),
    "median": between(lambda net, x: x.abs().median(1)[0]),
    "logsumexp": between(lambda net, x: x.logsumexp(1)),
    "std": between(lambda net, x: x.std(1)),
    "norm": between(lambda net, x: x.norm(2, 1)),
    "cos": between(lambda net, x: torch.cos(x)),
    "sin and power": between(lambda net, x: x.sin() ** 2 + torch.erf(x)),
    "maximum": between(lambda net, x: torch.maximum(x, x.flip(1))),
    "topk": between(lambda net, x: x.topk(STEPS, 1)[0]),
    "sort": between(lambda net, x: x.sort(dim=1)[0]),
    "cumsum": between(lambda net, x: x.cumsum(1)),
    "cast": between(lambda net, x: x.double().to(torch.float32).type_as(x) + x.half().float()),
    "assignment": between(written),
    "constant token": between(joined),
    "where": between(lambda net, x: torch.where(torch.arange(WIDTH) > 2, x, 0.0)),
    "einsum": between(lambda net, x: torch.einsum("nse,oe->nso", x, net.layer.weight), linear),
    "einsum of a list": between(lambda net, x: torch.einsum("nse,oe->nso", [x, net.layer.weight]), linear),
    "transposed weight": between(lambda net, x: x @ net.layer.weight.t(), linear),
    "lstm": between(recurrent, rnn(nn.LSTM), 5),
    "lstm, projected": between(recurrent, rnn(nn.LSTM, proj_size=2), 2),
    "rnn": between(recurrent, rnn(nn.RNN), 5),
    "initial state": between(
        started,
        lambda: nn.ModuleList([nn.Linear(WIDTH, 5, bias=False), nn.RNN(WIDTH, 5, batch_first=True, bias=False)]),
        5,
    ),
    "encoder and decoder": between(
        translated, lambda: nn.ModuleList([rnn(nn.LSTM)(), nn.LSTM(2, 5, batch_first=True, bias=False)]), 5
    ),
    "added to a constant": between(added_to_a_constant),
    "last state of an lstm": between(lambda net, x: net.layer(x)[1][1][-1], rnn(nn.LSTM), 5),
    "lstm cell": between(cells, lambda: nn.LSTMCell(WIDTH, 5, bias=False), 5),
    "gru cell": between(cells, lambda: nn.GRUCell(WIDTH, 5, bias=False), 5),
}
ROUGH = {  # a key whose query is a constant, a reset of what is zero still
    "attention": between(heads, lambda: nn.Linear(WIDTH, 3 * WIDTH, bias=False)),
    "multi-head attention": between(
        lambda net, x: net.layer(x, x, x)[0],
        lambda: nn.MultiheadAttention(WIDTH, 2, bias=False, batch_first=True),
    ),
    "cross attention": between(
        lambda net, x: net.layer(x, x[..., :4], x[..., 2:])[0],
        lambda: nn.MultiheadAttention(WIDTH, 2, bias=False, batch_first=True, kdim=4, vdim=4),
    ),
    "gru, two layers both ways": between(recurrent, rnn(nn.GRU, num_layers=2, bidirectional=True), 10),
    "attention by hand": between(by_hand, linear),
    "glu": between(lambda net, x: F.glu(torch.cat([x, x.roll(1, -1)], -1))),
    "product": between(lambda net, x: x * x.roll(1, -1)),
    "switched off gradients": between(lambda net, x: without_gradients(net, x)),
}


def sparse(make, seed):
    """With 1 weight in 3 to 2 in 3 left, of random size."""
    random = torch.Generator().manual_seed(seed)
    model = make().eval()
    density = float(torch.rand((), generator=random)) / 3 + 1 / 3
    with torch.no_grad():
        for weight in prunable(model).values():
            weight.copy_(torch.randn(weight.shape, generator=random))
            weight.mul_(torch.rand(weight.shape, generator=random) < density)
    return model


def changing(model, seed):
    """Whether any output changes with a weight that is not zero, by the weight's name."""
    random = torch.Generator().manual_seed(seed)
    weights = prunable(model)
    found = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    for _ in range(40):
        outputs = model.double()(torch.randn(3, STEPS, WIDTH, generator=random, dtype=torch.float64))
        along = torch.randn(outputs.shape, generator=random, dtype=torch.float64)
        gradients = torch.autograd.grad((outputs * along).sum(), list(weights.values()), materialize_grads=True)
        for name, gradient in zip(weights, gradients, strict=True):
            found[name] |= (gradient.abs() > 1e-12) & (weights[name] != 0)
    return found


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("case", [*EXACT, *ROUGH])
def test_live_weights_are_those_with_which_an_output_changes(case):
    for seed in range(6):
        model = sparse((EXACT | ROUGH)[case], seed)
        _, masks = live(model, (STEPS, WIDTH))
        expected = changing(model, seed)
        if case == "switched off gradients":  # the oracle has no gradients there
            assert masks["first.weight"].sum() >= masks["last.weight"].any()
            continue
        for name, mask in masks.items():
            assert not (expected[name] & ~mask).any(), (seed, name)
            assert case in ROUGH or torch.equal(mask, expected[name]), (seed, name)


UNKNOWN = {
    "bicubic": lambda net, x: F.interpolate(x[:, None], scale_factor=2.0, mode="bicubic")[:, 0, ::2, ::2],
    "argmax": lambda net, x: F.one_hot(x.argmax(-1), WIDTH).float(),
    "sorting by a key": lambda net, x: x.gather(1, x.argsort(1)),
    "a decision": lambda net, x: x if bool((x > 0).any()) else -x,
    "a number": lambda net, x: x * float(x.sum()),
    "fft": lambda net, x: torch.fft.rfft(x, dim=1).abs(),
    "whole numbers": lambda net, x: x.long().float(),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_paths_through_a_function_that_is_not_known_are_unknown(case):
    model = Between(UNKNOWN[case])
    with pytest.raises(UsageError, match="is not one through which paths are followed"):
        live(model, (STEPS, WIDTH))
    report = sparsity_report(model, (STEPS, WIDTH))
    assert (report["connected"], report["effective_compression"]) == (None, None)
    assert any(note.startswith("paths unknown: the function") for note in report["notes"])
    assert report["macs_dense"] == WIDTH * WIDTH * STEPS + 3 * WIDTH


def test_a_pass_that_fails_leaves_the_counts():
    def broken(net, x):
        raise RuntimeError("no such luck")

    report = sparsity_report(Between(broken), (STEPS, WIDTH))
    assert report["nnz"] == WIDTH * (WIDTH + 3)
    assert [report[name] for name in ("connected", "effective_compression", "macs_dense", "macs_sparse")] == [None] * 4
    assert [note.partition(":")[0] for note in report["notes"]] == ["paths unknown", "multiplications unknown"]


def test_outputs_in_a_dict_or_a_tuple_are_outputs():
    class Net(nn.Linear):
        def forward(self, x):
            return {"logits": (super().forward(x), 3)}

    assert sparsity_report(Net(4, 3, bias=False), (4,))["effective_compression"] == 1


def test_multiplications_of_attention_and_recurrent_layers_by_hand():
    attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
    assert macs(Between(lambda net, x: net.layer(x, x[:, :2], x[:, :2])[0], attention), (STEPS, WIDTH))[0] == (
        WIDTH * WIDTH * (STEPS + STEPS + 2 + 2 + STEPS) + 3 * WIDTH  # first, query, key, value, outputs, last
    )
    lstm = nn.LSTM(WIDTH, 5, batch_first=True, proj_size=2)
    recurrent_macs = STEPS * (WIDTH * WIDTH + 20 * WIDTH + 20 * 2 + 2 * 5) + 3 * 2
    assert macs(Between(recurrent, lstm, 2), (STEPS, WIDTH)) == (recurrent_macs, recurrent_macs)
    assert macs(Between(cells, nn.GRUCell(WIDTH, 5), 5), (STEPS, WIDTH))[0] == STEPS * (36 + 15 * 6 + 15 * 5) + 15


def test_paths_do_not_depend_on_the_mode_of_the_caller():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    expected = sparsity_report(model, (4,))
    assert expected["connected"] is True
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert sparsity_report(model, (4,)) == expected
