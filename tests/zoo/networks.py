"""Small odd networks as people bring them: each a callable of (input_shape, classes) for images of one channel.

``TRAINED`` are to be trained right by every method, ``REFUSED`` to be refused before training, each with a part of the
sentence that says why. ``RANDOM`` draw random numbers while they train.
"""

import math
import random
import threading
import types
from collections import namedtuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

TRAINED: dict[str, object] = {}
REFUSED: dict[str, tuple[object, str]] = {}
RANDOM = {
    "dropout",
    "functional_dropout",
    "attention_dropout",
    "stochastic_depth",
    "drop_path",
    "dropout_lstm",
    "rrelu",
}
WIDTH = 8


def trained(make):
    TRAINED[make.__name__] = make
    return make


def refused(sentence):
    def kept(make):
        REFUSED[make.__name__] = (make, sentence)
        return make

    return kept


class Net(nn.Module):
    """Linear, a function of the hidden units and of further modules and tensors, Linear."""

    def __init__(self, shape, classes, function=lambda net, x: x.relu(), width=WIDTH, **parts):
        super().__init__()
        self.first, self.head = nn.Linear(math.prod(shape), WIDTH), nn.Linear(width, classes)
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x):
        return self.head(self.function(self, self.first(x.flatten(1))))


class Rows(nn.Module):
    """A layer that sees the rows of an image as a sequence, (N, H, W), and whose output, averaged, is classified."""

    def __init__(self, shape, classes, function, width, **parts):
        super().__init__()
        self.function, self.head = function, nn.Linear(width, classes)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.head(self.function(self, x[:, 0]).mean(1))


def stack(shape, classes, *layers, width=WIDTH):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), WIDTH), *layers, nn.Linear(width, classes))


# ---------------------------------------------------------------- weights


@trained
def plain(shape, classes):
    return Net(shape, classes)


@trained
def root(shape, classes):
    class Root(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1))

    return Root(math.prod(shape), classes)


@trained
def zero_classifier(shape, classes):
    net = Net(shape, classes)
    nn.init.zeros_(net.head.weight)
    return net


@trained
def constant_classifier(shape, classes):
    net = Net(shape, classes)
    nn.init.constant_(net.head.weight, 0.1)
    return net


@trained
def zero_branch(shape, classes):
    net = Net(shape, classes, lambda net, x: x + net.last(net.inner(x).relu()), inner=nn.Linear(8, 8))
    net.last = nn.Linear(WIDTH, WIDTH)
    nn.init.zeros_(net.last.weight)
    return net


@trained
def zero_scale(shape, classes):
    norm = nn.BatchNorm1d(WIDTH)
    nn.init.zeros_(norm.weight)
    return Net(shape, classes, lambda net, x: x + net.norm(net.inner(x)), inner=nn.Linear(8, 8), norm=norm)


@trained
def single_weight(shape, classes):
    return nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(math.prod(shape), classes))


@trained
def no_inputs(shape, classes):
    return Net(shape, classes, lambda net, x: x.relu() + net.empty(x[:, :0]), empty=nn.Linear(0, WIDTH))


@trained
def no_outputs(shape, classes):
    return Net(shape, classes, lambda net, x: torch.cat([x, net.empty(x)], 1), empty=nn.Linear(WIDTH, 0))


@trained
def number_parameter(shape, classes):
    return Net(shape, classes, lambda net, x: net.scale * x.relu(), scale=nn.Parameter(torch.tensor(1.5)))


@trained
def empty_parameter(shape, classes):
    return Net(shape, classes, empty=nn.Parameter(torch.zeros(0, 3)))


@trained
def unused_layer(shape, classes):
    return Net(shape, classes, unused=nn.Linear(3, 3))


@trained
def own_matrix(shape, classes):
    return Net(shape, classes, lambda net, x: (x @ net.matrix).relu(), matrix=nn.Parameter(torch.randn(8, 8)))


@trained
def lists_of_parameters(shape, classes):
    scales = nn.ParameterList([torch.ones(WIDTH), torch.ones(())])
    shifts = nn.ParameterDict({"a": torch.zeros(WIDTH)})
    return Net(shape, classes, lambda net, x: x * scales[0] * scales[1] + shifts["a"], scales=scales, shifts=shifts)


@trained
def bilinear(shape, classes):
    return Net(shape, classes, lambda net, x: net.pair(x, x.relu()), pair=nn.Bilinear(WIDTH, WIDTH, WIDTH))


@trained
def subclass_of_linear(shape, classes):
    class Scaled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    return Net(shape, classes, lambda net, x: net.inner(x).relu(), inner=Scaled(WIDTH, WIDTH))


