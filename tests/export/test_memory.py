"""Where tensors lie in a device's memory."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nas.export.memory import Lifetime, bound, lifetimes, plan
from nas.export.operators import Activation, Add, Operator, Pool


def tensor(name: str, size: int) -> Activation:
    return Activation(name, (size,), scale=1.0, zero_point=0)


def step(output: Activation, x: Activation, added: Activation | None = None) -> Operator:
    return Pool((x,), output, size=1) if added is None else Add((x, added), output)


IMAGE, STEM, CONV1, CONV2, SUM = (
    tensor(name, size)
    for name, size in (("image", 100), ("stem", 160), ("conv1", 150), ("conv2", 160), ("sum", 160))
)
BLOCK = [
    step(STEM, IMAGE),
    step(CONV1, STEM),
    step(CONV2, CONV1),
    step(SUM, CONV2, STEM),
]


def test_a_tensor_lives_until_it_is_read_last() -> None:
    assert lifetimes(BLOCK) == [
        Lifetime("image", 112, 0, 1),
        Lifetime("stem", 160, 1, 4),
        Lifetime("conv1", 160, 2, 3),
        Lifetime("conv2", 160, 3, 4),
        Lifetime("sum", 160, 4, 5),
    ]


def test_the_bound_is_what_is_live_at_the_worst_operator() -> None:
    assert bound(lifetimes(BLOCK)) == 480
    assert plan(lifetimes(BLOCK)).bytes == 480


@st.composite
def residual_networks(draw: st.DrawFn) -> list[Operator]:
    """Blocks of convolutions with shortcuts, of all sizes, some with padded inputs."""
    sizes = st.integers(1, 5000)
    steps: list[Operator] = []

    def add(size: int, *inputs: Activation) -> Activation:
        output = tensor(f"tensor {len(steps)}", size)
        steps.append(step(output, *inputs))
        return output

    def conv(size: int, x: Activation) -> Activation:
        padded = add(x.bytes + draw(sizes), x) if draw(st.booleans()) else x
        return add(size, padded)

    x = add(draw(sizes), tensor("image", draw(sizes)))
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.booleans()):
            size = draw(sizes)
            shortcut = conv(size, x)
            out = conv(size, x)
        else:
            size, shortcut = x.bytes, x
            out = add(size, x)
        x = add(size, add(size, out), shortcut)
    add(10, add(max(1, x.bytes // 4), x))
    return steps


@settings(max_examples=60)
@given(residual_networks())
def test_a_plan_keeps_live_tensors_apart_in_as_little_as_can_be(steps: list[Operator]) -> None:
    lived = lifetimes(steps)
    found = plan(lived)
    for one in lived:
        start = found.offsets[one.name]
        assert start % 16 == 0
        assert 0 <= start <= found.bytes - one.bytes
        for other in lived:
            if other != one and one.first <= other.last and other.first <= one.last:
                begins = found.offsets[other.name]
                assert begins >= start + one.bytes or begins + other.bytes <= start
    assert found.bytes <= bound(lived) * 1.03  # nearly always it is the bound
    assert plan(lived) == found
