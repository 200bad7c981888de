"""Data sets: hand-made IDX files and image folders, every kind of damage, and the split."""

import gzip
import os
import shutil
import struct
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dwfbench.base import memory, plugins
from dwfbench.base.errors import UsageError
from dwfbench.data import dataset as data
from dwfbench.data.dataset import DataError, Dataset, Split, load
from dwfbench.data.readers import idx as idx_files
from dwfbench.data.readers.idx import read_idx

NAMES = ["digits", "mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "tiny-imagenet"]
STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    """No test sees the machine's data sets, its cache or the network."""
    monkeypatch.delenv("DWFBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "SYSTEM_ROOT", tmp_path / "system")

    def offline(self):
        raise URLError("Network is unreachable")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", offline)


def idx(array):
    array = np.asarray(array, dtype=np.uint8)
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_set(folder, *, count=40, labels=None, zipped=False, **broken):
    """The four files of an IDX set in `folder`; `broken` maps train_images, ... to other content."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(count) % 10 if labels is None else labels
    for stem, key in zip(STEMS, ("train_images", "train_labels", "test_images", "test_labels"), strict=True):
        content = idx(labels if "labels" in key else rng.integers(0, 256, (count, 4, 5)))
        content = broken.get(key, content)
        (folder / (stem + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)


def write_image(path, value, size=(6, 6), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def write_folder(root, test="test", value=10, mode="L"):
    for part, count in (("train", 4), (test, 2)):
        for number, name in enumerate(("cat", "dog")):
            for i in range(count):
                pixel = value + 100 * number + i
                write_image(root / part / name / f"{i}.png", pixel if mode == "L" else (pixel,) * 3, mode=mode)
    return root


# --- the IDX reader -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_read_idx_returns_what_was_written(tmp_path, pack):
    expected = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "file").write_bytes(pack(idx(expected)))
    array = read_idx(tmp_path / "file", 3)
    assert array.dtype == np.uint8
    assert (array == expected).all()


GOOD = idx(np.zeros((2, 3, 4)))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "magic"),
        (GOOD[:10], "ends within its header"),
        (GOOD[:-1], "23 follow"),
        (GOOD + b"\0", "25 follow"),
        (gzip.compress(GOOD, mtime=0)[:-9], "truncated"),
        (gzip.compress(os.urandom(100), mtime=0)[:20] + b"garbage" * 20, "cannot be read"),
        (b"\x1f\x8b" + b"not gzip", "cannot be read"),
        (idx(np.zeros(24)), "00000801"),
        (b"\0\0\x0d" + GOOD[3:], "00000d03"),
        (b"<html>404 Not Found</html>", "magic number '00000803'"),
        (bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1) + b"abc", "but 3 follow"),
        (bytes([0, 0, 8, 3]) + struct.pack(">3I", 0, 28, 28), "but 0 follow"),
    ],
)
def test_read_idx_names_the_file_and_the_damage(tmp_path, content, complaint):
    path = tmp_path / "broken-file"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


def test_read_idx_unpacks_no_more_than_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(idx_files, "MAX_IDX_BYTES", 1000)
    (tmp_path / "bomb").write_bytes(gzip.compress(bytes(10_000_000)))
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        read_idx(tmp_path / "bomb", 3)


def test_read_idx_reports_absent_file_and_folder(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_idx(path, 1)


prefix = st.sampled_from(
    [b"", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"\0\0\x08\x01", b"\0\0\x08\x03", b"\0\0\x08\x01\0\0\0\x03"]
)


@given(prefix, st.binary(max_size=60), st.booleans(), st.sampled_from([1, 3]))
def test_read_idx_gives_an_array_or_a_data_error(tmp_path_factory, start, rest, zipped, ndim):
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(gzip.compress(start + rest) if zipped else start + rest)
    try:
        array = read_idx(path, ndim)
    except DataError:
        return
    assert array.ndim == ndim
    assert array.dtype == np.uint8
    assert array.size > 0


# --- finding, downloading and checking IDX sets -------------------------------------------------------------


@pytest.mark.parametrize("layout", ["FashionMNIST/raw", "fashion-mnist", "here/fashion-mnist"])
@pytest.mark.parametrize("zipped", [False, True])
def test_every_layout_is_found(tmp_path, layout, zipped):
    write_set(tmp_path / layout, zipped=zipped)
    root = tmp_path / layout if layout.startswith("here") else tmp_path
    dataset = load("fashion-mnist", data_dir=root, download=False)
    assert dataset.input_shape == (1, 4, 5)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (36, 4, 40)
    assert dataset.name == "fashion-mnist"
    assert dataset.classes == 10


def test_data_dir_then_environment_then_system_then_cache(tmp_path, monkeypatch):
    places = [tmp_path / "given", tmp_path / "env", tmp_path / "system", tmp_path / "cache" / "dwfbench"]
    monkeypatch.setenv("DWFBENCH_DATA", str(places[1]))
    for size, place in enumerate(places, start=1):
        write_set(place / "mnist", count=10 * size)
    for size, place in enumerate(places, start=1):
        assert len(load("mnist", data_dir=places[0]).test) == 10 * size
        (place / "mnist" / STEMS[0]).unlink()  # an incomplete set is passed over


def test_offline_and_absent_is_one_sentence_with_remedies(tmp_path):
    with pytest.raises(DataError) as caught:
        load("fashion-mnist", data_dir=tmp_path / "given")
    message = str(caught.value)
    for part in (
        "Network is unreachable",
        str(tmp_path / "given"),
        "--data-dir",
        "$DWFBENCH_DATA",
        "dataset-fashion-mnist",
    ):
        assert part in message
    assert "\n" not in message


def test_no_download_when_it_is_switched_off(tmp_path):
    with pytest.raises(DataError, match=r"kmnist are not in any of .*system.*cache"):
        load("kmnist", download=False)
    assert not (tmp_path / "cache").exists()


def test_download_goes_to_the_preferred_place_and_is_read_from_there(tmp_path, monkeypatch, capsys):
    def download(self):
        write_set(tmp_path / "env" / "KMNIST" / "raw")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    monkeypatch.setenv("DWFBENCH_DATA", str(tmp_path / "env"))
    assert len(load("kmnist").test) == 40
    shown = capsys.readouterr()
    assert shown.out == ""
    assert str(tmp_path / "env") in shown.err


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ({"train_images": GOOD[:-1]}, r"train-images.*truncated.*--data-dir"),
        ({"test_labels": idx(np.zeros(39))}, r"40 images but .*t10k-labels.* 39 labels"),
        ({"train_labels": idx(np.full(40, 10))}, r"train-labels.* label 10, outside 0 to 9"),
        ({"test_images": idx(np.zeros((40, 5, 4)))}, r"different sizes"),
    ],
)
def test_damaged_sets_are_refused(tmp_path, broken, complaint):
    write_set(tmp_path / "mnist", **broken)
    with pytest.raises(DataError, match=complaint):
        load("mnist", data_dir=tmp_path)


@pytest.mark.skipif(
    not os.path.isdir("/usr/share/datasets/fashion-mnist"), reason="dataset-fashion-mnist not installed"
)
def test_the_real_fashion_mnist():
    dataset = load("fashion-mnist", data_dir="/usr/share/datasets", download=False)
    assert dataset.input_shape == (1, 28, 28)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (54_000, 6_000, 10_000)
    assert dataset.test.labels.bincount().tolist() == [1000] * 10
    # The commonly quoted moments of all 60,000 training images.
    assert dataset.mean.item() == pytest.approx(0.2860, abs=1e-3)
    assert dataset.std.item() == pytest.approx(0.3530, abs=1e-3)


# --- the built-in digits, the split, normalisation, batches -------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_digits_are_what_they_should_be(digits):
    assert digits.input_shape == (1, 8, 8)
    assert (len(digits.train), len(digits.val), len(digits.test)) == (1293, 144, 360)
    assert digits.test.labels.bincount().min() >= 35  # stratified: 20 % of 174 to 183
    assert digits.train.images.max() == 240
    assert (digits.train.images % 15 == 0).all()
    assert digits.checksum == "2be72251482eb3f1"  # changes if scikit-learn's data or test split ever do


def test_same_arguments_same_tensors_and_the_seed_moves_only_the_cut(digits):
    again, other = load("digits"), load("digits", split_seed=1)
    assert torch.equal(again.train.images, digits.train.images)
    assert torch.equal(again.val.images, digits.val.images)
    assert not torch.equal(other.val.images, digits.val.images)
    assert torch.equal(other.test.images, digits.test.images)
    assert other.checksum == digits.checksum


def test_val_and_train_part_the_source_without_overlap(tmp_path):
    images = np.arange(40)[:, None, None] * np.ones((40, 4, 5))  # image i is constant i
    write_set(tmp_path / "mnist", train_images=idx(images))
    for fraction, held_out in ((0, 0), (0.1, 4), (0.5, 20)):
        dataset = load("mnist", data_dir=tmp_path, val_fraction=fraction)
        train, val = (part.images[:, 0, 0, 0].tolist() for part in (dataset.train, dataset.val))
        assert len(val) == held_out
        assert sorted(train + val) == list(range(40))
        assert [i % 10 for i in train] == dataset.train.labels.tolist()  # labels moved with their images
    whole = load("mnist", data_dir=tmp_path, val_fraction=0, split_seed=5)
    assert whole.train.images[:, 0, 0, 0].tolist() == list(range(40))


def test_moments_come_from_the_training_part_alone(digits):
    pixels = digits.train.images.double() / 255
    assert digits.mean.item() == pytest.approx(pixels.mean().item(), abs=1e-7)
    assert digits.std.item() == pytest.approx(pixels.std(correction=0).item(), abs=1e-7)
    inputs = digits.normalize(digits.train.images)
    assert inputs.dtype == torch.float32
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_a_constant_channel_normalises_to_zero(tmp_path):
    write_set(tmp_path / "mnist", train_images=idx(np.full((40, 4, 5), 7)))
    dataset = load("mnist", data_dir=tmp_path)
    assert dataset.std.tolist() == [1]
    assert (dataset.normalize(dataset.train.images) == 0).all()


def test_normalize_by_hand_with_channels_and_leading_axes():
    empty = Split(torch.empty(0, 2, 1, 1, dtype=torch.uint8), torch.empty(0, dtype=torch.long))
    moments = torch.tensor([0.0, 0.5]), torch.tensor([0.5, 0.25])
    dataset = Dataset("hand", empty, empty, empty, *moments, classes=2, checksum="")
    images = torch.tensor([51, 255], dtype=torch.uint8).view(1, 1, 2, 1, 1)
    assert dataset.normalize(images).flatten().tolist() == pytest.approx([0.4, 2.0])


def test_balanced_batch_is_balanced_and_follows_its_generator(digits):
    def batch(seed):
        return digits.balanced_batch(10, torch.Generator().manual_seed(seed))

    inputs, targets = batch(0)
    assert inputs.shape == (100, 1, 8, 8)
    assert inputs.dtype == torch.float32
    assert targets.bincount().tolist() == [10] * 10
    assert torch.equal(batch(0)[0], inputs)
    assert not torch.equal(batch(1)[0], inputs)
    assert len({tuple(image.flatten().tolist()) for image in inputs}) == 100  # drawn without replacement


def test_balanced_batch_names_the_class_that_is_too_small(tmp_path):
    write_set(tmp_path / "mnist", labels=np.minimum(np.arange(40), 9))
    with pytest.raises(UsageError, match="class 0 of mnist has 1 training"):
        load("mnist", data_dir=tmp_path, val_fraction=0).balanced_batch(2, torch.Generator())


def test_to_moves_every_tensor(digits):
    moved = digits.to("meta")
    for tensor in (moved.train.images, moved.val.labels, moved.test.images, moved.mean, moved.std):
        assert tensor.device.type == "meta"
    assert (moved.name, moved.checksum) == (digits.name, digits.checksum)


@pytest.mark.parametrize(
    "wrong",
    [{"val_fraction": -0.1}, {"val_fraction": 0.6}, {"val_fraction": float("nan")}, {"image_size": 0}],
)
def test_bad_arguments_are_usage_errors(wrong):
    with pytest.raises(UsageError, match="must be"):
        load("digits", **wrong)


def test_named_sets_can_be_resized():
    dataset = load("digits", image_size=16)
    assert dataset.input_shape == (1, 16, 16)
    assert dataset.test.images.shape == (360, 1, 16, 16)
    assert dataset.checksum != "2be72251482eb3f1"


def test_a_size_for_which_there_is_no_memory_is_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 5 * memory.GIB)
    with pytest.raises(DataError, match=r"1,797 images of 1x2048x2048 need 14.0 GiB of memory, and 5.0 GiB are avail"):
        load("digits", image_size=2048)
    assert load("digits", image_size=9).input_shape == (1, 9, 9)


def test_unknown_names_get_the_nearest_and_the_list():
    with pytest.raises(UsageError, match=r"did you mean fashion-mnist.*digits, mnist, fashion-mnist, kmnist"):
        load("Fashion_MNIST")


def test_describe_lists_the_named_sets():
    assert sorted(row["name"] for row in data.describe()) == sorted(NAMES)
    assert all(row["summary"] and row["source"] for row in data.describe())


@pytest.mark.parametrize("zipped", [False, True])
def test_a_dot_in_the_names_of_an_idx_set(tmp_path, zipped):
    write_set(tmp_path / "mnist", zipped=zipped)
    for path in (tmp_path / "mnist").iterdir():
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert load("mnist", data_dir=tmp_path, download=False).input_shape == (1, 4, 5)


# --- image folders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test_part", ["test", "val"])
def test_folder_of_gray_images(tmp_path, test_part):
    dataset = load(str(write_folder(tmp_path / "pets", test_part)), val_fraction=0.25)
    assert dataset.input_shape == (1, 6, 6)
    assert dataset.classes == 2
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (6, 2, 4)
    assert dataset.test.images[:, 0, 0, 0].tolist() == [10, 11, 110, 111]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]


def test_one_colour_image_makes_all_of_them_rgb(tmp_path):
    root = write_folder(tmp_path / "pets")
    write_image(root / "train" / "dog" / "3.png", (255, 0, 10), mode="RGB")
    dataset = load(str(root), val_fraction=0)
    assert dataset.input_shape == (3, 6, 6)
    assert dataset.train.images[-1, :, 2, 3].tolist() == [255, 0, 10]
    assert dataset.train.images[0, :, 2, 3].tolist() == [10, 10, 10]


def test_sizes_must_agree_unless_an_image_size_is_given(tmp_path):
    root = write_folder(tmp_path / "pets")
    write_image(root / "train" / "cat" / "wide.png", 10, size=(12, 6))
    with pytest.raises(DataError, match=r"6x6 but .*wide.png is 12x6; give --image-size"):
        load(str(root))
    assert load(str(root), image_size=8).input_shape == (1, 8, 8)


def test_images_that_are_not_square_keep_their_axes(tmp_path):
    for part in ("train/a", "train/b", "test/a", "test/b"):
        write_image(tmp_path / "wide" / part / "a.png", 1, size=(9, 4))
    assert load(str(tmp_path / "wide")).input_shape == (1, 4, 9)


def test_corrupt_and_deep_images_are_named(tmp_path):
    root = write_folder(tmp_path / "pets")
    victim = root / "test" / "dog" / "1.png"
    good = victim.read_bytes()
    for content in (b"", b"not an image", good[: len(good) // 2]):
        victim.write_bytes(content)
        with pytest.raises(DataError, match=r"1.png is not a readable image"):
            load(str(root))
    Image.fromarray(np.full((6, 6), 3000, dtype=np.uint16)).save(victim)
    with pytest.raises(DataError, match=r"1.png has more than 8 bits"):
        load(str(root))


def test_empty_missing_and_unequal_classes_are_named(tmp_path):
    root = write_folder(tmp_path / "pets")
    (root / "train" / "fish").mkdir()
    with pytest.raises(DataError, match="fish holds no images"):
        load(str(root))
    write_image(root / "train" / "fish" / "0.png", 0)
    with pytest.raises(DataError, match="only one has: fish"):
        load(str(root))
    with pytest.raises(DataError, match=r"cat.train holds no class folders"):
        load(str(root / "train" / "cat"))


def test_identity_of_a_folder_is_its_name_and_content(tmp_path):
    here, there = write_folder(tmp_path / "a" / "pets"), write_folder(tmp_path / "b" / "pets", value=11)
    copy = write_folder(tmp_path / "c" / "pets")
    assert data.identity(str(here)).startswith("pets@")
    assert len(data.identity(str(here))) == len("pets@") + 12
    assert data.identity(str(here)) == data.identity(str(copy)) == load(str(copy)).name
    assert data.identity(str(here)) != data.identity(str(there))


def test_identity_sees_labels_and_follows_links(tmp_path):
    root = write_folder(tmp_path / "pets")
    before = data.identity(str(root))
    (tmp_path / "link").symlink_to(root)
    assert data.identity(str(tmp_path / "link")) == before.replace("pets", "link")
    (root / "train" / "cat" / "3.png").rename(root / "train" / "dog" / "4.png")
    assert data.identity(str(root)) != before
    (root / "train" / "dog" / "dangling.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"dangling.png cannot be read"):
        data.identity(str(root))


def test_identity_of_a_named_set_needs_no_files():
    assert data.identity("mnist") == "mnist"


def test_a_class_of_which_nothing_is_left_to_train_on_is_told_of(capsys):
    labels = torch.tensor([0] * 20 + [1] * 2 + [2])
    data._tell_lost_class("pets", labels, labels)
    assert capsys.readouterr().err == ""
    data._tell_lost_class("pets", labels, labels[:20])
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(
        "Nothing of class 1 of pets is trained on, as all of its 2 training images are kept for valid"
    )
    assert second.startswith(
        "Nothing of class 2 of pets is trained on, as its only training image is kept for validation"
    )


def test_test_images_that_are_training_images_are_told_of_once(tmp_path, capsys):
    plugins._told.clear()
    root = write_folder(tmp_path / "pets")
    for number, path in enumerate(sorted((root / "test").rglob("*.png"))):
        write_image(path, 200 + number)
    assert told(capsys, root) == ""
    shutil.copy(root / "train" / "cat" / "3.png", root / "test" / "cat" / "0.png")
    sentence = told(capsys, root)
    assert "1 of the 4 test images of pets@" in sentence
    assert "are training images, too: what is measured on them says nothing of others.\n" in sentence
    assert told(capsys, root) == ""


def told(capsys, root):
    load(str(root), val_fraction=0)
    return capsys.readouterr().err