@trained
def strange_names(shape, classes):
    net = Net(shape, classes, lambda net, x: net._modules["größe-1"](x).relu())
    net.add_module("größe-1", nn.Linear(WIDTH, WIDTH))
    return net


@trained
def modules_by_name(shape, classes):
    parts = nn.ModuleDict({"inner": nn.Linear(WIDTH, WIDTH), "act": nn.PReLU()})
    return Net(shape, classes, lambda net, x: net.parts["act"](net.parts["inner"](x)), parts=parts)


@trained
def several_heads(shape, classes):
    heads = nn.ModuleList([nn.Linear(WIDTH, classes), nn.Linear(WIDTH, classes)])
    heads.append(nn.Linear(WIDTH, 5))  # of another task, which no pass reads

    class Heads(Net):
        def forward(self, x):
            x = self.first(x.flatten(1)).relu()
            return self.head(x) + sum(head(x) for head in self.heads[:2])

    return Heads(shape, classes, heads=heads)


@trained
def head_that_is_not_last(shape, classes):
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.first = nn.Linear(WIDTH, classes), nn.Linear(math.prod(shape), WIDTH)

        def forward(self, x):
            return self.head(self.first(x.flatten(1)).relu())

    return First()


@trained
def transposed_parameter(shape, classes):
    net = Net(shape, classes, lambda net, x: net.inner(x).relu(), inner=nn.Linear(WIDTH, WIDTH))
    net.inner.weight = nn.Parameter(torch.randn(WIDTH, WIDTH).t())
    return net


@trained
def channels_last(shape, classes):
    layers = [nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, classes)).to(memory_format=torch.channels_last)


@trained
def parameters_of_one_buffer(shape, classes):
    """Two weights side by side in one piece of memory, as cuDNN wants those of an LSTM."""
    net = Net(shape, classes, lambda net, x: net.b(net.a(x).relu()), a=nn.Linear(8, 8), b=nn.Linear(8, 8))
    whole = torch.randn(16, 8) / 3
    net.a.weight, net.b.weight = nn.Parameter(whole[:8]), nn.Parameter(whole[8:])
    return net


# ---------------------------------------------------------------- shared and frozen


@trained
def layer_used_twice(shape, classes):
    return Net(shape, classes, lambda net, x: net.inner(net.inner(x).relu()), inner=nn.Linear(WIDTH, WIDTH))


@trained
def layer_of_two_names(shape, classes):
    inner = nn.Linear(WIDTH, WIDTH)
    return Net(shape, classes, lambda net, x: net.b(net.a(x).relu()), a=inner, b=inner)


@trained
def tied_weights(shape, classes):
    net = Net(shape, classes, lambda net, x: net.b(net.a(x).relu()), a=nn.Linear(8, 8), b=nn.Linear(8, 8))
    net.b.weight = net.a.weight
    return net


@trained
def tied_transposed(shape, classes):
    return Net(shape, classes, lambda net, x: F.linear(net.a(x).relu(), net.a.weight.t()), a=nn.Linear(8, 5))


@trained
def tied_embedding(shape, classes):
    net = Net(shape, classes, lambda net, x: net.a(x.relu()) + net.table.weight[0], a=nn.Linear(8, 8))
    net.table = nn.Embedding(8, 8)
    net.table.weight = net.a.weight
    return net


@trained
def two_names_of_a_parameter(shape, classes):
    net = Net(shape, classes)
    net.alias = net.head.weight
    return net


@trained
def tied_cell(shape, classes):
    """A Linear layer and a recurrent cell that share a matrix."""
    cell, layer = nn.GRUCell(8, 8, bias=False), nn.Linear(8, 24, bias=False)
    layer.weight = cell.weight_hh
    return Net(shape, classes, lambda net, x: net.cell(x.relu(), net.layer(x)[:, :8]), cell=cell, layer=layer)


@trained
def frozen_layer(shape, classes):
    net = Net(shape, classes)
    net.first.requires_grad_(False)
    return net


@trained
def frozen_bias(shape, classes):
    net = Net(shape, classes)
    net.first.bias.requires_grad_(False)
    return net


@trained
def frozen_norm(shape, classes):
    return Net(shape, classes, lambda net, x: net.norm(x).relu(), norm=nn.BatchNorm1d(WIDTH).requires_grad_(False))


@trained
def frozen_head(shape, classes):
    net = Net(shape, classes)
    net.head.requires_grad_(False)
    return net


