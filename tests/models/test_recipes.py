"""The parts beside the pruner: each does to a small network what its paper says."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")

from torch import nn  # noqa: E402

from edgesparse.errors import UsageError  # noqa: E402
from edgesparse.models import prune  # noqa: E402
from edgesparse.models.mobilenet_v1 import mobilenet_v1  # noqa: E402
from edgesparse.models.recipes import catalogue, latency, low_rank, quantisation  # noqa: E402
from edgesparse.models.recipes.distillation import Distillation  # noqa: E402
from edgesparse.models.recipes.envelope import Envelope, group_envelope  # noqa: E402
from edgesparse.models.recipes.patterns import group_norms  # noqa: E402
from edgesparse.models.training import Plan, fit  # noqa: E402

SHAPE = (1, 3, 16, 16)


def network():
    torch.manual_seed(0)
    return mobilenet_v1(width=0.5, num_classes=16, blocks=((64, 1), (128, 2)))


def learn(model, parts, steps=12):
    """Fit labels that depend on the images."""
    images = torch.randn(64, *SHAPE[1:], generator=torch.Generator().manual_seed(1))
    labels = (images.mean(dim=(1, 2, 3)) > 0).long()
    plan = Plan(steps, 2e-3, 16)
    told = []
    loss = nn.functional.cross_entropy
    fit(model, images.numpy(), labels.numpy(), loss, plan, parts=parts, say=told.append)
    return told


def test_fitting_lowers_the_loss():
    told = learn(network(), [], steps=60)
    assert len(told) == 10
    first, last = (float(line.split()[-1]) for line in (told[0], told[-1]))
    assert last < 0.6 * first


def brute_force_envelope(norms, kept):
    """The conjugate of half the squared k largest, maximised over a fine set of slopes."""
    slopes = np.random.default_rng(0).random((200_000, len(norms))) * 2 * norms.sum()
    largest = np.sort(slopes, axis=1)[:, -kept:]
    return float((slopes @ norms - 0.5 * (largest**2).sum(axis=1)).max())


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_envelope_is_the_largest_convex_function_below(kept):
    norms = np.array([1.0, 0.8, 0.1])
    found = float(group_envelope(torch.tensor(norms), kept))
    expected = brute_force_envelope(norms, kept)
    assert expected <= found + 1e-9
    assert found == pytest.approx(expected, rel=0.03)


def test_envelope_of_few_units_is_half_the_squared_norm():
    norms = torch.tensor([0.0, 3.0, 0.0, 4.0, 0.0])
    assert float(group_envelope(norms, 2)) == pytest.approx(12.5)
    assert float(group_envelope(norms, 5)) == pytest.approx(12.5)
    assert float(group_envelope(norms, 1)) == pytest.approx(49 / 2)  # half the squared L1 norm


def test_envelope_pulls_small_units_to_zero():
    layer = nn.Linear(8, 8, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(0.1, 1, 8)[:, None].expand(8, 8))
    pattern = prune.parse_pattern("block2")
    goals = {"layer": (pattern, 0.5)}
    penalty = Envelope({"layer": layer}, goals, strength=1.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.02)
    before = group_norms(layer, layer.weight, pattern).sort().values.detach()
    for _ in range(20):
        optimizer.zero_grad()
        penalty.penalty(torch.zeros(1)).backward()
        optimizer.step()
    after = group_norms(layer, layer.weight, pattern).sort().values.detach()
    ratio = after / before
    assert ratio[:8].max() < 0.2
    assert ratio[-1] > 0.5


def test_distillation_is_zero_on_the_teacher_itself_and_leaves_no_hooks():
    model = network().eval()
    part = Distillation(model)
    images = torch.randn(4, *SHAPE[1:])
    model(images)
    assert float(part.penalty(images).detach()) == 0.0
    with torch.no_grad():
        model.block1.pointwise.conv.weight.mul_(0.5)
    model(images)
    assert float(part.penalty(images).detach()) > 1e-3
    part.finish()
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_distillation_compares_the_last_pass():
    model = network().eval()
    part = Distillation(model)
    images = torch.randn(4, *SHAPE[1:])
    model(torch.randn(2, *SHAPE[1:]))
    model(images)
    assert float(part.penalty(images).detach()) == 0.0


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_low_rank_factors_pad_and_count_as_the_layer_did(mode):
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 24, 3, padding=1, padding_mode=mode).double()
    rows, columns = (torch.randn(shape, dtype=torch.double) for shape in ((24, 4), (4, 144)))
    with torch.no_grad():
        layer.weight.copy_((rows @ columns).reshape(layer.weight.shape))
    images = torch.randn(2, 16, 7, 7).double()
    torch.testing.assert_close(low_rank.factored(layer, 0.5)(images), layer(images))


def test_low_rank_factors_compute_the_projected_layer():
    torch.manual_seed(0)
    for layer, inputs in (
        (nn.Conv2d(24, 32, 3, stride=2, padding=1), torch.randn(2, 24, 9, 9)),
        (nn.Linear(24, 32), torch.randn(2, 24)),
    ):
        factors = low_rank.factored(layer, 0.5)
        weights = sum(part.weight.numel() for part in factors)
        assert weights == pytest.approx(0.5 * layer.weight.numel(), rel=0.05)
        left, values, right = np.linalg.svd(layer.weight.detach().flatten(1).numpy())
        rank = factors[0].weight.shape[0]
        nearest = left[:, :rank] * values[:rank] @ right[:rank]
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(nearest).reshape(layer.weight.shape))
        torch.testing.assert_close(factors(inputs), layer(inputs), rtol=1e-4, atol=1e-5)


def test_trained_rank_replaces_layers_and_trains_the_factors():
    model = network()
    learn(model, [part := low_rank.TrainedRank(model, sparsity=0.5, steps=12, ramp=0.5)])
    assert part.layers == {}
    factors = model.block2.pointwise.conv
    assert [type(each) for each in factors] == [nn.Conv2d, nn.Conv2d]
    assert factors.reduce.weight.grad is not None  # the steps after the ramp reached them
    assert isinstance(model.linear, nn.Sequential)


def test_quantised_weights_lie_on_255_levels_and_zeros_stay():
    model = network()
    pruner = prune.Pruner(model, steps=12, sparsity=0.75)
    learn(model, [pruner, quantisation.Quantiser(pruner.layers)])
    for layer in pruner.layers.values():
        weight = layer.weight.detach().flatten(1)
        levels = weight / (weight.abs().amax(dim=1, keepdim=True) / 127)
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
        assert float((weight == 0).float().mean()) >= 0.75
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("method", ["sr-ste", "decay", "int8"])
def test_copies_of_a_network_in_training_outlive_its_end(method):
    """Averaged weights and the best so far are kept in copies."""
    model, images = network().eval(), torch.randn(2, *SHAPE[1:])
    if method == "int8":
        part = quantisation.Quantiser(prune.prunable_layers(model))
    else:
        part = prune.Pruner(model, steps=1, sparsity=0.5, method=method)
    model(images)  # what is read has been seen
    kept = copy.deepcopy(model)
    before = kept(images)
    part.finish()
    torch.testing.assert_close(kept(images), before)
    assert type(model.linear) is nn.Linear
    again = copy.deepcopy(kept.linear)
    assert torch.equal(again.weight, kept.linear.weight)


def test_rounded_activations_keep_zero_and_the_extremes():
    x = torch.linspace(-0.3, 2.0, 50, requires_grad=True)
    y = quantisation.round_activation(x, torch.tensor(-0.3), torch.tensor(2.0))
    step = 2.3 / 255
    assert float((x - y).detach().abs().max()) <= 0.51 * step + 1e-6
    assert float(quantisation.round_activation(torch.zeros(1), *y.detach().aminmax())) == 0.0
    y.sum().backward()
    assert float(x.grad[1:-1].min()) == 1.0


def test_latency_mix_is_within_the_time_of_its_reference(monkeypatch):
    model = network().eval()
    before = copy.deepcopy(model.state_dict())
    budgets = []
    within = latency.Menu.within_us

    def within_us(menu, budget):
        chosen = within(menu, budget)
        budgets.append((budget, sum(choice.us for choice in chosen)))
        return chosen

    monkeypatch.setattr(latency.Menu, "within_us", within_us)
    goals, faster = (prune.latency_mix(model, SHAPE, s, target="wasm") for s in (0.5, 0.9))
    assert all(used <= budget for budget, used in budgets)
    assert budgets[1][0] < budgets[0][0]
    left = [sum(1 - sparsity for _, sparsity in each.values()) for each in (goals, faster)]
    assert left[1] < left[0]
    assert {pattern.name for pattern, _ in goals.values()} <= {"unstructured", *latency.PATTERNS}
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    pruner = prune.Pruner(model, steps=1, goals=goals, ramp=0)
    pruner.finish()
    for row in prune.count_zeros(pruner.layers):
        assert row["sparsity"] == pytest.approx(goals[row["name"]][1], abs=0.05)


def test_latency_mix_leaves_layers_that_no_pattern_fits_and_modes_alone():
    model = nn.Sequential(
        nn.Conv2d(3, 18, 3), nn.BatchNorm2d(18), nn.Conv2d(18, 32, 3), nn.Conv2d(32, 16, 3)
    )
    model[1].eval()
    quads = {"patterns": ["quad4"], "reference": "quad4"}
    goals = prune.latency_mix(model, SHAPE, 0.5, target="wasm", **quads)
    assert goals["2"] == (prune.parse_pattern("unstructured"), 0.0)
    assert goals["3"][0].name == "quad4" and goals["3"][1] > 0.3
    assert [part.training for part in model] == [True, False, True, True]


@pytest.mark.parametrize(
    ("sparsity", "message"),
    [(80, "sparsity is 80, expected at least 0"), (0.999, "layers cannot be brought below")],
)
def test_latency_mix_refuses_what_it_cannot_keep(sparsity, message):
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3))
    with pytest.raises(UsageError, match=message) as caught:
        prune.latency_mix(model, SHAPE, sparsity, target="wasm")
    assert caught.value.hint


def test_unknown_recipe():
    with pytest.raises(UsageError, match="recipe 'magic' is unknown"):
        catalogue.find_recipe("magic")
