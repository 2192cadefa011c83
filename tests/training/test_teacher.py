"""Distillation: what a run learns from a teacher."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.architecture import Architecture
from nas.data.types import ImageDataset
from nas.model import ResNet, build
from nas.training.loop import Run
from nas.training.plan import RunPlan
from nas.training.teacher import Distillation, Teacher
from tests.kits.training import CPU, TINY, make_config, make_dataset, make_model, normalized


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return make_dataset(train_images=96)


def sharp(dataset: ImageDataset, seed: int) -> ResNet:
    """A network that is sure of what it answers, right or wrong."""
    model = make_model(dataset, seed)
    with torch.no_grad():
        model.head.weight.mul_(6)
    return model


def probabilities(model: ResNet, dataset: ImageDataset, temperature: float = 1.0) -> Tensor:
    images_NCHW = normalized(dataset.train.pixels_NHWC, dataset)
    with torch.no_grad():
        logits_NK: Tensor = model.eval()(images_NCHW)
        return (logits_NK / temperature).softmax(dim=1)


def test_a_run_comes_near_to_the_probabilities_of_its_teacher(dataset: ImageDataset) -> None:
    master = sharp(dataset, 1)
    before = {name: value.clone() for name, value in master.state_dict().items()}
    taught_NK = probabilities(master, dataset)

    def divergence(teacher: Teacher | None) -> float:
        config = make_config(epochs=12, lr=0.05)
        run = Run(make_model(dataset), dataset, config, seed=0, device=CPU, teacher=teacher)
        while not run.finished:
            run.train_epoch()
        own_NK = probabilities(run.model, dataset)
        return F.kl_div(own_NK.log(), taught_NK, reduction="batchmean").item()

    fresh_NK = probabilities(make_model(dataset), dataset)
    untrained = F.kl_div(fresh_NK.log(), taught_NK, reduction="batchmean").item()
    assert divergence(Teacher([master])) < untrained / 2
    assert divergence(None) > untrained / 2  # the labels are others
    assert all(torch.equal(before[name], value) for name, value in master.state_dict().items())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_that_of_the_paper(temperature: float, dataset: ImageDataset) -> None:
    how = Distillation(temperature=temperature, weight=0.75)
    teacher = Teacher([make_model(dataset, seed) for seed in (1, 2)], how)
    images_NCHW = normalized(dataset.train.pixels_NHWC, dataset)
    taught_NK = teacher(images_NCHW)
    both = [probabilities(make_model(dataset, seed), dataset, temperature) for seed in (1, 2)]
    torch.testing.assert_close(taught_NK, (both[0] + both[1]) / 2)

    logits_NK = torch.randn(taught_NK.shape, generator=torch.Generator().manual_seed(0))
    divergence = sum(
        p * math.log(p / q)
        for taught_K, soft_K in zip(
            taught_NK.tolist(), (logits_NK / temperature).softmax(dim=1).tolist(), strict=True
        )
        for p, q in zip(taught_K, soft_K, strict=True)
    ) / len(taught_NK)
    expected = 0.25 * 2.0 + 0.75 * temperature**2 * divergence
    assert teacher.loss(torch.tensor(2.0), logits_NK, taught_NK).item() == pytest.approx(expected)


def test_an_equal_student_has_nothing_to_learn(dataset: ImageDataset) -> None:
    student = make_model(dataset, 1).eval()
    teacher = Teacher([make_model(dataset, 1)], Distillation(temperature=2.0, weight=1.0))
    images_NCHW = normalized(dataset.train.pixels_NHWC, dataset)
    logits_NK = student(images_NCHW)
    loss = teacher.loss(torch.tensor(0.0), logits_NK, teacher(images_NCHW))
    loss.backward()  # type: ignore[no-untyped-call]
    assert abs(loss.item()) < 1e-5
    assert max(p.grad.abs().max().item() for p in student.parameters() if p.grad is not None) < 1e-4


def test_another_teacher_is_another_run(dataset: ImageDataset) -> None:
    def identity(teacher: Teacher | None) -> object:
        plan = RunPlan(
            architecture=TINY, dataset=dataset, config=make_config(), seed=1, teacher=teacher
        )
        return plan.identity()

    teachers = [
        None,
        Teacher([make_model(dataset, 1)]),
        Teacher([make_model(dataset, 2)]),
        Teacher([make_model(dataset, 1), make_model(dataset, 2)]),
        Teacher([make_model(dataset, 1)], Distillation(temperature=4.0)),
        Teacher([make_model(dataset, 1)], Distillation(weight=0.5)),
    ]
    identities = [str(identity(teacher)) for teacher in teachers]
    assert len(set(identities)) == len(teachers)
    assert "teacher" not in identities[0]  # as before there were any
    assert str(identity(Teacher([make_model(dataset, 1)]))) == identities[1]


def test_a_teacher_of_other_images_is_refused(dataset: ImageDataset) -> None:
    for other in (make_dataset(classes=5), make_dataset(channels=1), make_dataset(height=12)):
        teacher = Teacher([make_model(other)])
        with pytest.raises(ValueError, match=r"teacher must read 3x8x8, 4 classes, got one for "):
            Run(make_model(dataset), dataset, make_config(), seed=0, device=CPU, teacher=teacher)
        with pytest.raises(ValueError, match="must read the same images"):
            Teacher([make_model(dataset), make_model(other)])
    with pytest.raises(ValueError, match="got no network"):
        Teacher([])


def test_a_teacher_may_be_another_design(dataset: ImageDataset) -> None:
    wide = Architecture(blocks=(2,), channels=(16,), kernels=(3,), shortcut_kernels=(1,), pool=8)
    teacher = Teacher([build(wide, dataset.input)])
    run = Run(make_model(dataset), dataset, make_config(), seed=0, device=CPU, teacher=teacher)
    assert math.isfinite(run.train_epoch().train_loss)
