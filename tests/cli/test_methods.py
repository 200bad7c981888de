"""Methods on the command line, and what their brackets bind to them."""

import re

import pytest

from dwfbench.base.errors import UsageError
from dwfbench.cli.methods import methods

READ = {
    "dwf": [("dwf", {})],
    "dwf, l1": [("dwf", {}), ("l1", {})],
    "dwf[]": [("dwf", {})],
    "dwf[depth=2,3],l1[proximal=true]": [("dwf", {"depth": ["2", "3"]}), ("l1", {"proximal": ["true"]})],
    " dwf[ depth = 2 , 3 , lr = 0.1 ] , dense": [("dwf", {"depth": ["2", "3"], "lr": 0.1}), ("dense", {})],
    "dwf[depth=2],dwf[depth=3]": [("dwf", {"depth": ["2"]}), ("dwf", {"depth": ["3"]})],
    "magnitude[finetune-epochs=0,5]": [("magnitude", {"finetune_epochs": ["0", "5"]})],
    "dwf[lr-drops=60,120,nesterov=yes]": [("dwf", {"lr_drops": "60,120", "nesterov": True})],
    "dwf[strength=1e-4,1e-3,seeds=3]": [("dwf", {"strength": [1e-4, 1e-3], "seeds": 3})],
    "my,folder[1]/m.py:M[a=1]": [("my", {}), ("folder[1]/m.py:M", {"a": ["1"]})],
    "folder[1]/m.py:M": [("folder[1]/m.py:M", {})],
}

REFUSED = {
    "dwf[depth=2": "a bracket that is not closed",
    "dwf]": "a bracket that is not closed, or not opened",
    "dwf[3]": "takes name=value in its brackets, not '3'",
    "l1[proximal]": "takes name=value in its brackets, not 'proximal'",
    "dwf[depth=2,depth=3]": "gives depth twice",
    "dwf[lr=fast]": "lr must be a number, not 'fast'",
    "dwf[strength=high]": "--method dwf[strength=...] takes numbers separated by commas, not 'high'",
    ",": "empty list of names",
    "": "empty list of names",
}


@pytest.mark.parametrize("text", READ)
def test_names_and_brackets_are_read(text):
    assert methods(text) == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_brackets_that_make_no_sense_are_refused(text):
    with pytest.raises(UsageError, match=re.escape(REFUSED[text])):
        methods(text)


def test_nothing_given_is_nothing():
    assert methods(None) is None