@trained
def frozen_whole_numbers(shape, classes):
    codes = nn.Parameter(torch.arange(WIDTH), requires_grad=False)
    return Net(shape, classes, lambda net, x: x * net.codes, codes=codes)


@trained
def frozen_weight_norm(shape, classes):
    inner = parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)).requires_grad_(False)
    return Net(shape, classes, lambda net, x: net.inner(x).relu(), inner=inner)


@trained
def frozen_half(shape, classes):
    body = nn.Linear(WIDTH, WIDTH).half().requires_grad_(False)
    return Net(shape, classes, lambda net, x: x + net.body(x.half()).float(), body=body)


@trained
def norms_kept_in_eval_mode(shape, classes):
    class Kept(Net):
        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

    return Kept(shape, classes, lambda net, x: net.norm(x).relu(), norm=nn.BatchNorm1d(WIDTH))


@trained
def backbone_without_gradients(shape, classes):
    def function(net, x):
        with torch.no_grad():
            x = net.body(x)
        return x

    return Net(shape, classes, function, body=nn.Linear(WIDTH, WIDTH).requires_grad_(False))


# ---------------------------------------------------------------- layers


@trained
def lazy_linear(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(WIDTH), nn.ReLU(), nn.LazyLinear(classes))


@trained
def lazy_convolution(shape, classes):
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(classes))


@trained
def batch_norm_without_parameters(shape, classes):
    return stack(shape, classes, nn.BatchNorm1d(WIDTH, affine=False), nn.ReLU())


@trained
def batch_norm_of_all_batches(shape, classes):
    return stack(shape, classes, nn.BatchNorm1d(WIDTH, momentum=None), nn.ReLU())


@trained
def synchronised_norm(shape, classes):
    return stack(shape, classes, nn.SyncBatchNorm(WIDTH))


@trained
def instance_norm(shape, classes):
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    return nn.Sequential(nn.Conv2d(1, 4, 2), norm, nn.Flatten(), nn.Linear(4 * (shape[1] - 1) ** 2, classes))


@trained
def other_norms(shape, classes):
    return stack(shape, classes, nn.LayerNorm(WIDTH), nn.GroupNorm(2, WIDTH), nn.RMSNorm(WIDTH), nn.GELU())


@trained
def grouped_and_depthwise(shape, classes):
    layers = [nn.Conv2d(1, 4, 2), nn.Conv2d(4, 4, 1, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1, groups=2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8, classes))


@trained
def transposed_convolution(shape, classes):
    layers = [nn.ConvTranspose2d(1, 4, 2, stride=2), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, classes))


@trained
def grouped_and_transposed(shape, classes):
    layers = [nn.Conv2d(1, 4, 2), nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, classes))


@trained
def dilated_and_padded(shape, classes):
    layers = [nn.Conv2d(1, 4, 3, padding="same", padding_mode="circular"), nn.ReLU()]
    layers += [nn.Conv2d(4, 4, 2, dilation=2, padding=1, padding_mode="reflect"), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, classes))


@trained
def convolution_in_one_axis(shape, classes):
    layers = [nn.Flatten(1, 2), nn.Conv1d(shape[1], 6, 2), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6, classes))


@trained
def convolution_in_three_axes(shape, classes):
    layers = [nn.Unflatten(1, (1, 1)), nn.Conv3d(1, 4, (1, 2, 2)), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, classes))


@trained
def dropout(shape, classes):
    return stack(shape, classes, nn.Dropout(0.3), nn.ReLU())


@trained
def functional_dropout(shape, classes):
    return Net(shape, classes, lambda net, x: F.dropout(x.relu(), 0.3, net.training))


@trained
def stochastic_depth(shape, classes):
    def function(net, x):
        return x if net.training and torch.rand(()) < 0.5 else x + net.inner(x).relu()

    return Net(shape, classes, function, inner=nn.Linear(WIDTH, WIDTH))


@trained
def drop_path(shape, classes):
    def function(net, x):
        kept = torch.rand(len(x), 1) < 0.7 if net.training else 0.7
        return x + net.inner(x).relu() * kept

    return Net(shape, classes, function, inner=nn.Linear(WIDTH, WIDTH))


@trained
def rrelu(shape, classes):
    return stack(shape, classes, nn.RReLU(), nn.AlphaDropout(0.2))


# ---------------------------------------------------------------- attention, recurrent layers, embeddings


@trained
def attention(shape, classes):
    layer = nn.MultiheadAttention(shape[2], 2, batch_first=True)
    return Rows(shape, classes, lambda net, x: net.layer(x, x, x)[0], shape[2], layer=layer)


