"""Image files: folders in .zip and .tar archives, decoding, the cache of pixels, Tiny ImageNet, CIFAR, downloads."""

import bz2
import functools
import gzip
import http.server
import io
import itertools
import lzma
import os
import pickle
import tarfile
import threading
import warnings
import zipfile
from concurrent.futures.process import BrokenProcessPool
from hashlib import md5

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from dwfbench.data import dataset as data
from dwfbench.data.dataset import DataError, identity, load
from dwfbench.data.readers import base, cache, decoding, tiny_imagenet, tree
from dwfbench.data.readers.tree import Folder, open_tree


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    """No test sees the machine's data sets or its cache, and even the smallest set is cached."""
    monkeypatch.delenv("DWFBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "SYSTEM_ROOT", tmp_path / "system")
    monkeypatch.setattr(cache, "WORTH_SECONDS", 0)
    monkeypatch.setattr(data, "_tell_shared", lambda title, source: None)  # of these pictures, once a process


@pytest.fixture
def decoded(monkeypatch):
    """How many images were decoded so far, as the length of a list."""
    seen, original = [], decoding.decode_chunk

    def decode_chunk(chunk, side):
        seen.extend(chunk)
        return original(chunk, side)

    monkeypatch.setattr(decoding, "decode_chunk", decode_chunk)
    return seen


def encoded(value=0, size=(6, 6), mode="L", kind="PNG"):
    file = io.BytesIO()
    Image.new(mode, size, value).save(file, kind)
    return file.getvalue()


def pets(test="test", value=10, count=4):
    """Names and content of an image folder with two classes."""
    return {
        f"{part}/{name}/{i}.png": encoded(value + 100 * label + i)
        for part, number in (("train", count), (test, 2))
        for label, name in enumerate(("cat", "dog"))
        for i in range(number)
    }


def write_zip(path, files, top="", compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


PACKERS = {
    **{".tar": bytes, ".tar.gz": gzip.compress, ".tgz": gzip.compress, ".tar.bz2": bz2.compress},
    **{".tbz2": bz2.compress, ".tar.xz": lzma.compress, ".TXZ": lzma.compress},
}
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def tar_bytes(files, top="", kind=tarfile.PAX_FORMAT):
    """A .tar of files, by name, and of what else is a TarInfo; the last come first, as a tar has no order."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, content in reversed(files.items()):
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(top + name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, None if info is content else io.BytesIO(content))
    return file.getvalue()


def write_tar(path, files, *words):
    (ending,) = (ending for ending in PACKERS if path.name.endswith(ending))
    path.write_bytes(PACKERS[ending](tar_bytes(files, *words)))
    return path


def special(name, kind, target="", **more):
    """An entry that is no file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, target, more
    return info


def write_folder(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def the_cached_file(tmp_path):
    (file,) = (tmp_path / "cache" / "dwfbench" / "decoded").iterdir()
    return file


# --- image folders in a .zip --------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("top", ["", "./", "my pets/"])
@pytest.mark.parametrize("test", ["test", "val"])
def test_a_zip_holds_the_same_data_as_its_folder(tmp_path, compression, top, test):
    there = load(str(write_folder(tmp_path / "pets", pets(test))))
    here = load(str(write_zip(tmp_path / "pets.zip", pets(test), top, compression)))
    assert here.checksum == there.checksum
    assert torch.equal(here.train.images, there.train.images)
    assert (here.input_shape, here.classes, len(here.test)) == ((1, 6, 6), 2, 4)
    assert here.test.images[:, 0, 0, 0].tolist() == [10, 11, 110, 111]


SIDE_FOLDERS = (".ipynb_checkpoints", "@eaDir", "__MACOSX", "$RECYCLE.BIN", "lost+found", "#recycle")


def test_what_packers_and_people_add_is_left_out(tmp_path):
    junk = {
        "__MACOSX/train/cat/._0.png": b"resource fork",
        "train/.DS_Store": b"",
        "train/cat/._0.png": b"resource fork",
        "train/.hidden/0.png": b"",
        "README.md": b"# pets",
        "train/cat/notes.txt": b"",
        "train/labels.csv": b"",
        **{f"train/{name}/0.png": b"" for name in SIDE_FOLDERS},
        **{f"train/cat/{name}/0.png": b"" for name in SIDE_FOLDERS},
        **{f"{name}/train/cat/0.png": b"" for name in SIDE_FOLDERS},
        **{f"train/cat/{name}": b"" for name in ("Thumbs.db", "desktop.ini", "Icon\r")},
    }
    there = load(str(write_folder(tmp_path / "pets", {**junk, **pets()})))
    junk |= {"train/": b"", "train/cat/": b""}
    plain = load(str(write_zip(tmp_path / "pets.zip", pets())))
    assert (there.checksum, there.name) == (plain.checksum, plain.name)
    for top in ("", "pets/"):
        full = load(str(write_zip(tmp_path / "full.zip", {**junk, **pets()}, top)))
        assert full.checksum == plain.checksum


def test_images_below_a_class_belong_to_it_in_torchvisions_order(tmp_path):
    more = {f"train/{name}": encoded(i) for i, name in enumerate(("cat/b/1.png", "cat/B/10.png", "cat-2/0.PNG"), 200)}
    files = {**pets(), **more, "test/cat-2/0.png": encoded(9)}
    root = write_folder(tmp_path / "pets", files)
    reference = torchvision.datasets.ImageFolder(root / "train")
    for path in (root, write_zip(tmp_path / "pets.zip", files)):
        dataset = load(str(path), val_fraction=0)
        assert dataset.train.labels.tolist() == reference.targets
        pixels = [np.asarray(Image.open(name))[0, 0] for name, _ in reference.samples]
        assert dataset.train.images[:, 0, 0, 0].tolist() == pixels


def test_identity_of_a_zip_is_its_name_and_content(tmp_path):
    path = str(write_zip(tmp_path / "pets.zip", pets()))
    assert identity(path) == load(path).name
    assert identity(path).startswith("pets@")
    assert len(identity(path)) == len("pets@") + 12
    assert identity(path) != identity(str(write_zip(tmp_path / "b.zip", pets(value=11)))).replace("b@", "pets@")


def test_corrupt_images_in_a_zip_are_named(tmp_path):
    good = encoded(5, (40, 40), kind="JPEG")
    for content in (b"", b"no picture", good[: len(good) // 2]):
        path = write_zip(tmp_path / "x.zip", {**pets(), "train/cat/0001.jpg": content})
        with pytest.raises(
            DataError, match=r"train/cat/0001.jpg in .*x.zip is not a readable image .*repair or remove"
        ):
            load(str(path))
    assert not (tmp_path / "cache").exists()


def test_damaged_archives_and_entries_are_refused(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"train/cat/a.png": bytes(1000), **pets()}, compression=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-30])
    with pytest.raises(DataError, match=r"x.zip is not an intact .zip archive"):
        load(str(path))
    content[100] ^= 1  # within the first entry, whose CRC is now another
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train/cat/a.png in .*x.zip cannot be unpacked .*CRC"):
        load(str(path))
    with pytest.raises(DataError, match=r"neither stored nor deflated"):
        load(str(write_zip(tmp_path / "x.zip", pets(), compression=zipfile.ZIP_LZMA)))
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(DataError, match=r"text.txt is not an intact .zip archive"):
        load(str(tmp_path / "text.txt"))


def test_a_bomb_is_unpacked_only_to_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "MAX_ENTRY_BYTES", 10_000)
    path = write_zip(tmp_path / "x.zip", {**pets(), "train/cat/bomb.png": bytes(10_000_000)})
    with pytest.raises(DataError, match=r"bomb.png in .* unpacks to more than 10,000 bytes"):
        load(str(path))


def test_a_header_that_claims_a_huge_image_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = write_zip(tmp_path / "x.zip", {**pets(), "train/cat/wide.png": encoded(0, (15, 10))})  # only warned of
    with pytest.raises(DataError, match=r"wide.png in .*exceeds limit"):
        load(str(path), image_size=6)


def test_formats_that_run_programs_are_never_tried(tmp_path):
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n%%EndComments\nshowpage\n"
    path = write_zip(tmp_path / "x.zip", {**pets(), "train/cat/0.png": script})
    with pytest.raises(DataError, match="no known format"):
        load(str(path))


def test_layouts_that_are_none_are_refused(tmp_path):
    for files, complaint in (
        ({"a.png": encoded()}, r"^train in .*x.zip holds no class folders \(there is no folders\)"),
        ({f"{top}/train/cat/0.png": encoded() for top in "ab"}, r"^train in .*x.zip holds no .* \(there is a, b\)"),
        ({"train/cat/0.png": encoded()}, r"^test in .*x.zip holds no class folders \(there is train\)"),
        ({"cats/0.png": encoded(), "dogs/0.png": encoded()}, r"\(there is cats, dogs\)"),
        ({**pets(), **pets("Test")}, "x.zip has both Test and test; rename or remove one"),
        ({name: content for name, content in pets().items() if "dog" not in name}, "x.zip has one class; a data set"),
        ({**pets(), "train/fish/": b""}, "^train/fish in .*x.zip holds no images"),
        ({**pets(), "train/fish/0.png": encoded()}, "x.zip must have the same classes but only one has: fish"),
    ):
        with pytest.raises(DataError, match=complaint):
            load(str(write_zip(tmp_path / "x.zip", files)))


def test_image_sizes_in_a_zip_must_agree(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK", 3)  # the other size is in another chunk
    path = write_zip(tmp_path / "x.zip", {**pets(), "test/dog/wide.png": encoded(0, (12, 6))})
    with pytest.raises(DataError, match=r"6x6 but test/dog/.*.png in .*x.zip is 12x6; give --image-size"):
        load(str(path))
    assert load(str(path), image_size=8).input_shape == (1, 8, 8)


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("training", "valid"), ("TRAIN", "validation")])
def test_parts_are_found_by_the_names_that_people_give_them(tmp_path, write, train, test):
    files = {name.replace("train/", f"{train}/"): content for name, content in pets(test).items()}
    name = {write_folder: "pets", write_zip: "pets.zip", write_tar: "pets.tar"}[write]
    plain = load(str(write_zip(tmp_path / "plain.zip", pets())))
    for top in ("", "around/"):
        path = write(tmp_path / (top.strip("/") + name), {f"{top}{one}": content for one, content in files.items()})
        assert load(str(path)).checksum == plain.checksum


def test_val_beside_test_is_said_not_to_be_read(tmp_path, capsys):
    files = {**pets(), "Valid/cat/0.png": b"not looked at"}
    path = write_zip(tmp_path / "pets.zip", files)
    assert load(str(path)).checksum == load(str(write_zip(tmp_path / "plain.zip", pets()))).checksum
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"Valid in {path} is not read: what is kept for validation is part of train")


