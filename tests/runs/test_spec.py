"""RunSpec: identity, checks and layers of TOML."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwfbench.base.errors import UsageError
from dwfbench.runs import spec
from dwfbench.runs.spec import RunSpec

PINNED = {
    "67d6291b3014": {},
    "12646af81367": {
        **{"options": {"depth": 4, "rescale_init": True}, "strength": 1e-3, "seed": 2, "weight_decay": 0},
        **{"epochs": 400, "batch_size": 32},
    },
    "8d9ffcbd7138": {
        **{"method": "snip", "compression": 10, "model": "lenet-5", "dataset": "mnist", "seed": 3},
        "options": {"samples_per_class": 5},
    },
    "133e087ef9ba": {
        **{"method": "magnitude", "compression": 30.0, "options": {"finetune_epochs": 0}, "precision": "bfloat16"},
        **{"nesterov": True, "lr": 0.2, "momentum": 0.8, "val_fraction": 0.2, "split_seed": 1, "warmup_epochs": 2},
        **{"clip_norm": 1, "image_size": 32},
    },
}

specs = st.builds(
    RunSpec,
    method=st.sampled_from(["dwf", "spred", "l1"]),
    options=st.dictionaries(st.sampled_from(["depth", "min_abs"]), st.integers(2, 9)),
    seed=st.integers(0, 2**31 - 1),
    strength=st.none() | st.floats(0, 1e3),
    epochs=st.integers(1, 1000),
    lr=st.floats(1e-6, 1e6),
    momentum=st.floats(0, 0.999),
    nesterov=st.booleans(),
    precision=st.sampled_from(spec.PRECISIONS),
    image_size=st.none() | st.integers(1, 512),
)


@pytest.mark.parametrize("run_id", PINNED)
def test_ids_are_pinned_so_that_stored_runs_are_found_again(run_id):
    assert RunSpec(**PINNED[run_id]).id == run_id


@given(specs)
def test_a_spec_survives_json(one):
    again = RunSpec(**json.loads(json.dumps(one.to_dict())))
    assert (again, again.id) == (one, one.id)


@given(specs, st.integers(0, 2**31 - 1))
def test_specs_share_an_id_only_if_they_are_equal(one, seed):
    other = dataclasses.replace(one, seed=seed)
    assert (one.id == other.id) == (one == other)


def test_the_id_depends_neither_on_the_order_nor_on_the_spelling_of_values():
    assert RunSpec(compression=10).id == RunSpec(compression="10.0").id == RunSpec(compression=1e1).id
    first, second = {"depth": 4, "min_abs": 0.1}, {"min_abs": 0.1, "depth": 4}
    assert RunSpec(options=first, seed=1).id == RunSpec(seed=1, options=second).id


def test_options_at_their_defaults_are_no_part_of_the_id():
    from dwfbench.methods import registry

    assert registry.create("dwf", {"depth": 3, "min_abs": "0.003"}).changed() == {}
    assert registry.create("dwf", {"depth": 4}).changed() == {"depth": 4}


def test_every_field_changes_the_id():
    other = {"method": "l1", "options": {"depth": 4}, "model": "m:n", "dataset": "mnist"}
    other |= {
        "precision": "bfloat16",
        "optimizer": "adam",
        "init": "w@0",
        "lr_drops": "3",
        "lr_drop_factor": 5.0,
        "augment": "paper",
    }
    for item in dataclasses.fields(RunSpec):
        value = other.get(item.name, True if item.type is bool else 0.25 if item.type is float else 3)
        assert RunSpec(**{item.name: value}).id != RunSpec().id, item.name


def test_a_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunSpec().seed = 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("seed", -1), ("seed", 1.5), ("seed", True), ("epochs", 0), ("epochs", 10**20), ("epochs", "many")],
        *[("lr", 0), ("lr", float("nan")), ("lr", float("inf")), ("lr", "1e999"), ("lr", True), ("lr", [0.1])],
        *[("momentum", 1), ("strength", -1), ("compression", 0.5), ("precision", "float16"), ("nesterov", "maybe")],
        *[("nesterov", 1), ("model", ""), ("model", 3), ("options", 3), ("val_fraction", 0.6), ("image_size", 0)],
        *[("lr_drops", text) for text in ("0", "60,30", "30,30", "100", "a", "3.5")],
    ],
)
def test_a_value_out_of_range_or_of_another_type_is_refused_by_name(name, value):
    with pytest.raises(UsageError, match=f"^{name} must be"):
        RunSpec(**{name: value})


def test_a_run_has_one_knob():
    with pytest.raises(UsageError, match="one knob"):
        RunSpec(strength=1e-4, compression=10)


@pytest.mark.parametrize(("text", "value"), [("False", False), ("no", False), ("0", False), ("true", True)])
def test_text_is_read_as_the_switch_it_names(text, value):
    assert RunSpec(nesterov=text).nesterov is value


# ---------------------------------------------------------------- TOML


def read(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return spec.read_toml(path)


def test_dashes_in_keys_are_underscores_but_not_in_names_of_methods(tmp_path):
    found = read(tmp_path, "batch-size = 5\n[method.my-own]\nfinetune-epochs = 0")
    assert found == {"batch_size": 5, "method": {"my-own": {"finetune_epochs": 0}}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = [", "not valid TOML"),
        (b"title = '\xe9'", "not valid TOML"),
        ("epoch = 3", "'epoch'; did you mean epochs?"),
        ("depth = 3", "unknown key 'depth'"),
        ("model = 3", "model must be a text"),
        ("val-fraction = 'x'", "val_fraction must be a number"),
        ("methods = [1]", "methods must be a list of names"),
        ("[method]\ndwf = 3", "write methods as tables"),
        ("[method.dwf]\nsplit-seed = 1", "split_seed is the same for all methods"),
        ("[[method.dwf.when]]\ndepth = 2\nmodel = 'lenet-5'", "model is the same for all methods"),
        ("[method.dwf.when]\ndepth = 2", "double brackets"),
    ],
)
def test_a_config_file_that_makes_no_sense_is_refused_with_its_reason(tmp_path, text, said):
    with pytest.raises(UsageError) as error:
        read(tmp_path, text)
    assert said in str(error.value)


def test_an_absent_config_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.toml"):
        spec.read_toml(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("name", [name for name in spec.recipes() if not name.startswith("synflow-")])
def test_every_recipe_is_found_by_its_name_and_by_its_model_and_data_set(name):
    content = spec.base_recipe(name, None, None)
    assert spec.base_recipe(None, content["model"], content["dataset"]) == content
    assert name == f"{content['model']}-{content['dataset']}"


def test_a_misspelt_recipe_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean lenet-5-mnist"):
        spec.recipe_path("lenet-5-mnits")


def test_a_short_spelling_is_the_same_run():
    assert RunSpec(precision="bf16") == RunSpec(precision="bfloat16")
    assert RunSpec(precision="bf16").id == RunSpec(precision="bfloat16").id
    with pytest.raises(UsageError, match="precision must be one of float32, bfloat16, not 'fp16'"):
        RunSpec(precision="fp16")