@trained
def attention_dropout(shape, classes):
    layer = nn.MultiheadAttention(shape[2], 2, dropout=0.2, batch_first=True)
    return Rows(shape, classes, lambda net, x: net.layer(x, x, x, need_weights=False)[0], shape[2], layer=layer)


@trained
def attention_in_parts(shape, classes):
    layer = nn.MultiheadAttention(shape[2], 2, kdim=2, vdim=3, add_bias_kv=True, batch_first=True)
    return Rows(shape, classes, lambda net, x: net.layer(x, x[..., :2], x[..., :3])[0], shape[2], layer=layer)


@trained
def attention_over_zeros(shape, classes):
    layer = nn.MultiheadAttention(shape[2], 2, add_zero_attn=True, bias=False)

    def function(net, x):
        x = x.transpose(0, 1)
        mask = torch.full((len(x), len(x)), -math.inf).triu(1)
        return net.layer(x, x, x, attn_mask=mask, need_weights=False)[0].transpose(0, 1)

    return Rows(shape, classes, function, shape[2], layer=layer)


@trained
def fused_attention(shape, classes):
    def function(net, x):
        return F.scaled_dot_product_attention(*net.layer(x).chunk(3, -1))

    return Rows(shape, classes, function, 4, layer=nn.Linear(shape[2], 12))


@trained
def attention_by_hand(shape, classes):
    def function(net, x):
        query, key, value = net.layer(x).chunk(3, -1)
        return torch.einsum("nqk,nkd->nqd", (query @ key.transpose(1, 2)).softmax(-1), value)

    return Rows(shape, classes, function, 4, layer=nn.Linear(shape[2], 12))


@trained
def transformer(shape, classes):
    layer = nn.TransformerEncoderLayer(shape[2], 2, 6, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    position = nn.Parameter(torch.zeros(shape[1], shape[2]))
    return Rows(
        shape, classes, lambda net, x: net.encoder(x + net.position), shape[2], encoder=encoder, position=position
    )


@trained
def causal_transformer(shape, classes):
    """Its buffer, PyTorch's own mask, is infinite."""
    layer = nn.TransformerEncoderLayer(shape[2], 2, 6, dropout=0.0, batch_first=True)
    net = Rows(shape, classes, lambda net, x: net.layer(x, src_mask=net.mask), shape[2], layer=layer)
    net.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(shape[1]))
    return net


@trained
def lstm(shape, classes):
    layer = nn.LSTM(shape[2], 5, num_layers=2, bidirectional=True, batch_first=True)
    return Rows(shape, classes, lambda net, x: net.layer(x)[0], 10, layer=layer)


@trained
def projected_lstm(shape, classes):
    layer = nn.LSTM(shape[2], 5, proj_size=3, batch_first=True)
    return Rows(shape, classes, lambda net, x: net.layer(x)[0], 3, layer=layer)


@trained
def projected_lstm_in_both_directions(shape, classes):
    layer = nn.LSTM(shape[2], 5, num_layers=2, bidirectional=True, proj_size=3, bias=False)

    def function(net, x):
        return net.layer(x.transpose(0, 1))[0].transpose(0, 1)

    return Rows(shape, classes, function, 6, layer=layer)


@trained
def dropout_lstm(shape, classes):
    layer = nn.LSTM(shape[2], 5, num_layers=2, dropout=0.3, batch_first=True)
    return Rows(shape, classes, lambda net, x: net.layer(x)[0], 5, layer=layer)


@trained
def last_state_of_a_gru(shape, classes):
    layer = nn.GRU(shape[2], 5, num_layers=2, bidirectional=True, batch_first=True)
    return Rows(shape, classes, lambda net, x: net.layer(x)[1].transpose(0, 1), 5, layer=layer)


@trained
def gru_cell(shape, classes):
    def function(net, x):
        state, other = x.new_zeros(len(x), 5), x.new_zeros(len(x), 5)
        for step in x.unbind(1):
            state, other = net.layer(step, state), net.plain(step, other)
        return (state + other)[:, None]

    return Rows(shape, classes, function, 5, layer=nn.GRUCell(shape[2], 5), plain=nn.RNNCell(shape[2], 5))


@trained
def gru(shape, classes):
    return Rows(shape, classes, lambda net, x: net.layer(x)[0], 5, layer=nn.GRU(shape[2], 5, batch_first=True))


@trained
def rnn(shape, classes):
    layer = nn.RNN(shape[2], 5, nonlinearity="relu", bias=False, batch_first=True)
    return Rows(shape, classes, lambda net, x: net.layer(x)[0], 5, layer=layer)