def test_pictures_of_other_formats_are_said_not_to_be_read(tmp_path, capsys):
    path = write_zip(tmp_path / "pets.zip", {**pets(), "train/cat/x.gif": b"", "train/dog/y.HEIC": b""})
    load(str(path))
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"2 pictures are not read, the first of them train/cat/x.gif in {path}: ")


@pytest.mark.parametrize("system", [0, 3])
@pytest.mark.parametrize("top", ["", ".\\", "pets\\"])
def test_a_zip_that_was_packed_on_windows(tmp_path, system, top):
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in pets().items():
            info = zipfile.ZipInfo(top + name.replace("/", "\\"))
            info.create_system = system
            archive.writestr(info, content)
    there = load(str(write_folder(tmp_path / "pets", pets())))
    assert (load(str(path)).name, load(str(path)).checksum) == (there.name, there.checksum)


def test_paths_with_dots_in_between(tmp_path):
    plain = load(str(write_folder(tmp_path / "pets", pets())))
    for number, middle in enumerate(("/./", "//", "/././")):
        files = {name.replace("/", middle): content for name, content in pets().items()}
        path = tmp_path / str(number) / "pets.zip"
        path.parent.mkdir()
        assert load(str(write_zip(path, files, "././"))).name == plain.name


# --- what pictures are like -----------------------------------------------------------------------------------


