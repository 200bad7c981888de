"""TOML that would take long to read, and such as would not."""

import tomllib

import pytest

from dwfbench.base import toml


@pytest.mark.parametrize("part", ["a", '"a"', "'a b'", '"a\\" b."', "a-1"])
@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}", "y = 2\n  {} = 1"])
@pytest.mark.parametrize("dot", [".", " . "])
def test_a_key_of_many_parts_is_refused_before_it_is_read(part, form, dot):
    text = form.format(dot.join([part] * (toml.DEEPEST + 1)))
    tomllib.loads(text)  # which is valid
    with pytest.raises(ValueError, match="a key has more than 32 parts"):
        toml.parsed(text)
    text = form.format(dot.join([part] * toml.DEEPEST))
    assert toml.parsed(text) == tomllib.loads(text)


@pytest.mark.parametrize("text", ["a = " + "[" * 10_000, "a = " + "{a=" * 10_000])
def test_deep_nesting_is_half_a_sentence(text):
    with pytest.raises(ValueError, match="nested too deeply"):
        toml.parsed(text)


def test_what_an_editor_of_windows_writes_is_read():
    assert toml.parsed("\ufeffepochs = 3\r\nlr = 0.1\r\n") == {"epochs": 3, "lr": 0.1}


def test_lists_of_numbers_and_texts_with_dots_are_read():
    text = f"strength = [{', '.join(['0.125'] * 2000)}]\nlr-drops = '1,2,3'\ndataset = '/a.b/c.d/e.zip'\n"
    assert len(toml.parsed(text)["strength"]) == 2000