@trained
def lstm_cell(shape, classes):
    def function(net, x):
        state, seen = None, []
        for step in x.unbind(1):
            state = net.layer(step, state)
            seen.append(state[0])
        return torch.stack(seen, 1)

    return Rows(shape, classes, function, 5, layer=nn.LSTMCell(shape[2], 5))


@trained
def embedded_positions(shape, classes):
    def function(net, x):
        return net.layer(x + net.table(torch.arange(x.shape[1]))).relu()

    return Rows(shape, classes, function, 5, layer=nn.Linear(shape[2], 5), table=nn.Embedding(shape[1], shape[2]))


@trained
def embedded_pixels(shape, classes):
    return Rows(shape, classes, lambda net, x: net.table((x > 0).long().flatten(1)), 5, table=nn.Embedding(2, 5, 0))


@trained
def bag_of_pixels(shape, classes):
    def function(net, x):
        return net.table((x > 0).long().flatten(1))[:, None]

    return Rows(shape, classes, function, 5, table=nn.EmbeddingBag(2, 5))


@trained
def sparse_gradients(shape, classes):
    table = nn.Embedding(2, 5, sparse=True)
    return Rows(shape, classes, lambda net, x: net.table((x > 0).long().flatten(1)), 5, table=table)


# ---------------------------------------------------------------- types, buffers, writing


@trained
def double(shape, classes):
    class Double(Net):
        def forward(self, x):
            return super().forward(x.double()).float()

    return Double(shape, classes).double()


@trained
def double_outputs(shape, classes):
    class Double(Net):
        def forward(self, x):
            return super().forward(x.double())

    return Double(shape, classes).double()


@trained
def casts(shape, classes):
    return Net(shape, classes, lambda net, x: x.float().type_as(x).to(torch.float32).relu())


@trained
def lower_precision_inside(shape, classes):
    return Net(shape, classes, lambda net, x: x.bfloat16().relu().float())


@trained
def complex_inside(shape, classes):
    return Net(shape, classes, lambda net, x: torch.fft.rfft(x).abs(), width=WIDTH // 2 + 1)


@trained
def writes_into_its_input(shape, classes):
    class Writing(Net):
        def forward(self, x):
            x.sub_(0.1).clamp_(-1, 1)
            return super().forward(x)

    return Writing(shape, classes)


@trained
def writes_into_its_activations(shape, classes):
    def function(net, x):
        y = x.clone()
        y[:, ::2] = x[:, 1::2]
        y += x
        return y.relu_()

    return Net(shape, classes, function)


@trained
def buffers_of_all_types(shape, classes):
    parts = {
        "mask": torch.arange(WIDTH) < 6,
        "order": torch.arange(WIDTH).flip(0),
        "narrow": torch.ones(WIDTH, dtype=torch.float16),
        "wide": torch.ones(WIDTH, dtype=torch.float64),
        "phase": torch.ones(WIDTH, dtype=torch.complex64),
        "pixels": torch.ones(WIDTH, dtype=torch.uint8),
        "number": torch.tensor(2.0),
        "empty": torch.zeros(0, 3),
    }
    net = Net(shape, classes, lambda net, x: (x * net.mask * net.narrow)[:, net.order] * net.number, **parts)
    net.register_buffer("unsaved", torch.ones(3), persistent=False)
    net.register_buffer("absent", None)
    return net


@trained
def tensor_that_is_no_buffer(shape, classes):
    net = Net(shape, classes, lambda net, x: x.relu() * net.scale)
    net.scale = torch.linspace(0.5, 1.5, WIDTH)
    return net


@trained
def extra_state(shape, classes):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"version": 3}

        def set_extra_state(self, state):
            assert state["version"] == 3

    return Net(shape, classes, lambda net, x: net.inner(x).relu(), inner=Extra(WIDTH, WIDTH))


@trained
def autocast_inside(shape, classes):
    def function(net, x):
        with torch.autocast("cpu", torch.bfloat16):
            return net.inner(x).relu().float()

    return Net(shape, classes, function, inner=nn.Linear(WIDTH, WIDTH))


@trained
def expanded_buffer(shape, classes):
    return Net(shape, classes, lambda net, x: x.relu() + net.shift, shift=torch.ones(1).expand(WIDTH))


@trained
def counts_its_passes(shape, classes):
    def function(net, x):
        if net.training:
            net.passes.add_(1)
            net.mean.lerp_(x.detach().mean(0), 0.1)
        return x - net.mean

    return Net(shape, classes, function, passes=torch.tensor(0), mean=torch.zeros(WIDTH))


