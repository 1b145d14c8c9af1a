import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdigits import augment, hands

# Compiled, as in a training: one by one, each operation would be compiled for itself.
MOVES = ("max_shift", "max_scale", "max_shear", "max_slant", "max_bend", "stretch")
random_affine = jax.jit(augment.random_affine, static_argnames=MOVES)
random_ink, random_damage = jax.jit(augment.random_ink), jax.jit(augment.random_damage)
random_hand = jax.jit(hands.random_hand)

STILL = {"max_shift": 0.0, "max_scale": 0.0, "max_shear": 0.0}


@pytest.fixture(scope="module")
def images(mnist):
    return jnp.asarray(mnist.test.images[:64])


def centres(images):
    """The centre of mass of each image, [n, 2] as row and column."""
    mass = np.asarray(images, np.float64)[..., 0]
    at = np.arange(28)
    total = mass.sum((1, 2))
    return np.stack([(mass.sum(2) * at).sum(1) / total, (mass.sum(1) * at).sum(1) / total], 1)


@pytest.mark.parametrize("shear", [0.0, 1e-9])
def test_nothing_happens_where_nothing_may(images, shear):
    same = random_affine(jax.random.key(0), images, **(STILL | {"max_shear": shear}))
    np.testing.assert_allclose(same, images, atol=1e-3)


