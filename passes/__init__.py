"""Graph passes: the canonical ONNX graph becomes the graph that is lowered.

One pass a file. After the pipeline every product with a constant weight is an `edgesparse::Conv` or
`edgesparse::Linear` with its bias, residual and activation inside, and carries its sparsity.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import onnx_ir as ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)

from edgesparse.passes.canonicalise_batch_norm import CanonicaliseBatchNormPass
from edgesparse.passes.canonicalise_conv import CanonicaliseConvPass
from edgesparse.passes.canonicalise_linear import CanonicaliseLinearPass
from edgesparse.passes.choose_layout import ChooseLayoutPass
from edgesparse.passes.find_sparsity import FindSparsityPass
from edgesparse.passes.fold_affine import FoldAffinePass
from edgesparse.passes.fold_constant_channels import FoldConstantChannelsPass
from edgesparse.passes.fold_pad import FoldPadPass
from edgesparse.passes.fuse_activation import FuseActivationPass
from edgesparse.passes.fuse_residual import FuseResidualPass
from edgesparse.passes.gather_patches import GatherPatchesPass
from edgesparse.passes.merge_clamps import MergeClampsPass
from edgesparse.passes.nest_concats import NestConcatsPass
from edgesparse.passes.recognise_activation import RecogniseActivationPass
from edgesparse.passes.recognise_layer_norm import RecogniseLayerNormPass
from edgesparse.passes.remove_dead_channels import RemoveDeadChannelsPass
from edgesparse.passes.reorder_channels import ReorderChannelsPass
from edgesparse.passes.select_pattern import SelectPatternPass
from edgesparse.passes.split_conv_transpose import SplitConvTransposePass
from edgesparse.passes.widen_conv1d import WidenConv1dPass
from edgesparse.passes.write_out_einsum import WriteOutEinsumPass
from edgesparse.passes.write_out_norms import WriteOutNormsPass
from edgesparse.passes.write_out_resize import WriteOutResizePass
from edgesparse.target import Target


class Stage(NamedTuple):
    """One pass of the pipeline.

    Attributes:
        make: The pass, or for passes that depend on it a function of the target that makes it.
        why: Why it stands where it does.
        takes_target: Whether `make` wants the target.
    """

    make: Callable[..., ir.passes.PassBase]
    why: str
    takes_target: bool = False

    def build(self, target: Target) -> ir.passes.PassBase:
        """Return the pass for a target."""
        return self.make(target) if self.takes_target else self.make()

    @property
    def name(self) -> str:
        """Class name of the pass."""
        return self.make.__name__


PIPELINE: tuple[Stage, ...] = (
    Stage(MergeClampsPass, "first: hard activations are spelled with one Clip, not Min(Max(x))"),
    Stage(RecogniseActivationPass, "before any fusion: x * sigmoid(x) is two consumers of x"),
    Stage(RecogniseLayerNormPass, "before folding, which would take its Mul and Add apart"),
    Stage(SplitConvTransposePass, "once activations are one node, which it moves; leaves a Conv"),
    Stage(WriteOutNormsPass, "before FoldAffine, which may take a factor of what they read"),
    Stage(WriteOutEinsumPass, "before CanonicaliseLinear: most are layers or leave a MatMul"),
    Stage(CanonicaliseConvPass, "all that follows knows one form of convolution"),
    Stage(CanonicaliseLinearPass, "likewise; leaves only MatMul of two activations"),
    Stage(FoldAffinePass, "before the fusions: arithmetic stands between layer and activation"),
    Stage(FoldPadPass, "after FoldAffine: a shift cannot be folded into a padded convolution"),
    Stage(CanonicaliseBatchNormPass, "what FoldAffine could not take"),
    Stage(FuseResidualPass, "before FuseActivation: the activation comes after the sum"),
    Stage(FuseActivationPass, "after all that may stand before an activation"),
    Stage(GatherPatchesPass, "after the fusions, which do not look through its SpaceToDepth"),
    Stage(WidenConv1dPass, "after the fusions, which do not look through its Reshapes"),
    Stage(CommonSubexpressionEliminationPass, "once equal nodes are spelled alike"),
    Stage(RemoveUnusedNodesPass, "old weights, and what recognised nodes no longer need"),
    Stage(RemoveUnusedOpsetsPass, "a graph without our nodes does not import our domain"),
    Stage(FindSparsityPass, "after folding, on the weights that are compiled"),
    Stage(FoldConstantChannelsPass, "once all biases and activations are in the operators"),
    Stage(RemoveDeadChannelsPass, "after FoldConstantChannels, which leaves channels unread"),
    Stage(
        ReorderChannelsPass,
        "after FindSparsity, which names the structure in the order that training gave",
        takes_target=True,
    ),
    Stage(WriteOutResizePass, "after all that follows channels through a Resize"),
    Stage(SelectPatternPass, "last of those that look at weights", takes_target=True),
    Stage(ChooseLayoutPass, "once all is computed as it will be: only memory is open"),
    Stage(NestConcatsPass, "last: only what is laid out alike can lie in one place"),
)


def run(
    model: ir.Model,
    target: Target,
    *,
    only: Collection[str] | None = None,
    without: Collection[str] = (),
) -> ir.Model:
    """Run the pipeline in place and return the model.

    Args:
        model: As the front end returns it.
        target: What is compiled for.
        only: Class names of the passes to run; all by default.
        without: Class names of passes to leave out.
    """
    for stage in PIPELINE:
        if (only is None or stage.name in only) and stage.name not in without:
            stage.build(target)(model)
    return model