@trained
def keeps_what_it_saw(shape, classes):
    def function(net, x):
        net.seen = x
        net.listed = [x, {"x": x}]
        return x.relu()

    return Net(shape, classes, function)


@trained
def hooked(shape, classes):
    net = Net(shape, classes)
    net.first.register_forward_hook(lambda module, inputs, output: 2 * output)
    net.head.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    return net


@trained
def forward_of_the_instance(shape, classes):
    net = Net(shape, classes, lambda net, x: net.inner(x).relu(), inner=nn.Linear(WIDTH, WIDTH))
    net.inner.forward = types.MethodType(lambda layer, x: 2 * F.linear(x, layer.weight, layer.bias), net.inner)
    return net


@trained
def function_of_the_network_itself(shape, classes):
    net = Net(shape, classes)
    net.again = nn.Linear(WIDTH, WIDTH)
    net.first.register_forward_hook(lambda module, inputs, output: net.again(output))
    return net


@trained
def counts_in_python(shape, classes):
    def function(net, x):
        net.seen += len(x) * net.training
        return x.relu()

    net = Net(shape, classes, function)
    net.seen = 0
    return net


@trained
def holds_a_lock(shape, classes):
    return Net(shape, classes, lock=threading.Lock())


# ---------------------------------------------------------------- functions


@trained
def maxima(shape, classes):
    def function(net, x):
        pairs = x.unflatten(1, (2, -1))
        return torch.cat([pairs.max(1)[0], torch.maximum(pairs[:, 0], pairs[:, 1]).cos()], 1)

    return Net(shape, classes, function)


@trained
def sorts(shape, classes):
    return Net(shape, classes, lambda net, x: torch.cat([x.topk(3, 1).values, x.sort(1)[0][:, :5]], 1))


@trained
def gates(shape, classes):
    return Net(shape, classes, lambda net, x: F.glu(torch.cat([x, x * net.gate(x).sigmoid()], 1)), gate=nn.Linear(8, 8))


@trained
def decides(shape, classes):
    return Net(shape, classes, lambda net, x: x.relu() if bool(x.detach().sum() > 0) else x.tanh())


@trained
def further_arguments(shape, classes):
    class Further(Net):
        def forward(self, x, mask=None, *, scale=1.0):
            return scale * super().forward(x if mask is None else x * mask)

    return Further(shape, classes)


# ---------------------------------------------------------------- wrapped


@trained
def data_parallel(shape, classes):
    return nn.DataParallel(Net(shape, classes))


@trained
def data_parallel_inside(shape, classes):
    return Net(shape, classes, lambda net, x: net.inner(x).relu(), inner=nn.DataParallel(nn.Linear(WIDTH, WIDTH)))


@trained
def compiled(shape, classes):
    return torch.compile(Net(shape, classes))


@trained
def compiled_inside(shape, classes):
    net = Net(shape, classes, lambda net, x: net.inner(x).relu(), inner=torch.compile(nn.Linear(WIDTH, WIDTH)))
    net.compile()
    return net


# ---------------------------------------------------------------- refused: outputs


@refused("returns a tuple in training mode")
def two_outputs_while_training(shape, classes):
    class Auxiliary(Net):
        def forward(self, x):
            logits = super().forward(x)
            return (logits, logits) if self.training else logits

    return Auxiliary(shape, classes)


@refused("returns a dict in eval mode")
def dict_outputs(shape, classes):
    class Dict(Net):
        def forward(self, x):
            return {"logits": super().forward(x)}

    return Dict(shape, classes)


@refused("returns a Outputs in eval mode")
def named_outputs(shape, classes):
    outputs = namedtuple("Outputs", "logits hidden")

    class Named(Net):
        def forward(self, x):
            return outputs(super().forward(x), x)

    return Named(shape, classes)


@refused("returns a tuple in eval mode")
def two_heads(shape, classes):
    class Two(Net):
        def forward(self, x):
            return super().forward(x), x

    return Two(shape, classes)


@refused("returns a list in eval mode")
def a_list_of_outputs(shape, classes):
    class Listed(Net):
        def forward(self, x):
            return [super().forward(x)]

    return Listed(shape, classes)


@refused("must map 4 images to logits of shape")
def one_output_too_many(shape, classes):
    return Net(shape, classes + 1)


@refused("must map 4 images to logits of shape")
def one_row_for_a_batch(shape, classes):
    class Mean(Net):
        def forward(self, x):
            return super().forward(x).mean(0)

    return Mean(shape, classes)


@refused("returns logits of type int64")
def whole_numbers(shape, classes):
    class Whole(Net):
        def forward(self, x):
            return super().forward(x).long()

    return Whole(shape, classes)


