"""The initialisation that every network here shares, so that a method's curves differ by the method alone."""

from torch import nn


def init_kaiming(model: nn.Module) -> None:
    """Draw the weights of every Linear and Conv2d in `model` from N(0, 2 / fan-in); biases become zero.

    He et al. 2015. Normalisation layers are left as torch makes them: weight 1, bias 0. Weights on the meta device have
    no values to draw, and torch would import its compiler, for seconds, to draw none.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