@pytest.mark.parametrize("limits", [(2, 0, 0), (0, 0.2, 0), (0, 0, 0.2), (2, 0.1, 0.15)])
def test_pixels_keep_their_range_and_the_key_decides(images, limits):
    limits = dict(zip(STILL, map(float, limits), strict=True))
    first, again, other = (random_affine(jax.random.key(seed), images, **limits) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == images.shape
    assert first.dtype == jnp.float32
    assert float(first.min()) >= 0
    assert float(first.max()) <= 255 + 1e-3


@pytest.mark.parametrize("shear", [0.0, 1e-9])
def test_shifts_reach_their_limit_and_no_further(shear):
    many = jnp.zeros((2000, 28, 28, 1), jnp.uint8).at[:, 8:17, 9:21].set(200)
    moved = random_affine(jax.random.key(0), many, **(STILL | {"max_shift": 2.0, "max_shear": shear}))
    away = centres(moved) - centres(many)
    assert np.abs(away).max() <= 2 + 1e-4
    assert np.abs(away).max(axis=0).min() > 1.95
    assert np.abs(away.mean(axis=0)).max() < 0.1


def test_scaling_and_shearing_leave_the_middle_where_it_is():
    dot = np.zeros((500, 28, 28, 1), np.uint8)
    dot[:, 13:15, 13:15] = 255
    moved = random_affine(jax.random.key(0), jnp.asarray(dot), max_shift=0.0, max_scale=0.2, max_shear=0.2)
    np.testing.assert_allclose(centres(moved), 13.5, atol=1e-3)


def test_a_shear_turns_an_upright_stroke_by_its_angle():
    stroke = np.zeros((2000, 28, 28, 1), np.uint8)
    stroke[:, 6:22, 13:15] = 255
    moved = random_affine(jax.random.key(0), jnp.asarray(stroke), **(STILL | {"max_shear": 0.2}))
    rows = np.asarray(moved)[..., 0]
    columns = (rows * np.arange(28)).sum(2) / np.maximum(rows.sum(2), 1e-6)
    slope = (columns[:, 18] - columns[:, 9]) / 9
    assert 0.15 < np.abs(slope).max() < 0.25
    assert abs(slope.mean()) < 0.02


def test_a_bend_moves_strokes_by_no_more_than_its_limit(images):
    dot = np.zeros((500, 28, 28, 1), np.uint8)
    dot[:, 6, 20] = 255
    moved = random_affine(jax.random.key(0), jnp.asarray(dot), **STILL, max_bend=2.0)
    away = centres(moved) - [6, 20]
    assert np.abs(away).max() <= 2 + 1e-3
    assert (np.abs(away).max(axis=0) > 1.5).all()
    bent = random_affine(jax.random.key(0), images, **STILL, max_bend=2.0)
    np.testing.assert_allclose(bent.sum((1, 2)), images.sum((1, 2), dtype=jnp.float32), rtol=0.05)


def extents(images):
    """The height and the width of each image's ink, [n, 2]."""
    ink = np.asarray(images)[..., 0] > 64
    return np.stack([ink.any(2).sum(1), ink.any(1).sum(1)], 1)


def test_a_stretch_gives_digits_any_aspect_and_keeps_them_in_their_box(images):
    many = jnp.tile(images, (16, 1, 1, 1))
    before, same = extents(many), random_affine(jax.random.key(0), many, **STILL)
    after = extents(random_affine(jax.random.key(0), many, **STILL, stretch=1.0))
    assert after.max() <= 24
    ratio = (after[:, 1] / after[:, 0]) / (before[:, 1] / before[:, 0])
    assert np.quantile(ratio, 0.02) < 0.75
    narrow = before[:, 1] < 10
    assert np.median(after[narrow, 1]) >= 15
    assert (np.abs(after[narrow, 0] - before[narrow, 0]) <= 2).all()
    some = extents(random_affine(jax.random.key(0), many, **STILL, stretch=0.25))
    assert 0.1 < (some != extents(same)).any(axis=1).mean() < 0.3


@pytest.mark.parametrize(("digit", "change"), [(1, "wider"), (7, "barred"), (0, "same"), (4, "same")])
def test_other_hands_write_ones_and_sevens_otherwise_and_nothing_else(mnist, digit, change):
    images = mnist.test.images[mnist.test.labels == digit][:100]
    labels = jnp.full(len(images), digit, jnp.int32)
    drawn = np.asarray(random_hand(jax.random.key(0), images, labels, share=1.0))
    added = drawn - images.astype(np.float32)
    assert added.min() > -1e-3
    assert drawn.max() <= 255 + 1e-3
    if change == "same":
        np.testing.assert_allclose(drawn, images, atol=1e-3)
    elif change == "wider":
        assert (extents(drawn)[:, 1] > extents(images)[:, 1] + 1).mean() > 0.8
    else:  # on both sides of the stem, near the middle
        barred = extents(added)[:, 1] > 2
        assert barred.mean() > 0.8
        rows = (np.asarray(images)[..., 0] > 64).any(2)
        middle = (rows * np.arange(28)).sum(1) / rows.sum(1)
        assert (np.abs(centres(added[barred])[:, 0] - middle[barred]) < 3).mean() > 0.9
    few = np.asarray(random_hand(jax.random.key(0), images, labels, share=0.0))
    np.testing.assert_allclose(few, images, atol=1e-3)


def test_a_slant_moves_rows_only():
    stroke = np.zeros((500, 28, 28, 1), np.uint8)
    stroke[:, 6:22, 13:15] = 255
    slanted = np.asarray(random_affine(jax.random.key(0), jnp.asarray(stroke), **STILL, max_slant=0.3))
    np.testing.assert_allclose(slanted.sum(2), stroke.sum(2), rtol=1e-4)
    assert not np.allclose(slanted, stroke, atol=50)


@pytest.mark.parametrize("change", [random_ink, random_damage], ids=["ink", "damage"])
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_ink_and_damage_keep_the_range_and_leave_their_share_alone(images, change, share):
    many = jnp.tile(images.astype(jnp.float32), (16, 1, 1, 1))
    first, again, other = (change(jax.random.key(seed), many, share=share) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == many.shape
    assert float(first.min()) >= 0
    assert float(first.max()) <= 255 + 1e-3
    same = np.isclose(first, many, atol=1e-2).all(axis=(1, 2, 3)).mean()
    assert 0.5 < same < 1 if share == 0.05 else same < 0.3


def test_ink_neither_comes_from_nothing_nor_goes_away(images):
    assert not random_ink(jax.random.key(0), jnp.zeros((64, 28, 28, 1)), share=1.0).any()
    drawn = random_ink(jax.random.key(0), images.astype(jnp.float32), share=0.5)
    assert float(drawn.max(axis=(1, 2, 3)).min()) > 20


def test_no_strength_is_no_change(images):
    limits = {"max_shift": 3.0, "max_scale": 0.2, "max_shear": 0.3, "max_slant": 0.2, "max_bend": 1.0}
    limits["stretch"] = 1.0
    still = random_affine(jax.random.key(0), images, **limits, strength=0.0)
    np.testing.assert_allclose(still, images, atol=1e-3)
    for change in (random_ink, random_damage):
        same = change(jax.random.key(0), images.astype(jnp.float32), share=jnp.float32(0))
        np.testing.assert_allclose(same, images, atol=1e-3)