@refused("fails on images of shape .* in training mode")
def fails_while_training(shape, classes):
    class Failing(Net):
        def forward(self, x):
            if self.training:
                raise RuntimeError("not written yet")
            return super().forward(x)

    return Failing(shape, classes)


@refused("fails on images of shape .* in eval mode")
def for_one_batch_size(shape, classes):
    return Net(shape, classes, lambda net, x: x.view(16, WIDTH))


@refused("must return a torch.nn.Module")
def no_module(shape, classes):
    return lambda x: x


@refused("failed for")
def raises(shape, classes):
    raise KeyError("nothing here")


# ---------------------------------------------------------------- refused: what is held


@refused("is computed already")
def weight_norm_by_a_hook(shape, classes):
    return stack(shape, classes, nn.utils.weight_norm(nn.Linear(WIDTH, WIDTH)))


@refused("is computed already")
def spectral_norm_by_a_hook(shape, classes):
    return stack(shape, classes, nn.utils.spectral_norm(nn.Linear(WIDTH, WIDTH)))


@refused("is computed already")
def weight_norm(shape, classes):
    return stack(shape, classes, parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH)))


@refused("is computed already")
def own_parametrization(shape, classes):
    layer = nn.Linear(WIDTH, WIDTH)
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    return stack(shape, classes, layer)


@refused("is computed already")
def normed_lstm(shape, classes):
    layer = parametrizations.weight_norm(nn.LSTM(shape[2], 5, batch_first=True), "weight_hh_l0")
    return Rows(shape, classes, lambda net, x: net.layer(x)[0], 5, layer=layer)


@refused("is computed already")
def pruned(shape, classes):
    net = Net(shape, classes)
    prune.l1_unstructured(net.first, "weight", amount=0.5)
    return net


@refused("has the layer 2 without running statistics")
def batch_norm_without_statistics(shape, classes):
    return stack(shape, classes, nn.BatchNorm1d(WIDTH, track_running_stats=False))


@refused("depends on the batch or on chance")
def centres_a_batch(shape, classes):
    return Net(shape, classes, lambda net, x: x - x.mean(0))


@refused("depends on the batch or on chance")
def dropout_in_every_mode(shape, classes):
    return Net(shape, classes, lambda net, x: F.dropout(x, 0.5))


@refused("first.weight of type float16")
def half_precision(shape, classes):
    class Half(Net):
        def forward(self, x):
            return super().forward(x.half()).float()

    return Half(shape, classes).half()


@refused("phase of type complex64")
def complex_parameter(shape, classes):
    phase = nn.Parameter(torch.ones(WIDTH, dtype=torch.complex64))
    return Net(shape, classes, lambda net, x: (x * net.phase).abs(), phase=phase)


@refused("has no trainable parameter")
def frozen(shape, classes):
    return Net(shape, classes).requires_grad_(False)


@refused("has no trainable parameter")
def without_parameters(shape, classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d((1, classes)), nn.Flatten())


@refused("no prunable weights")
def nothing_to_prune(shape, classes):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(math.prod(shape), classes))

        def forward(self, x):
            return x.flatten(1) @ self.matrix

    return Own()


@refused("has lazy layers that no pass reaches")
def lazy_and_unused(shape, classes):
    return Net(shape, classes, unused=nn.LazyLinear(3))


@refused("on the meta device")
def without_values(shape, classes):
    return Net(shape, classes, unused=nn.Linear(3, 3, device="meta"))


@refused("sparse ones")
def sparse_buffer(shape, classes):
    return Net(shape, classes, graph=torch.eye(WIDTH).to_sparse())


@refused("share memory, .*first.weight")
def tied_by_their_data(shape, classes):
    """As of autoencoders: an optimiser would move the one by the gradients of both."""
    second = nn.Linear(WIDTH, math.prod(shape))
    net = Net(shape, classes, lambda net, x: net.first(net.second(x).relu()), second=second)
    net.second.weight.data = net.first.weight.data.t()
    return net


@refused("share memory, .*shadow")
def buffer_of_a_parameter(shape, classes):
    net = Net(shape, classes)
    net.register_buffer("shadow", net.first.weight.data)
    return net


@refused("has a hook on the gradient of first.weight")
def hook_on_a_gradient(shape, classes):
    net = Net(shape, classes)
    net.first.weight.register_hook(lambda gradient: 0.1 * gradient)
    return net


@refused("was built in inference mode")
def built_in_inference_mode(shape, classes):
    with torch.inference_mode():
        return Net(shape, classes)


