"""Augmentation: shifts against padding and slicing, flips, rotations against rot90, streams of numbers, lanes."""

import pytest
import torch
from torch.nn import functional as F

from dwfbench.base.errors import UsageError
from dwfbench.data import augment
from dwfbench.data.augment import apply, crop, draw, rotate, shift
from dwfbench.runs.spec import AUGMENTATIONS


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=generator(seed), dtype=torch.uint8)


def still(count):
    return torch.zeros(count, dtype=torch.long)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_every_crop_is_padding_and_slicing_bit_by_bit(dtype):
    shifts = torch.cartesian_prod(torch.arange(-4, 5), torch.arange(-4, 5))
    images = pictures(81, 3, 32, 32).to(dtype)
    padded = F.pad(images, (4, 4, 4, 4))
    for flip in (False, True):
        result = crop(images, *shifts.T, torch.full((81,), flip))
        for n, (down, right) in enumerate(shifts.tolist()):
            expected = padded[n, :, 4 + down : 36 + down, 4 + right : 36 + right]
            assert torch.equal(result[n], expected.flip(-1) if flip else expected)


def test_crop_by_hand_moves_the_window_not_the_picture():
    image = torch.arange(64).view(1, 1, 8, 8)
    moved = crop(image, torch.tensor([1]), torch.tensor([-1]), torch.tensor([False]))[0, 0]
    assert moved[0].tolist() == [0, 8, 9, 10, 11, 12, 13, 14]  # one row further down, a black column from the left
    assert moved[7].tolist() == [0] * 8
    mirrored = crop(image, still(1), still(1), torch.tensor([True]))[0, 0]
    assert mirrored[0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(("side", "most"), [(32, 4), (64, 8), (28, 3), (7, 0)])
def test_shifts_are_uniform_over_an_eighth_of_the_side(side, most):
    counts = (shift(torch.arange(0, 1, 1e-4), side) + most).bincount()
    assert len(counts) == 2 * most + 1
    assert counts.min() >= counts.max() - 1
    assert shift(torch.tensor([0.0, 1 - 2**-24]), side).tolist() == [-most, most]


def test_no_rotation_is_the_identity():
    images = pictures(4, 3, 9, 12)
    assert torch.equal(rotate(images, torch.zeros(4)), images)
    images = torch.randn(4, 3, 9, 12, generator=generator())
    torch.testing.assert_close(rotate(images, torch.zeros(4)), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_right_angles_are_rot90(degrees, turns):
    images = torch.rand(5, 3, 16, 16, generator=generator())
    turned = rotate(images, torch.full((5,), float(degrees)))
    torch.testing.assert_close(turned, images.rot90(turns, (-2, -1)), atol=1e-4, rtol=0)


def test_rotation_of_an_oblong_image_keeps_distances():
    image = torch.zeros(1, 1, 21, 41)
    image[..., 10, 26] = 1  # six pixels right of the centre
    turned = rotate(image, torch.tensor([90.0]))
    assert turned[0, 0, 4, 20] == pytest.approx(1, abs=1e-4)  # six above it
    assert turned.sum() == pytest.approx(1, abs=1e-3)


def test_small_rotations_are_those_of_torchvision():
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import rotate as reference

    images = torch.rand(3, 3, 32, 32, generator=generator())
    angles = [-15.0, 4.0, 11.0]
    for turned, image, angle in zip(rotate(images, torch.tensor(angles)), images, angles, strict=True):
        torch.testing.assert_close(turned, reference(image, angle, InterpolationMode.BILINEAR), atol=1e-4, rtol=0)


def test_standard_is_the_crop_and_flip_its_numbers_say():
    images = pictures(2, 3, 32, 32)
    numbers = torch.tensor([[0.0, 0.999, 0.2], [0.5, 0.5, 0.7]])  # up and right, mirrored; untouched
    result = apply("standard", images, numbers)
    assert torch.equal(result[0], F.pad(images[0], (4, 4, 4, 4))[:, :32, 8:].flip(-1))
    assert torch.equal(result[1], images[1])


def test_paper_is_standard_and_a_rotation():
    images = torch.rand(64, 3, 32, 32, generator=generator())
    numbers = draw("paper", 64, generator(1))
    expected = rotate(apply("standard", images, numbers[:, :3]), 30 * numbers[:, 3] - 15)
    torch.testing.assert_close(apply("paper", images, numbers), expected, atol=1e-4, rtol=0)


def test_half_the_images_are_mirrored_and_angles_span_their_range():
    numbers = draw("paper", 10_000, generator())
    assert (numbers[:, 2] < 0.5).float().mean() == pytest.approx(0.5, abs=0.02)
    assert numbers.min() >= 0
    assert numbers.max() < 1


def test_none_changes_neither_images_nor_generator():
    random = generator()
    numbers = draw("none", 4, random, steps=3)
    assert numbers.shape == (3, 4, 0)
    assert torch.equal(random.get_state(), generator().get_state())
    images = pictures(4, 1, 8, 8)
    assert apply("none", images, numbers[0]) is images


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_an_epoch_drawn_at_once_is_drawn_batch_by_batch(kind):
    random = generator(3)
    epoch = draw(kind, 5, generator(3), steps=7)
    assert epoch.dtype == torch.float32
    assert torch.equal(epoch, torch.stack([draw(kind, 5, random) for _ in range(7)]))


@pytest.mark.parametrize("kind", AUGMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_lanes_are_augmented_like_single_batches(kind, dtype):
    images = pictures(3, 5, 1, 16, 16).to(dtype)
    numbers = draw(kind, 5, generator(), steps=3)
    before = images.clone()
    result = apply(kind, images, numbers)
    assert result.shape == images.shape
    assert result.dtype == dtype
    assert torch.equal(images, before)
    for lane in range(3):
        assert torch.equal(result[lane], apply(kind, images[lane], numbers[lane]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["standard", "paper"])
def test_apply_is_one_graph(kind):
    compiled = torch.compile(apply, fullgraph=True, backend="eager")  # traces all, needs no compiler
    images, numbers = pictures(8, 3, 32, 32), draw(kind, 8, generator())
    assert torch.equal(compiled(kind, images, numbers), apply(kind, images, numbers))


def test_unknown_kinds_and_foreign_numbers_are_refused():
    with pytest.raises(UsageError, match="'strong'; choose one of none, standard, paper"):
        draw("strong", 4, generator())
    with pytest.raises(UsageError, match="not drawn for the augmentation 'paper'"):
        apply("paper", pictures(4, 1, 8, 8), draw("standard", 4, generator()))
    assert set(augment._NUMBERS) == set(AUGMENTATIONS)