def saved(image, kind="PNG", **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def pixels(*contents, name="png"):
    """The first pixels that are decoded of each of these files."""
    return decoding.decode_chunk([(f"{number}.{name}", content) for number, content in enumerate(contents)], None)


DRAWING = np.arange(36, dtype=np.uint8).reshape(6, 6) * 7


def test_an_alpha_channel_that_says_nothing_is_dropped():
    opaque = np.full((6, 6), 255, np.uint8)
    grey = Image.fromarray(np.dstack([DRAWING, opaque]), "LA")
    assert (pixels(saved(grey), saved(Image.fromarray(DRAWING))) == DRAWING).all()
    assert pixels(saved(grey)).shape == (1, 1, 6, 6)
    colour = Image.fromarray(np.dstack([DRAWING, DRAWING, DRAWING, opaque]), "RGBA")
    assert (pixels(saved(colour)) == DRAWING).all()
    assert pixels(saved(colour)).shape == (1, 3, 6, 6)


def transparent():
    black = np.zeros((6, 6), np.uint8)
    yield saved(Image.fromarray(np.dstack([black, black, black, DRAWING]), "RGBA"))
    yield saved(Image.fromarray(np.dstack([black, DRAWING]), "LA"))
    yield saved(Image.fromarray(DRAWING), transparency=7)
    yield saved(Image.fromarray(np.dstack([DRAWING] * 3)), transparency=(7, 7, 7))
    yield saved(Image.fromarray(DRAWING).convert("P"), transparency=bytes(range(256)))


@pytest.mark.parametrize("content", [*transparent()])
def test_a_drawing_in_the_alpha_channel_is_never_read_as_black(content):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=r"0.png has transparent pixels; put it on a background"):
            pixels(content)


def test_one_bit_is_one_channel():
    bits = Image.fromarray(DRAWING).convert("1")
    for kind in ("PNG", "TIFF", "BMP"):
        assert pixels(saved(bits, kind)).shape == (1, 1, 6, 6)
    assert set(pixels(saved(bits)).flat) == {0, 255}