@refused("is compiled by torch.jit")
def scripted(shape, classes):
    return torch.jit.trace(stack(shape, classes, nn.ReLU()), torch.zeros(2, *shape))


# ---------------------------------------------------------------- refused: what is done


@refused("replaces buffers while it runs")
def replaces_a_buffer(shape, classes):
    def function(net, x):
        if net.training:
            net.mean = 0.9 * net.mean + 0.1 * x.detach().mean(0)
        return x - net.mean

    return Net(shape, classes, function, mean=torch.zeros(WIDTH))


@refused("makes or replaces late.weight while it runs")
def registers_late(shape, classes):
    def function(net, x):
        if not hasattr(net, "late"):
            net.late = nn.Linear(x.shape[1], WIDTH)
        return net.late(x).relu()

    return Net(shape, classes, function)


@refused("makes or replaces scale while it runs")
def replaces_a_parameter(shape, classes):
    def function(net, x):
        if net.training:
            net.scale = nn.Parameter(net.scale.detach() * 0.9)
        return x * net.scale

    return Net(shape, classes, function, scale=nn.Parameter(torch.ones(WIDTH)))


@refused("gives the same samples other logits in training mode")
def carries_its_state(shape, classes):
    """What it saw in the step before is part of the next, as of a stateful recurrent network."""

    def function(net, x):
        if net.training:
            net.state = 0.5 * net.state + x.mean(0).detach()
        return x.relu() + net.state

    net = Net(shape, classes, function)
    net.state = torch.zeros(WIDTH)
    return net


@refused("gives the same samples other logits in training mode")
def random_numbers_of_its_own(shape, classes):
    """Another generator than torch's, which no seed of a run reaches."""
    random = torch.Generator().manual_seed(0)

    def function(net, x):
        return x + 0.5 * torch.randn(x.shape, generator=random) if net.training else x

    return Net(shape, classes, function)


MADE: dict[tuple, nn.Module] = {}


@refused("returns what it returned before")
def the_same_module_every_time(shape, classes):
    """Its weights would go from run to run."""
    if (shape, classes) not in MADE:
        MADE[shape, classes] = Net(shape, classes)
    return MADE[shape, classes]


@refused("is another network each time")
def weights_of_another_generator(shape, classes):
    net = Net(shape, classes)
    drawn = np.random.default_rng().standard_normal(net.first.weight.shape)
    net.first.weight.data = torch.from_numpy(drawn).float()
    return net


@refused("is another network each time")
def a_width_by_chance(shape, classes):
    """A fourth of the time it is the same, so that there are ten."""
    return Net(shape, classes, **{f"unused_{place}": nn.Linear(1, random.randint(1, 4)) for place in range(10)})


BACKBONE = nn.Linear(WIDTH, WIDTH).requires_grad_(False)


@trained
def a_frozen_part_that_all_share(shape, classes):
    return Net(shape, classes, lambda net, x: net.part(x).relu(), part=BACKBONE)


@refused("cannot be trained")
def inference_inside(shape, classes):
    def function(net, x):
        with torch.inference_mode():
            fixed = net.body(x)
        return x * fixed

    return Net(shape, classes, function, body=nn.Linear(WIDTH, WIDTH))


@refused("cannot be trained")
def hook_on_the_gradient_of_a_layer(shape, classes):
    net = Net(shape, classes)
    net.first.register_full_backward_hook(lambda module, inputs, outputs: None)
    return net


@refused("writes into its parameter first.weight")
def clamps_its_weights(shape, classes):
    def function(net, x):
        with torch.no_grad():
            net.first.weight.clamp_(-0.1, 0.1)
        return x.relu()

    return Net(shape, classes, function)


@refused("writes into its parameter table.weight")
def embedding_of_bounded_norm(shape, classes):
    table = nn.Embedding(2, 5, max_norm=1.0)
    return Rows(shape, classes, lambda net, x: net.table((x > 0).long().flatten(1)), 5, table=table)


@refused("do not depend on what is trained")
def without_gradients(shape, classes):
    class Detached(Net):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    return Detached(shape, classes)


@refused("do not depend on what is trained")
def a_function_of_steps(shape, classes):
    class Steps(Net):
        def forward(self, x):
            return super().forward(x).round()

    return Steps(shape, classes)


@refused("cannot be trained")
def leaves_torch(shape, classes):
    return Net(shape, classes, lambda net, x: torch.from_numpy(x.detach().numpy()) + x)


@refused("cannot be trained")
def checkpointed(shape, classes):
    def function(net, x):
        return torch.utils.checkpoint.checkpoint(torch.relu, x, use_reentrant=False)

    return Net(shape, classes, function)
