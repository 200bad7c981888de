"""Data sets in any condition: IDX files, image folders, archives, CIFAR, Tiny ImageNet, the cache of pixels."""

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwfbench.base.errors import UsageError
from dwfbench.data import dataset
from dwfbench.data.readers import cache, idx, image_folder, tree
from dwfbench.data.readers.base import DataError
from tests.fuzz import properties, seeds
from tests.fuzz.seeds import idx_bytes, pets, png, tarred, tiny_imagenet_entries, zipped
from tests.fuzz.strategies import examples, mutated, odd_text

MEGABYTE = 1 << 20


@pytest.fixture
def peak():
    """Megabytes that Python allocated at most since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1] / MEGABYTE
    tracemalloc.stop()


# ---------------------------------------------------------------- IDX


@examples(100)
@given(st.one_of(st.binary(max_size=64), mutated(seeds.idx())), st.sampled_from([1, 3]))
def test_any_bytes_as_an_idx_file(content, ndim):
    properties.idx_file(content, ndim)


@examples(60)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=5), st.integers(0, 255), st.binary(max_size=24), st.booleans())
def test_idx_headers_that_lie(shape, kind, values, zipped):
    content = idx_bytes(*shape, kind=kind, values=values)
    read = properties.idx_file(gzip.compress(content, 1) if zipped else content, ndim=3)
    assert read == (len(shape) == 3 and kind == 8 and 0 < np.prod(shape, dtype=float) == len(values))


def test_an_idx_header_that_claims_terabytes_takes_no_memory(peak):
    for shape in ((2**32 - 1,) * 3, (2**31, 2**31, 4), (1, 2**16, 2**16)):
        assert not properties.idx_file(idx_bytes(*shape, values=bytes(16)))
    assert peak() < 1


def test_a_gzip_bomb_is_unpacked_to_the_bound_alone(peak, monkeypatch):
    monkeypatch.setattr(idx, "MAX_IDX_BYTES", MEGABYTE)
    packer = zlib.compressobj(wbits=31)
    block = bytes(MEGABYTE)
    bomb = b"".join([*(packer.compress(block) for _ in range(64)), packer.flush()])
    assert not properties.idx_file(bomb)
    assert peak() < 8


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_truncated_gzip_is_refused(cut):
    content = gzip.compress(idx_bytes(2, 3, 4), mtime=0)
    assert not properties.idx_file(content[: len(content) - 1 - cut])


# ---------------------------------------------------------------- .zip archives


@examples(80)
@given(st.one_of(st.binary(max_size=64), mutated(seeds.zip())), st.sampled_from([None, 3]))
def test_any_bytes_as_an_archive(content, side):
    properties.image_zip(content, side)


parts = st.sampled_from(["train", "test", "val", "cat", "..", ".", "", "a.png", "C:", "b.jpg", "c.pgm"])
names = st.one_of(
    st.sampled_from([name for name, _ in pets()]),
    st.lists(st.one_of(parts, odd_text), max_size=5).map("/".join),
).filter(lambda name: "\0" not in name and name.encode("utf-8", "ignore").decode() == name)
images = st.one_of(st.sampled_from([png(), png(3, (5, 4)), png(0, (4, 4), "RGB", "JPEG"), b""]), mutated([png()]))


@examples(50)
@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(st.lists(st.tuples(names, images), max_size=6), st.booleans(), st.sampled_from([None, 3]))
def test_entries_with_any_names_and_contents(entries, whole, side):
    properties.image_zip(zipped([*(pets() if whole else []), *entries]), side)


@pytest.mark.parametrize(("read", "packed"), [(properties.image_zip, zipped), (properties.image_tar, tarred)])
@pytest.mark.parametrize(
    "name",
    ["../outside.png", "/outside.png", "train/../../outside.png", "train/cat/../../../outside.png", "C:\\outside.png"],
)
def test_entries_that_point_outside_are_not_written(name, read, packed):
    """The property looks for files beside the archive and beside its folder."""
    assert read(packed([*pets(), (name, png())])) in (True, False)
    assert not Path("/outside.png").exists()


def test_links_in_an_archive_are_not_followed():
    file = io.BytesIO(zipped(pets()))
    with zipfile.ZipFile(file, "a") as archive:
        info = zipfile.ZipInfo("train/cat/link.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert not properties.image_zip(file.getvalue())


def test_encrypted_entries_are_refused():
    content = bytearray(zipped(pets()))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = 0
        while (start := content.find(signature, start)) >= 0:
            content[start + offset] |= 1
            start += 4
    assert not properties.image_zip(bytes(content))


def test_entries_that_lie_about_their_size_take_no_memory(peak):
    content = bytearray(zipped(pets(), zipfile.ZIP_DEFLATED))
    start = content.find(b"PK\1\2")
    content[start + 24 : start + 28] = struct.pack("<I", 2**32 - 2)  # unpacked
    properties.image_zip(bytes(content))
    content[start + 20 : start + 24] = struct.pack("<I", 2**32 - 2)  # packed
    properties.image_zip(bytes(content))
    assert peak() < 4


def test_a_bomb_in_an_archive_is_unpacked_to_the_bound_alone(peak, monkeypatch):
    monkeypatch.setattr(tree, "MAX_ENTRY_BYTES", MEGABYTE)
    bomb = zipped([*pets(), ("train/cat/bomb.png", bytes(64 * MEGABYTE))], zipfile.ZIP_DEFLATED)
    tracemalloc.reset_peak()
    assert not properties.image_zip(bomb)
    assert peak() < 8 + 2 * len(bomb) / MEGABYTE


# ---------------------------------------------------------------- .tar archives


@examples(80)
@given(st.one_of(st.binary(max_size=64), mutated(seeds.tar())), st.sampled_from([None, 3]))
def test_any_bytes_as_a_tar(content, side):
    properties.image_tar(content, side)


kinds = st.one_of(
    st.sampled_from([b"0", b"x", b"g", b"L", b"1", b"2", b"5", b"S", b"\0"]), st.binary(min_size=1, max_size=1)
)
sizes = st.one_of(
    st.none(), st.integers(0, 2000), st.sampled_from([8**11 - 1, 8**11, 2**63, 2**64, 2**87, -1, -(2**70)])
)
pax = st.lists(
    st.tuples(st.sampled_from(["path", "size", "GNU.sparse.name", "linkpath"]), st.one_of(names, odd_text)), max_size=3
).map(lambda records: b"".join(pax_record(*record) for record in records))


def pax_record(key: str, value: str) -> bytes:
    content = f" {key}={value}\n".encode("utf-8", "surrogatepass")
    return b"%d" % (len(content) + len(str(len(content) + 2))) + content


@examples(100)
@given(
    st.lists(
        st.tuples(names, st.one_of(images, pax, mutated([pax_record("path", "a.png")])), kinds, sizes), max_size=4
    ),
    st.booleans(),
    st.sampled_from([bytes, gzip.compress, bz2.compress, lzma.compress]),
    st.sampled_from([None, 3]),
)
def test_entries_of_a_tar_with_any_names_kinds_sizes_and_contents(entries, whole, pack, side):
    properties.image_tar(pack(tarred([*entries, *(pets() if whole else [])])), side)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE]
)
def test_links_and_devices_in_a_tar_are_not_followed(kind):
    """They all lead to /etc/passwd; a contiguous file is one as any other."""
    assert properties.image_tar(tarred([*pets(), ("train/cat/link.png", png(), kind)])) == (kind == tarfile.CONTTYPE)


small_xz = partial(lzma.compress, preset=0)  # whose window takes 0.3 MB; that of the usual preset takes 8 MB


@pytest.mark.parametrize("pack", [bytes, gzip.compress, small_xz])
def test_entries_of_a_tar_that_lie_about_their_size_are_refused(pack):
    for kind in (b"0", b"x", b"L", b"g", b"Z"):
        for size in (10**6, 2**33, 2**62, 2**87):
            assert not properties.image_tar(pack(tarred([*pets(), ("train/cat/x.png", b"", kind, size)])))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, small_xz])
def test_a_bomb_in_a_tar_takes_no_memory(peak, monkeypatch, pack):
    monkeypatch.setattr(tree, "MAX_ENTRY_BYTES", MEGABYTE)
    bomb = pack(tarred([*pets(), ("train/cat/bomb.png", bytes(64 * MEGABYTE))]))
    tracemalloc.reset_peak()
    assert not properties.image_tar(bomb)
    assert peak() < 8


# ---------------------------------------------------------------- images


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header claims so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(64)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (60_000, 60_000), (9_000, 9_000), (2**20, 5)])
@pytest.mark.parametrize("first", [True, False])
def test_an_image_whose_header_claims_too_much_is_refused_before_it_is_decoded(peak, monkeypatch, size, first):
    entries = [*pets(), (f"train/cat/{'0' if first else 'z'}0.png", huge_png(*size))]
    seen = []
    from PIL import ImageFile

    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: seen.append(self.size) or load(self))
    assert not properties.image_zip(zipped(sorted(entries)))
    assert all(decoded == (4, 4) for decoded in seen)
    assert peak() < 4


def test_more_pixels_than_the_machine_has_memory_are_refused():
    from dwfbench.data.readers import decoding

    with pytest.raises(
        DataError, match=r"need 5,[0-9.]+ GiB of memory, and [0-9.,]+ GiB are available; give a smaller --image-size"
    ):
        decoding.enough_memory(1_000_000, (3, 1000, 1000))


# ---------------------------------------------------------------- folders


file_names = st.lists(
    st.sampled_from(["train", "test", "val", "cat", "dog", "a.png", "b.jpg", ".hidden", "é\N{SNOWMAN}.png", "x y"]),
    min_size=1,
    max_size=4,
)


@examples(40)
@given(st.lists(st.tuples(file_names, images), max_size=6), st.booleans())
def test_folders_with_any_files(entries, whole):
    with properties.folder() as place:
        for parts, content in [*((name.split("/"), png) for name, png in (pets() if whole else [])), *entries]:
            path = place.joinpath(*parts)
            if not any(above.is_file() for above in (path, *path.parents)) and not path.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        with tree.open_tree(place) as files:
            properties.refusable(DataError)(properties.read_images)(files, image_folder.listing, 4)


def folder_of_pets(place: Path) -> Path:
    for name, content in pets():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


def test_links_back_into_a_folder_do_not_end_in_a_walk_without_end(tmp_path):
    """Two such links in one folder would be 2 ** 40 ways until the system refuses to go deeper."""
    place = folder_of_pets(tmp_path / "pets")
    for name in ("again", "and again"):
        (place / "train" / "cat" / name).symlink_to(place / "train")
    (place / "train" / "dog" / "linked").symlink_to(place / "test" / "dog")  # a link elsewhere is followed
    with tree.open_tree(place) as files:
        found = [name for name, _ in image_folder.listing(files).train]
    assert "train/dog/linked/0.png" in found
    assert "train/cat/again/dog/0.png" in found or len(found) == 6
    assert len(found) < 40


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path):
    place = folder_of_pets(tmp_path / "pets")
    os.mkfifo(place / "train" / "cat" / "pipe.png")
    with pytest.raises(DataError, match=r"pipe.png cannot be read .it is no regular file.; repair or remove it"):
        dataset.identity(str(place))


@pytest.mark.parametrize("name", ["pets\n", "\x1b[31mpets", os.fsdecode(b"p\xe9ts")])
def test_a_folder_whose_name_no_table_can_show_is_refused(tmp_path, name):
    place = folder_of_pets(tmp_path / name)
    with pytest.raises(DataError, match="cannot be shown in a table") as error:
        dataset.identity(str(place))
    assert str(error.value).isprintable()


@examples(30)
@given(odd_text)
def test_any_text_as_the_name_of_a_data_set(name):
    properties.refusable()(dataset.identity)(name)


# ---------------------------------------------------------------- the others


@examples(40)
@given(mutated([dict(tiny_imagenet_entries())["val/val_annotations.txt"]]))
def test_any_annotations_of_tiny_imagenet(labels):
    entries = dict(tiny_imagenet_entries()) | {"val/val_annotations.txt": labels}
    properties.tiny_imagenet_zip(zipped(list(entries.items())))


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle was read",)


@examples(15)
@given(mutated([pickle.dumps(Trap()), pickle.dumps({b"data": [0], b"labels": [0]}), b""]))
def test_no_bytes_in_the_place_of_cifar_are_unpickled(content):
    from torchvision.datasets import CIFAR10

    with properties.folder() as place:
        (place / CIFAR10.base_folder).mkdir()
        for name in [*(file for file, _ in (*CIFAR10.train_list, *CIFAR10.test_list)), CIFAR10.meta["filename"]]:
            (place / CIFAR10.base_folder / name).write_bytes(content)
        assert not properties.refusable(DataError)(dataset.load)("cifar10", data_dir=place, download=False)


def cached(content: bytes) -> np.ndarray:
    with properties.folder() as place:
        (place / "images").write_bytes(content)
        return cache.cached(place / "images", 2, lambda: np.zeros((2, 1, 3, 3), np.uint8))


def stored_pixels() -> bytes:
    with properties.folder() as place:
        cache._store(place / "images", np.zeros((2, 1, 3, 3), np.uint8))
        return (place / "images").read_bytes()


@examples(60)
@given(st.one_of(mutated([stored_pixels()]), st.just(pickle.dumps(Trap()))))
def test_any_bytes_in_the_place_of_cached_pixels(content):
    assert cached(content).shape == (2, 1, 3, 3)
    assert not cached(content).any()


def test_a_usage_error_is_one_line_whatever_it_quotes():
    assert str(UsageError("a\nb \x1b[31m \ud800 é")) == "a b \\x1b[31m \\ud800 é"
