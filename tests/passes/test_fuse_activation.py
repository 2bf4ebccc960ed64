import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes.canonicalise_conv import CanonicaliseConvPass
from edgesparse.passes.fuse_activation import FuseActivationPass
from edgesparse.passes.recognise_activation import RecogniseActivationPass

HEAD = "(float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y) { a = Conv(x, w) "
DECLINED = "edgesparse.declined.fuse_activation"


def fuse(body: str, *, opset: int = 20, head: str = HEAD):
    model = texts.model(f"{head}{body} }}", opset=opset, w=texts.random(4, 4, 1, 1) * 4)
    RecogniseActivationPass()(model)
    CanonicaliseConvPass()(model)
    with oracle.same_results(model):
        model.meta["modified"] = FuseActivationPass()(model).modified
    pass_spec.check(model)
    assert not FuseActivationPass()(model).modified
    return model


@pytest.mark.parametrize(
    ("body", "name", "alpha", "beta"),
    [
        ("y = Relu(a)", "Relu", 0, 0),
        ("y = Clip(a, $-1.0, $2.0)", "Clip", -1, 2),
        ("y = LeakyRelu(a)", "LeakyRelu", 0.01, 0),
        ("y = LeakyRelu <alpha = 0.2> (a)", "LeakyRelu", 0.2, 0),
        ("y = Sigmoid(a)", "Sigmoid", 0, 0),
        ("y = HardSigmoid(a)", "HardSigmoid", 0.2, 0.5),
        ("y = HardSigmoid <alpha = 0.25, beta = 0.4> (a)", "HardSigmoid", 0.25, 0.4),
        ("y = HardSwish(a)", "HardSwish", 0, 0),
        ("s = Sigmoid(a) y = Mul(a, s)", "Silu", 0, 0),
        ("y = Tanh(a)", "Tanh", 0, 0),
        ("y = Gelu(a)", "Gelu", 0, 0),
        ('y = Gelu <approximate = "tanh"> (a)', "GeluTanh", 0, 0),
        ("y = Elu(a)", "Elu", 1, 0),
        ("y = Elu <alpha = 0.5> (a)", "Elu", 0.5, 0),
        ("y = Softplus(a)", "Softplus", 0, 0),
        ("y = Mish(a)", "Mish", 0, 0),
    ],
)
def test_match(body, name, alpha, beta):
    model = fuse(body)
    (node,) = model.graph
    found = (node.attributes[key].value for key in ("activation", "alpha", "beta"))
    assert tuple(found) == (name, pytest.approx(alpha), pytest.approx(beta))
    assert node.outputs[0].name == "y"
    assert node.metadata_props["edgesparse.fused"] == name.removesuffix("Tanh") or name == "Tanh"


def test_gelu_of_an_old_opset():
    body = "d = Div(a, $1.4142135) e = Erf(d) f = Add(e, $1.0) m = Mul(a, f) y = Mul(m, $0.5)"
    (node,) = fuse(body, opset=13).graph
    assert node.attributes["activation"].as_string() == "Gelu"


def test_only_the_first_of_two():
    assert texts.ops(fuse("b = Relu(a) y = Tanh(b)")) == ["edgesparse::Conv", "Tanh"]


@pytest.mark.parametrize("body", ["y = Softmax(a)", "y = Celu(a)", "y = Neg(a)"])
def test_other_operators_stay(body):
    assert not fuse(body).meta["modified"]


@pytest.mark.parametrize(
    ("head", "body", "reason"),
    [
        (HEAD, "b = Relu(a) y = Add(a, b)", "Relu: a has 2 consumers"),
        (HEAD.replace("y)", "y, float[1, 4, 6, 6] a)"), "y = Relu(a)", "Relu: a is a graph output"),
        (
            HEAD.replace("] x)", "] x, float low)"),
            "y = Clip(a, low)",
            "Clip: its bounds are not constants",
        ),
    ],
)
def test_declines(head, body, reason):
    model = fuse(body, head=head)
    assert not model.meta["modified"]
    node = next(node for node in model.graph if node.op_type == "Conv")
    assert node.metadata_props[DECLINED] == reason
