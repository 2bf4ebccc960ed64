"""Schedule, patterns, ratios and the pruner."""

from __future__ import annotations

import itertools
import re

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")

from torch import nn  # noqa: E402

from edgesparse.errors import UsageError  # noqa: E402
from edgesparse.models import prune  # noqa: E402
from edgesparse.models.mobilenet_v1 import mobilenet_v1  # noqa: E402
from edgesparse.models.recipes import layers, patterns, ratios, schedules  # noqa: E402

BLOCKS = {"unstructured": 1, "block2": 2, "block4": 4, "block8": 8}


def conv(rows, channels, kernel=1, seed=0):
    torch.manual_seed(seed)
    return nn.Conv2d(channels, rows, kernel)


def tiny_network():
    return mobilenet_v1(width=0.25, num_classes=10, blocks=((64, 1), (64, 2)))


def mask_of(layer, sparsity, name):
    return prune.magnitude_mask(layer, sparsity, prune.parse_pattern(name))


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


def test_linear_decay():
    found = [schedules.linear_decay(step, begin=2, end=6) for step in range(8)]
    assert found == [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]


@pytest.mark.parametrize("sparsity", [0.0, 0.05, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("pattern", BLOCKS)
def test_mask_has_exactly_the_asked_sparsity(sparsity, pattern):
    layer = conv(48, 30)
    mask = mask_of(layer, sparsity, pattern)
    assert mask.shape == layer.weight.shape
    blocks = layer.weight.numel() // BLOCKS[pattern]
    assert int((~mask).sum()) == round(sparsity * blocks) * BLOCKS[pattern]


@pytest.mark.parametrize(("pattern", "left"), [("unstructured", 1), ("block16", 16)])
def test_no_layer_is_pruned_away(pattern, left):
    mask = mask_of(nn.Linear(16, 16), 0.999, pattern)
    assert int(mask.sum()) == left


def test_mask_is_exact_when_all_scores_tie():
    layer = nn.Linear(10, 10)
    nn.init.zeros_(layer.weight)
    assert int((~mask_of(layer, 0.37, "unstructured")).sum()) == 37


def test_mask_prunes_the_smallest_magnitudes():
    layer = conv(16, 16)
    mask = mask_of(layer, 0.75, "unstructured")
    assert layer.weight[~mask].abs().max() <= layer.weight[mask].abs().min()


@pytest.mark.parametrize("pattern", ["block2", "block4", "block8"])
@pytest.mark.parametrize("rows", [16, 19])
def test_blocks_of_rows_share_their_columns(pattern, rows):
    mask = mask_of(conv(rows, 6, 3), 0.6, pattern).flatten(1)
    for block in mask.split(BLOCKS[pattern]):
        assert torch.equal(block, block[:1].expand_as(block))
    assert len(torch.unique(mask, dim=0)) > 1  # blocks choose their columns for themselves


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_blocks_times_quads_are_of_channels_not_of_taps(kind):
    torch.manual_seed(0)
    layer = kind(8, 6, (3, 2))
    mask = mask_of(layer, 0.5, "block2xquad4")
    if kind is nn.ConvTranspose2d:
        mask = mask.transpose(0, 1)
    units = mask.reshape(3, 2, 2, 4, 6)
    assert torch.equal(units, units[:, :1, :, :1].expand_as(units))
    assert int(mask.sum()) == mask.numel() // 2
    assert len({tuple(row) for row in units[:, 0, :, 0].flatten(0, 1).tolist()}) > 1


def test_blocks_are_kept_by_their_l2_norm():
    layer = conv(8, 5)
    norms = layer.weight.detach().reshape(2, 4, 5).norm(dim=1).flatten()
    kept = mask_of(layer, 0.5, "block4").reshape(2, 4, 5)[:, 0].flatten()
    assert torch.equal(kept.nonzero()[:, 0], norms.argsort()[5:].sort().values)


def test_n_of_m_keeps_the_largest_n():
    layer = conv(6, 16)
    mask = prune.magnitude_mask(layer, 0.75, prune.parse_pattern("2:8"))
    runs = layer.weight.detach().abs().reshape(6, 2, 8)
    assert torch.equal(mask.reshape(6, 2, 8).sum(dim=2), torch.full((6, 2), 2))
    assert torch.equal(mask.reshape(6, 2, 8), runs >= runs.topk(2, dim=2).values[..., -1:])
    # In the middle of a schedule more stay.
    assert int(prune.magnitude_mask(layer, 0.5, prune.parse_pattern("2:8")).sum()) == 6 * 2 * 4


def test_matrix_and_weight_are_inverse():
    for layer in (conv(4, 6, 3), nn.ConvTranspose2d(6, 4, 2), nn.Conv1d(6, 4, 3), nn.Linear(6, 4)):
        matrix = layers.to_matrix(layer, layer.weight)
        assert matrix.shape[0] == 4
        assert torch.equal(layers.from_matrix(layer, matrix), layer.weight)


def test_stem_and_depthwise_stay_dense():
    assert list(prune.prunable_layers(tiny_network())) == [
        "block1.pointwise.conv",
        "block2.pointwise.conv",
        "linear",
    ]


def test_the_first_convolution_stays_dense_behind_a_linear_layer():
    model = nn.Sequential(nn.Linear(4, 4), nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    assert list(prune.prunable_layers(model)) == ["0", "2"]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.parametrize("method", prune.METHODS)
def test_weights_that_are_computed_stay_dense_and_say_why(norm, method):
    model = nn.Sequential(norm(nn.Linear(16, 16)), nn.Linear(16, 16))
    pruner = prune.Pruner(model, steps=1, sparsity=0.5, method=method)
    assert pruner.left_dense == {"0": "its weight is computed from other parameters"}
    pruner.step()
    pruner.finish()
    model(torch.randn(1, 16))
    assert [int((layer.weight == 0).sum()) for layer in model] == [0, 128]


@pytest.mark.parametrize("name", ["block3x", "quad", "block1", "xquad4", "4:4", "", "block64"])
def test_unknown_pattern_names_the_known_ones(name):
    with pytest.raises(UsageError, match=re.escape(f"pattern '{name}' is unknown")) as caught:
        prune.parse_pattern(name)
    assert caught.value.hint == patterns.HINT


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 80.0, float("nan")])
def test_sparsity_outside_the_unit_interval_is_refused(sparsity):
    with pytest.raises(UsageError, match="expected at least 0 and less than 1"):
        prune.Pruner(tiny_network(), steps=1, sparsity=sparsity)


def test_erdos_renyi_keeps_the_total_and_never_more_than_all():
    found = {"small": nn.Linear(8, 4), "wide": nn.Linear(64, 64), "conv": conv(64, 64, 3)}
    shares = ratios.erdos_renyi_kernel(found, 0.8)
    sizes = {name: layer.weight.numel() for name, layer in found.items()}
    left = sum((1 - shares[name]) * size for name, size in sizes.items())
    assert left == pytest.approx(0.2 * sum(sizes.values()))
    assert shares["small"] == 0.0
    # Density falls with size: (64 + 64) / (64 * 64) against (64 + 64 + 6) / (64 * 64 * 9).
    wide, deep = 1 - shares["wide"], 1 - shares["conv"]
    assert wide / deep == pytest.approx((128 / 64**2) / (134 / (64**2 * 9)))


def train(model, pruner, steps):
    """Train on noise; returns zeros of the pruned layers after each step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    zeros = []
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 16, 16)).square().mean().backward()
        optimizer.step()
        pruner.step()
        zeros.append(torch.cat([(x.weight == 0).flatten() for x in pruner.layers.values()]))
    return zeros


@pytest.mark.parametrize("pattern", ["unstructured", "block4", "quad4", "2:8"])
def test_gradual_pruning_never_lets_weights_grow_back(pattern):
    torch.manual_seed(0)
    model = tiny_network()
    sparsity = None if pattern == "2:8" else 0.75
    pruner = prune.Pruner(model, steps=40, sparsity=sparsity, pattern=pattern, least_weights=0)
    zeros = train(model, pruner, 40)
    for earlier, later in itertools.pairwise(zeros):
        assert bool(later[earlier].all())
    assert 0 < int(zeros[5].sum()) < int(zeros[20].sum())
    for row in prune.count_zeros(pruner.layers):
        assert row["sparsity"] == pytest.approx(0.75, abs=0.05)
    pruner.finish()
    assert torch.equal(zeros[-1], train(model, pruner, 1)[-1])


@pytest.mark.parametrize("method", ["sr-ste", "decay"])
def test_masked_training_leaves_plain_layers_with_exact_zeros(method):
    torch.manual_seed(0)
    model = tiny_network()
    optimizer_sees = {id(parameter) for parameter in model.parameters()}
    pruner = prune.Pruner(model, steps=20, pattern="2:4", method=method, least_weights=0)
    assert {id(parameter) for parameter in model.parameters()} == optimizer_sees
    zeros = train(model, pruner, 20)
    pruner.finish()
    assert {id(parameter) for parameter in model.parameters()} == optimizer_sees
    assert sorted(model.state_dict()) == sorted(tiny_network().state_dict())
    left = torch.cat([(x.weight == 0).flatten() for x in pruner.layers.values()])
    assert torch.equal(left, zeros[-1])
    for layer in pruner.layers.values():
        kept = (layer.weight != 0).flatten(1).reshape(-1, 4).sum(dim=1)
        assert set(kept.tolist()) == {2}


def test_decayed_weights_count_less_and_less():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8))
    dense = model[0].weight.detach().clone()
    pruner = prune.Pruner(model, steps=10, pattern="1:2", method="decay", ramp=0.8, least_weights=0)
    seen = []
    for _ in range(10):
        pruner.step()
        pruned = ~pruner._masks["0"]
        seen.append(float((model[0].weight.detach()[pruned] / dense[pruned]).mean()))
    assert seen == pytest.approx([1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0, 0])


def test_straight_through_moves_pruned_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8))
    pruner = prune.Pruner(model, steps=10, pattern="1:2", method="sr-ste", least_weights=0)
    model(torch.ones(1, 8)).sum().backward()
    original = model[0].parametrizations.weight.original
    pull = 2e-4 * original.detach() * ~pruner._masks["0"]
    torch.testing.assert_close(original.grad, 1 + pull)


def test_a_layer_that_does_not_fit_stays_dense_and_says_why():
    model = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 4))
    pruner = prune.Pruner(model, steps=1, pattern="2:8", ramp=0, least_weights=0)
    assert list(pruner.layers) == ["0"]
    assert pruner.left_dense == {"1": "12 input channels are no multiple of 8"}
    pruner.finish()
    assert [int((layer.weight == 0).sum()) for layer in model] == [72, 0]


def test_small_layers_stay_dense_unless_asked_for():
    model = tiny_network()
    assert list(prune.Pruner(model, steps=1, sparsity=0.5).layers) == ["block2.pointwise.conv"]
    assert len(prune.Pruner(model, steps=1, sparsity=0.5, least_weights=0).layers) == 3


def test_prune_once_and_count_agree():
    model = tiny_network()
    prune.prune_once(model, 0.8, pattern="block2")
    rows = prune.count_zeros(prune.prunable_layers(model))
    assert [row["shape"] for row in rows] == [[16, 8, 1, 1], [16, 16, 1, 1], [10, 16]]
    assert [row["zeros"] for row in rows] == [102, 204, 128]
    assert rows[0]["sparsity"] == 102 / 128


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "unstructured needs a sparsity"),
        ({"pattern": "2:4", "sparsity": 0.9}, "2:4 means a sparsity of 0.5, but 0.9 is asked for"),
        ({"pattern": "2:4", "ratios": "erk"}, "2:4 prescribes the sparsity of every layer"),
        ({"sparsity": 0.5, "method": "magic"}, "method 'magic' is unknown"),
        ({"sparsity": 0.5, "ratios": "magic"}, "ratios 'magic' is unknown"),
        ({"sparsity": 0.5, "steps": 0}, "steps is 0"),
        ({"sparsity": 0.5, "layers": {}}, "the model has nothing to prune"),
        ({"goals": {"7": (prune.parse_pattern("2:4"), 0.5)}}, "has no such layers to prune: 7"),
        ({"pattern": "1:32"}, "8 input channels are no multiple of 32; 16 input channels"),
    ],
)
def test_wrong_arguments_of_the_pruner(options, message):
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 8))
    with pytest.raises(UsageError, match=message) as caught:
        prune.Pruner(model, **{"steps": 10, "least_weights": 0, **options})
    assert caught.value.hint
