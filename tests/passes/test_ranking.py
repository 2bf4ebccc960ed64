"""Which candidate comes first: few zeros, and tiles that an engine's registers do not hold."""

import dataclasses

import numpy as np
import onnx_ir as ir
import pytest
from linear_models import conv_model, sparse

from edgesparse import cost, passes
from edgesparse.geometry import matrix_of, operator_of
from edgesparse.passes import editing
from edgesparse.passes.candidates import ranked
from edgesparse.target import resolve_target

IN_L1 = cost.Sweep(0)


def candidates_of(model, target):
    (node,) = editing.linear_nodes(passes.run(ir.from_proto(model), target).graph)
    return ranked(operator_of(node, target.lanes), matrix_of(node), target)


def trusting(target, min_gain):
    return dataclasses.replace(target, core=dataclasses.replace(target.core, min_gain=min_gain))


@pytest.mark.parametrize("name", ["host", "wasm", "arm64"])
def test_few_zeros_are_skipped_for_as_much_as_predictions_can_be_trusted(name):
    target = resolve_target(name)
    model = conv_model([1, 128, 28, 28], sparse((128, 128, 1, 1), 0.8))
    cautious, bold = (candidates_of(model, trusting(target, gain))[0] for gain in (9.0, 1.0))
    assert len(cautious.patterns) == 1 and cautious.group > 1
    assert bold.cycles <= cautious.cycles
    gain = cautious.cycles / bold.cycles
    assert candidates_of(model, trusting(target, gain * 1.001))[0] == cautious
    assert candidates_of(model, trusting(target, gain * 0.999))[0] == bold


def test_many_zeros_are_skipped_whatever_the_gain():
    target = trusting(resolve_target("host"), 9.0)
    found = candidates_of(conv_model([1, 128, 28, 28], sparse((128, 128, 1, 1), 0.5)), target)
    assert found[0].cycles == min(candidate.cycles for candidate in found)


def test_a_sum_that_is_spilled_goes_through_memory():
    core = resolve_target("wasm").core
    held = [cost.step_cycles(rows, vectors, IN_L1, 4, core) for rows, vectors in ((2, 4), (3, 3))]
    spilled = [
        cost.step_cycles(rows, vectors, IN_L1, 4, core) for rows, vectors in ((2, 5), (8, 1))
    ]
    assert max(held) < core.spilled_cycles <= min(spilled)


@pytest.mark.parametrize("density", [0.1, 0.3, 1.0])
def test_no_whole_column_is_spilled_in_webassembly_at_7x7(density):
    """2x20 covers 49 pixels best, but V8 keeps two of its sums in memory: half as fast."""
    rng = np.random.default_rng(1)
    keep = np.repeat(rng.random((64, 256)) < density, 4, axis=0)
    weight = (rng.standard_normal(keep.shape) * keep).astype(np.float32)
    model = conv_model([1, 256, 7, 7], weight.reshape(256, 256, 1, 1))
    best = candidates_of(model, resolve_target("wasm"))[0]
    used = max(mask.bit_count() for mask in best.patterns)
    assert used * best.tile_vectors + used + best.tile_vectors < 16
