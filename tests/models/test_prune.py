"""Schedule, scores and masks of gradual magnitude pruning."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")

from torch import nn  # noqa: E402

from edgesparse.errors import UsageError  # noqa: E402
from edgesparse.models import prune  # noqa: E402
from edgesparse.models.mobilenet_v1 import mobilenet_v1  # noqa: E402


def random_weight(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiny_network():
    return mobilenet_v1(width=0.25, num_classes=10, blocks=((64, 1), (64, 2)))


def test_schedule_is_cubic_between_begin_and_end():
    def due(step):
        return prune.cubic_sparsity(step, begin=100, end=300, initial=0.1, final=0.9)

    assert [due(step) for step in (0, 100)] == [pytest.approx(0.1)] * 2
    assert [due(step) for step in (300, 1000)] == [0.9, 0.9]
    # At half way a cube of 1/2 of the gap is left, at three quarters a cube of 1/4.
    assert due(200) == pytest.approx(0.9 - 0.8 / 8)
    assert due(250) == pytest.approx(0.9 - 0.8 / 64)


def test_schedule_rises_ever_more_slowly():
    steps = [prune.cubic_sparsity(step, begin=0, end=50, final=0.8) for step in range(51)]
    rises = [later - earlier for earlier, later in itertools.pairwise(steps)]
    assert all(rise > 0 for rise in rises)
    assert rises == sorted(rises, reverse=True)


def test_schedule_without_ramp_is_a_step():
    assert prune.cubic_sparsity(5, begin=5, end=5, final=0.5) == 0.5


@pytest.mark.parametrize("sparsity", [0.0, 0.05, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("pattern", prune.PATTERNS)
def test_mask_has_exactly_the_asked_sparsity(sparsity, pattern):
    weight = random_weight(48, 30, 1, 1)
    blocks = weight.numel() // prune.PATTERNS[pattern]
    mask = prune.magnitude_mask(weight, sparsity, pattern=pattern)
    assert mask.shape == weight.shape
    assert int((~mask).sum()) == round(sparsity * blocks) * prune.PATTERNS[pattern]


def test_mask_is_exact_when_all_scores_tie():
    assert int((~prune.magnitude_mask(torch.zeros(10, 10), 0.37)).sum()) == 37


def test_mask_prunes_the_smallest_magnitudes():
    weight = random_weight(16, 16)
    mask = prune.magnitude_mask(weight, 0.75)
    assert weight[~mask].abs().max() <= weight[mask].abs().min()


@pytest.mark.parametrize("pattern", ["block2", "block4", "block8"])
@pytest.mark.parametrize("rows", [16, 19])
def test_blocks_of_rows_share_their_columns(pattern, rows):
    weight = random_weight(rows, 6, 3, 3)
    mask = prune.magnitude_mask(weight, 0.6, pattern=pattern).flatten(1)
    for block in mask.split(prune.PATTERNS[pattern]):
        assert torch.equal(block, block[:1].expand_as(block))
    assert len(torch.unique(mask, dim=0)) > 1  # blocks choose their columns for themselves


def test_blocks_are_ordered_by_l2_norm():
    weight = random_weight(8, 5)
    norms = weight.reshape(2, 4, 5).norm(dim=1).flatten()
    assert torch.equal(prune.block_scores(weight, 4).flatten().argsort(), norms.argsort())


def test_short_last_block_is_judged_by_its_mean():
    scores = prune.block_scores(torch.ones(10, 3), 4)
    torch.testing.assert_close(scores, torch.ones(3, 3))


def test_stem_and_depthwise_stay_dense():
    assert list(prune.prunable_layers(tiny_network())) == [
        "block1.pointwise.conv",
        "block2.pointwise.conv",
        "linear",
    ]


def test_masks_never_grow_back_while_the_sparsity_rises():
    layers = {"linear": nn.Linear(20, 20)}
    zeros = torch.zeros(20, 20, dtype=torch.bool)
    for step in range(0, 60, 5):
        due = prune.cubic_sparsity(step, begin=0, end=50, final=0.8)
        prune.apply_masks(layers, prune.update_masks(layers, due))
        now = layers["linear"].weight == 0
        assert bool((zeros & now).eq(zeros).all())
        zeros = now
    assert int(zeros.sum()) == 320


def test_prune_once_and_count_agree():
    model = tiny_network()
    prune.prune_once(model, 0.8, pattern="block2")
    rows = prune.count_zeros(prune.prunable_layers(model))
    assert [row["shape"] for row in rows] == [[16, 8, 1, 1], [16, 16, 1, 1], [10, 16]]
    assert [row["zeros"] for row in rows] == [102, 204, 128]
    assert rows[0]["sparsity"] == 102 / 128


def test_unknown_pattern_names_the_known_ones():
    with pytest.raises(UsageError, match="pattern 'block3' is unknown") as caught:
        prune.magnitude_mask(torch.ones(4, 4), 0.5, pattern="block3")
    assert caught.value.hint == "use one of: unstructured, block2, block4, block8"


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 80.0, float("nan")])
def test_sparsity_outside_the_unit_interval_is_refused(sparsity):
    with pytest.raises(UsageError, match="expected at least 0 and less than 1"):
        prune.magnitude_mask(torch.ones(4, 4), sparsity)