@pytest.mark.parametrize("said", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_turned_as_their_camera_says(said, kind):
    """As Exif 2.32 describes its tag Orientation: where the 0th row and the 0th column of what is stored are seen."""
    wide = Image.fromarray(DRAWING.repeat(2, 1)).convert("RGB").resize((24, 16))
    notes = Image.Exif()
    notes[0x0112] = said
    more = {"lossless": True} if kind == "WEBP" else {}
    content = saved(wide, kind, exif=notes, **more)
    stored = np.asarray(Image.open(io.BytesIO(saved(wide, kind, **more))))
    turned = stored.swapaxes(0, 1) if said > 4 else stored
    rows, columns = 1 - 2 * (said in (3, 4, 7, 8)), 1 - 2 * (said in (2, 3, 6, 7))
    expected = turned[::rows, ::columns]
    found = pixels(content, content)
    assert found[1].transpose(1, 2, 0).tolist() == expected.tolist()


def test_damaged_notes_of_a_camera_are_no_reason_to_refuse_a_picture():
    content = saved(Image.fromarray(DRAWING), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\0\0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(content).shape == (1, 1, 6, 6)


# --- image folders in a .tar --------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize(("top", "kind"), [("", "ustar"), ("./", "pax"), ("my pets/", "gnu"), ("./my pets/", "gnu")])
def test_a_tar_holds_the_same_data_as_its_folder_and_zip(tmp_path, ending, top, kind):
    there = load(str(write_folder(tmp_path / "pets", pets())))
    path = write_tar(tmp_path / f"pets{ending}", pets(), top, FORMATS[kind])
    here = load(str(path))
    assert here.checksum == there.checksum == load(str(write_zip(tmp_path / "pets.zip", pets()))).checksum
    assert torch.equal(here.train.images, there.train.images)
    assert here.test.images[:, 0, 0, 0].tolist() == [10, 11, 110, 111]
    assert here.name == identity(str(path)) == there.name


@pytest.mark.parametrize("kind", FORMATS)
def test_long_and_foreign_names_in_a_tar(tmp_path, kind):
    names = ["train/é\N{SNOWMAN}/x.png", f"train/{'a' * 90}/{'b' * 90}.png"]
    names += [f"train/{'c' * 150}/{'d' * 300}.png", "train/line\nfeed = 1/x.png"] if kind != "ustar" else []
    files = {name: name.encode() for name in names}
    with open_tree(write_tar(tmp_path / "x.tar", files, "", FORMATS[kind])) as archive:
        assert {name: archive.read(name) for name in archive.names("train")} == files


def test_what_packers_add_to_a_tar_and_what_points_outside_is_left_out(tmp_path):
    names = ["._train", "train/cat/._0.png", "train/.DS_Store", "__MACOSX/train/cat/0.png", "README.md"]
    names += ["../out.png", "train/../out.png", "train/cat/../../../out.png", "/train/cat/absolute.png"]
    others = [
        special("./", tarfile.DIRTYPE),
        special("train/cat", tarfile.DIRTYPE),
        special("pax_global_header", tarfile.XGLTYPE),
        special("train/cat/notes.txt", tarfile.SYMTYPE, "/etc/passwd"),
        special("train/cat/pipe", tarfile.FIFOTYPE),
    ]
    others[3].size = others[4].size = 10**6  # which means nothing: no content follows
    junk = dict.fromkeys(names, b"no image") | {other.name: other for other in others}
    plain = load(str(write_zip(tmp_path / "pets.zip", pets())))
    for files in ({**junk, **pets()}, {**pets(), **junk}):
        assert load(str(write_tar(tmp_path / "full.tar.gz", files))).checksum == plain.checksum


def test_of_two_files_of_one_name_the_last_counts(tmp_path):
    """As `tar --append` means it."""
    old = tar_bytes({"train/cat/0.png": b"old"}, "", tarfile.USTAR_FORMAT)[:1024]
    (tmp_path / "x.tar").write_bytes(old + tar_bytes(pets()))
    assert load(str(tmp_path / "x.tar")).checksum == load(str(write_zip(tmp_path / "pets.zip", pets()))).checksum


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S"])
def test_an_image_in_a_tar_must_be_a_file(tmp_path, kind):
    complaint = "it is a link, a device or a sparse file: pack it with --dereference"
    for target in ("train/cat/1.png", "/etc/passwd"):
        path = write_tar(tmp_path / "x.tar", {**pets(), "a": special("train/cat/a.png", kind, target)})
        with pytest.raises(DataError, match=rf"train/cat/a.png in .*x.tar cannot be unpacked \({complaint}"):
            load(str(path))


def test_a_sparse_file_as_pax_describes_it_is_refused(tmp_path):
    sparse = special("train/cat/a.png", tarfile.REGTYPE, **{"GNU.sparse.size": "9", "GNU.sparse.map": "0,9"})
    with pytest.raises(DataError, match="without --sparse"):
        load(str(write_tar(tmp_path / "x.tar", {**pets(), "a": sparse})))


@pytest.mark.parametrize("size", ["-512", "-1024", "-10000"])
def test_a_size_below_0_ends(tmp_path, size):
    """Some Pythons' tarfile goes back by it, and reads the same headers for ever (CVE-2025-8194)."""
    path = write_tar(tmp_path / "x.tar", {**pets(), "a": special("a.png", tarfile.REGTYPE, size=size)})
    with pytest.raises(DataError, match=r"x.tar is not an intact .tar archive"):
        load(str(path))


def test_sizes_without_room_in_their_field(tmp_path):
    """As pax gives them, in a header before, and as GNU tar does, in binary; both for small files here."""
    content = encoded(7)
    pax = special("train/cat/a.png", tarfile.REGTYPE, size=str(len(content))).tobuf(tarfile.PAX_FORMAT)
    gnu = bytearray(special("train/cat/b.png", tarfile.REGTYPE).tobuf(tarfile.GNU_FORMAT))
    gnu[124:136] = b"\x80" + len(content).to_bytes(11, "big")
    gnu[148:156] = b" " * 8
    gnu[148:156] = b"%06o\0 " % sum(gnu)
    block = content.ljust(512, b"\0")
    (tmp_path / "x.tar").write_bytes(pax + block + gnu + block + tar_bytes(pets()))
    images = load(str(tmp_path / "x.tar"), val_fraction=0).train.images
    assert images[:6, 0, 0, 0].tolist() == [10, 11, 12, 13, 7, 7]


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_tar_that_was_cut_off_is_refused_wherever_it_ends(tmp_path, ending):
    path = write_tar(tmp_path / f"x{ending}", pets())
    content = path.read_bytes()
    # Of a plain one the zeros that say where it ends may be cut off but for the first 512.
    end = len(content.rstrip(b"\0")) + 512 if ending == ".tar" else len(content)
    for cut in {0, 1, 5, 100, min(511, end - 4), min(512, end - 3), end // 3, end // 2, end - 9, end - 1}:
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match=rf"x{ending} is not an intact .tar archive .*copy or pack it again"):
            load(str(path))


def test_a_cut_between_two_entries_is_seen_which_tarfile_does_not_see(tmp_path):
    path = write_tar(tmp_path / "x.tar", pets())
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        cut = archive.getmembers()[5].offset
    damaged = whole[:cut] + b"x" + whole[cut + 1 :]
    complaint = "a header is damaged, or it ends too early"
    for content in (whole[:cut], damaged):
        for pack in (bytes, gzip.compress, bz2.compress, lzma.compress):
            path.write_bytes(pack(content))
            with tarfile.open(path) as archive:
                assert len(archive.getmembers()) == 5
            with pytest.raises(DataError, match=rf"x.tar is not an intact .tar archive \({complaint}\)"):
                load(str(path))


def test_what_a_header_says_of_sizes_is_not_believed(tmp_path):
    """A long name of 100 MB, as a small compressed file may have, would be read into memory whole."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 100_000_000
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
    with pytest.raises(DataError, match="a header gives a size of 100,"):
        load(str(path))


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.bz2", ".tar.xz"])
def test_flipped_bits_in_a_compressed_tar_are_seen(tmp_path, ending):
    path = write_tar(tmp_path / f"x{ending}", pets())
    whole = path.read_bytes()
    for place in (len(whole) // 3, len(whole) // 2, len(whole) - 8 if ending == ".tar.gz" else len(whole) - 30):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(DataError, match=f"x{ending} is not an intact .tar archive"):
            load(str(path))


def test_a_tar_of_another_ending(tmp_path):
    plain = load(str(write_zip(tmp_path / "pets.zip", pets())))
    for pack in PACKERS.values():  # the ending says that it is a .tar, its first bytes how it is packed
        (tmp_path / "x.tar.gz").write_bytes(pack(tar_bytes(pets())))
        assert load(str(tmp_path / "x.tar.gz")).checksum == plain.checksum
    (tmp_path / "zip.tar").write_bytes((tmp_path / "pets.zip").read_bytes())
    (tmp_path / "text.tgz").write_bytes(b"text" * 1000)
    (tmp_path / "tar.zip").write_bytes(tar_bytes(pets()))
    for name, complaint in (
        ("zip.tar", "invalid header|bad checksum"),
        ("text.tgz", "invalid header|bad checksum"),
        ("tar.zip", "zip file"),
    ):
        with pytest.raises(DataError, match=f"{name} is not an intact .* archive .*{complaint}"):
            load(str(tmp_path / name))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_parts_that_were_compressed_alone(tmp_path, pack):
    content = tar_bytes(pets())
    (tmp_path / "x.tar").write_bytes(pack(content[:3000]) + pack(content[3000:]))
    assert load(str(tmp_path / "x.tar")).checksum == load(str(write_zip(tmp_path / "x.zip", pets()))).checksum


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_bombs_in_a_tar_are_unpacked_only_to_their_bounds(tmp_path, monkeypatch, ending):
    image = write_tar(tmp_path / f"x{ending}", {**pets(), "train/cat/bomb.png": bytes(10_000_000)})
    monkeypatch.setattr(tree, "MAX_ENTRY_BYTES", 10_000)
    with pytest.raises(DataError, match=r"bomb.png in .* unpacks to more than 10,000 bytes"):
        load(str(image))


def test_a_compressed_tar_is_unpacked_once_for_its_names_its_identity_and_its_images(tmp_path, monkeypatch):
    """To go back is to unpack it from its start."""
    places, original = [], lzma.LZMAFile.seek

    def seek(self, offset, whence=os.SEEK_SET):
        places.append(offset)
        return original(self, offset, whence)

    monkeypatch.setattr(lzma.LZMAFile, "seek", seek)
    monkeypatch.setattr(decoding, "CHUNK", 3)
    path = write_tar(tmp_path / "x.tar.xz", pets())
    for unpacked in (3, 5):  # the second time the images come from the cache
        load(str(path))
        assert 1 + sum(after < before for before, after in itertools.pairwise(places)) == unpacked


# --- decoding -----------------------------------------------------------------------------------------------


def test_gray_chunks_before_and_after_the_first_colour_image(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK", 2)
    files = {**pets(), "train/cat/3.png": encoded((255, 0, 10), mode="RGB")}
    images = load(str(write_zip(tmp_path / "x.zip", files)), val_fraction=0).train.images
    assert images[:, :, 2, 3].tolist() == [[v] * 3 for v in (10, 11, 12)] + [[255, 0, 10]] + [
        [v] * 3 for v in (110, 111, 112, 113)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("side", [None, 5])
def test_processes_decode_what_one_does(tmp_path, monkeypatch, side, write):
    rng = np.random.default_rng(0)
    files = {}
    for i in range(20):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "JPEG")
        files[f"train/a/{i:02}.jpg"] = file.getvalue()
    names = sorted(files)
    monkeypatch.setattr(decoding, "CHUNK", 3)
    with open_tree(write(tmp_path / ("x.zip" if write is write_zip else "x.tar.xz"), files)) as archive:
        alone = decoding.decode(archive, names, side)
        monkeypatch.setattr(decoding, "ALONE_SECONDS", -1)
        monkeypatch.setattr(decoding, "_processes", lambda: 2)
        assert np.array_equal(decoding.decode(archive, names, side), alone)
    assert alone.shape == (20, 3, side or 8, side or 8)
    if side is None:
        for name, pixels in zip(names, alone, strict=True):
            assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(files[name]))).transpose(2, 0, 1))


def test_errors_come_through_from_processes_and_nothing_is_lost_without_them(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK", 1)
    monkeypatch.setattr(decoding, "ALONE_SECONDS", -1)
    monkeypatch.setattr(decoding, "_processes", lambda: 2)
    files = {"a.png": encoded(1), "b.png": b"no picture"}
    with pytest.raises(DataError, match=r"b.png is not a readable image"):
        decoding.decode(Folder(write_folder(tmp_path, files)), ["a.png", "b.png"], None)

    def broken(*_):
        raise BrokenProcessPool

    monkeypatch.setattr(decoding, "ProcessPoolExecutor", broken)
    assert decoding.decode(Folder(tmp_path), ["a.png", "a.png"], None)[:, 0, 0, 0].tolist() == [1, 1]


def test_a_bar_appears_on_a_terminal_that_waits(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, patience, expected in ((Terminal(), 0, True), (Terminal(), 60, False), (io.StringIO(), 0, False)):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr(base, "PATIENCE", patience)
        assert list(base.counted([b"ab", b"c", b"def"], "eating", 6)) == [b"ab", b"c", b"def"]
        assert ("eating" in stream.getvalue()) == expected


# --- the cache ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
def test_pixels_are_decoded_once_for_a_content_and_size(tmp_path, write, decoded, capsys):
    name = "pets.tar.gz" if write is write_tar else "pets.zip"
    path = str(write(tmp_path / name, pets()))
    first = load(path)
    assert len(decoded) == 12
    again = load(path, val_fraction=0.25)
    assert len(decoded) == 12
    assert again.checksum == first.checksum
    assert torch.equal(again.test.images, first.test.images)
    load(path, image_size=3)
    assert len(decoded) == 24
    assert load(path, image_size=3).input_shape == (1, 3, 3)
    assert len(decoded) == 24
    write(tmp_path / name, pets(value=11))
    assert load(path).checksum != first.checksum
    assert len(decoded) == 36
    assert capsys.readouterr().err == "", "those of the cache say nothing"


def spoil_end(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("spoil", [spoil_end, lambda c: c[:-1], lambda c: c[:20], lambda c: b"", lambda c: b"{}" * 50])
def test_a_damaged_cache_is_reported_and_made_again(tmp_path, decoded, capsys, spoil):
    path = str(write_zip(tmp_path / "pets.zip", pets()))
    first = load(path)
    file = the_cached_file(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(spoil(whole))
    assert load(path).checksum == first.checksum
    assert len(decoded) == 24
    message = capsys.readouterr().err
    assert message.startswith(f"the cached images in {file} are damaged (")
    assert message.count("\n") == 1
    assert the_cached_file(tmp_path).read_bytes() == whole
    load(path)
    assert len(decoded) == 24


def test_a_cache_of_other_images_is_refused(tmp_path, capsys):
    path = str(write_zip(tmp_path / "pets.zip", pets()))
    load(path)
    file = the_cached_file(tmp_path)
    for images in (np.zeros((12, 1, 6, 6), np.float32), np.zeros((11, 1, 6, 6), np.uint8), np.zeros((12, 6), np.uint8)):
        cache._store(file, images)
        load(path)
        assert "not 12 images but" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch, decoded, capsys):
    path = str(write_zip(tmp_path / "pets.zip", pets()))
    (tmp_path / "cache").write_text("a file where the folder should be")
    for _ in range(2):
        assert len(load(path).test) == 4
    assert len(decoded) == 24
    assert capsys.readouterr().err == ""


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    assert len(load(str(write_zip(tmp_path / "pets.zip", pets()))).test) == 4
    assert list((tmp_path / "cache" / "dwfbench" / "decoded").iterdir()) == []


def test_what_is_decoded_at_once_is_not_cached(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "WORTH_SECONDS", 60)
    load(str(write_zip(tmp_path / "pets.zip", pets())))
    assert not (tmp_path / "cache").exists()


# --- Tiny ImageNet ------------------------------------------------------------------------------------------


def tiny(classes=("n03", "n01"), count=3):
    """Files in the official layout; image i of class c is constant 10 c + i, classes numbered as given."""
    files = {"wnids.txt": "\n".join(classes).encode(), "words.txt": b"", "test/images/test_0.JPEG": b"no label"}
    rows = []
    for c, wnid in enumerate(classes):
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b""
        for i in range(count):
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = encoded((10 * c + i,) * 3, (64, 64), "RGB", "JPEG")
        files[f"val/images/val_{c}.JPEG"] = encoded(100 + c, (64, 64), "L", "JPEG")
        rows.append(f"val_{c}.JPEG\t{wnid}\t0\t0\t62\t62")
    files["val/val_annotations.txt"] = "\n".join([*rows, ""]).encode()
    return files


def write_tiny(root, files, zipped):
    root.mkdir(parents=True, exist_ok=True)
    if zipped:
        return write_zip(root / "tiny-imagenet-200.zip", files, "tiny-imagenet-200/")
    return write_folder(root / "tiny-imagenet-200", files)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("place", ["", "tiny-imagenet"])
def test_tiny_imagenet_from_folder_and_archive(tmp_path, zipped, place, decoded):
    write_tiny(tmp_path / place, tiny(), zipped)
    dataset = load("tiny-imagenet", data_dir=tmp_path, val_fraction=0)
    assert (dataset.name, dataset.classes, dataset.input_shape) == ("tiny-imagenet", 2, (3, 64, 64))
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]  # n01 comes first, whatever wnids.txt says
    assert dataset.train.images[:, 0, 5, 5].tolist() == [10, 11, 12, 0, 1, 2]
    assert dataset.test.labels.tolist() == [1, 0]
    assert dataset.test.images[:, 2, 5, 5].tolist() == [100, 101]
    assert len(decoded) == 8
    assert load("tiny-imagenet", data_dir=tmp_path, image_size=32).input_shape == (3, 32, 32)
    assert len(decoded) == 8
    assert identity("tiny-imagenet") == "tiny-imagenet"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"val/val_annotations.txt": b"val_0.JPEG\tn03\n"}, r"val/images/val_1.JPEG .*is not both"),
        ({"val/val_annotations.txt": b"val_0.JPEG n03\n"}, r"val_annotations.txt .*does not hold lines"),
        ({"val/val_annotations.txt": b"\xff\xfe"}, r"val_annotations.txt .*does not hold lines"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn03\nval_1.JPEG\tn99\n"}, r"the class n99, which train does not"),
        ({"train/n01/images/n01_0.JPEG": b"\xff\xd8\xff cut"}, r"n01_0.JPEG .*is not a readable image"),
    ],
)
def test_damaged_tiny_imagenet_is_refused(tmp_path, change, complaint):
    write_tiny(tmp_path, {**tiny(), **change}, zipped=True)
    with pytest.raises(DataError, match=complaint):
        load("tiny-imagenet", data_dir=tmp_path)


@pytest.fixture
def server(tmp_path):
    """A server of the files in the folder `served`: its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    (tmp_path / "served").mkdir()
    handler = functools.partial(Quiet, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_tiny_imagenet_is_downloaded_checked_and_kept(tmp_path, monkeypatch, server, capsys):
    archive = write_tiny(tmp_path / "served", tiny(), zipped=True)
    monkeypatch.setattr(tiny_imagenet, "URL", f"{server}/{archive.name}")
    with pytest.raises(DataError, match=r"tiny-imagenet are not in any of .*--data-dir"):
        load("tiny-imagenet", data_dir=tmp_path / "here", download=False)
    with pytest.raises(DataError, match=r"download into .*here failed \(.*MD5 is .* and not 90528d7c.*--data-dir"):
        load("tiny-imagenet", data_dir=tmp_path / "here")
    assert list((tmp_path / "here").iterdir()) == []  # neither the wrong file nor a part of it
    monkeypatch.setattr(tiny_imagenet, "MD5", md5(archive.read_bytes()).hexdigest())
    assert len(load("tiny-imagenet", data_dir=tmp_path / "here").test) == 2
    assert capsys.readouterr().err == f"downloading tiny-imagenet into {tmp_path / 'here'}\n" * 2
    assert (tmp_path / "here" / archive.name).read_bytes() == archive.read_bytes()
    monkeypatch.setattr(tiny_imagenet, "URL", f"{server}/absent")
    assert len(load("tiny-imagenet", data_dir=tmp_path / "here").test) == 2  # not downloaded again
    with pytest.raises(DataError, match=r"failed \(HTTP Error 404"):
        load("tiny-imagenet", data_dir=tmp_path / "elsewhere")


# --- CIFAR --------------------------------------------------------------------------------------------------


def write_cifar(root, monkeypatch, name="cifar10"):
    """Two small training batches and a test batch as torchvision expects them, with their MD5 taken for official."""
    kind = getattr(torchvision.datasets, name.upper())
    key, names = ("labels", "label_names") if name == "cifar10" else ("fine_labels", "fine_label_names")
    rng = np.random.default_rng(0)
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    content = {f: {"data": rng.integers(0, 256, (5, 3072), dtype=np.uint8), key: [0, 1, 2, 3, 9]} for f in "abt"}
    content["m"] = {names: [str(i) for i in range(int(name[5:]))]}
    for file, value in content.items():
        (folder / file).write_bytes(pickle.dumps(value))
    listed = {file: [file, md5((folder / file).read_bytes()).hexdigest()] for file in content}
    monkeypatch.setattr(kind, "train_list", [listed["a"], listed["b"]])
    monkeypatch.setattr(kind, "test_list", [listed["t"]])
    monkeypatch.setattr(kind, "meta", {"filename": "m", "key": names, "md5": listed["m"][1]})
    return folder, content


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("layout", ["", "{name}", "itself"])
def test_cifar_in_torchvisions_layout(tmp_path, monkeypatch, name, layout):
    folder, content = write_cifar(tmp_path / layout.format(name=name), monkeypatch, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's about torchvision's old pickles
        dataset = load(name, data_dir=folder if layout == "itself" else tmp_path, val_fraction=0, download=False)
    assert (dataset.name, dataset.classes, dataset.input_shape) == (name, int(name[5:]), (3, 32, 32))
    assert dataset.train.labels.tolist() == [0, 1, 2, 3, 9] * 2
    expected = np.concatenate([content["a"]["data"], content["b"]["data"]]).reshape(-1, 3, 32, 32)
    assert np.array_equal(dataset.train.images.numpy(), expected)
    assert np.array_equal(dataset.test.images.numpy().reshape(5, -1), content["t"]["data"])


class Evil:
    """Unpickling this would be noticed."""

    def __reduce__(self):
        return pytest.fail, ("a file with a wrong MD5 was unpickled",)


@pytest.mark.parametrize("file", ["a", "t", "m"])
def test_cifar_with_a_wrong_md5_is_never_unpickled(tmp_path, monkeypatch, file):
    folder, _ = write_cifar(tmp_path, monkeypatch)
    (folder / file).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match=rf"cifar-10-batches-py/{file} is damaged: its MD5 .*remove .*--data-dir"):
        load("cifar10", data_dir=tmp_path)


def test_cifar_is_downloaded_where_it_is_absent(tmp_path, monkeypatch):
    write_cifar(tmp_path / "there", monkeypatch)

    def download(self):
        os.rename(tmp_path / "there" / self.base_folder, os.path.join(self.root, self.base_folder))

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", download)
    (tmp_path / "here").mkdir()
    with pytest.raises(DataError, match="cifar10 are not in any of"):
        load("cifar10", data_dir=tmp_path / "here", download=False)
    assert len(load("cifar10", data_dir=tmp_path / "here").test) == 5
    assert len(load("cifar10", data_dir=tmp_path / "here", download=False).test) == 5
