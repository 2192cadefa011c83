"""How fast this machine trains is measured in steps like those of a trial."""

from typing import Any

import pytest
import torch

from nas.search import estimate
from nas.space import Limits, SearchSpace
from nas.training.config import TrainingConfig
from nas.training.loop import Run
from tests.kits.training import make_dataset

CPU = torch.device("cpu")


@pytest.mark.parametrize(("batch_size", "images"), [(128, 64), (8, 51)])
def test_steps_of_a_large_design_are_not_small(
    batch_size: int, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_dataset(train_images=128, height=32, width=32)
    space = SearchSpace(  # of one design, with 77 M mult-adds
        input=dataset.input,
        stages=(1,),
        blocks=((1,),),
        channels=((64,),),
        kernels=((3,),),
        shortcut_kernels=((1,),),
        pool=(32,),
    )
    trained: list[int] = []

    class Watched(Run):
        def __init__(self, model: Any, part: Any, *of: Any, **settings: Any) -> None:
            trained.append(len(part.train))
            super().__init__(model, part, *of, **settings)

    monkeypatch.setattr(estimate, "Run", Watched)
    config = TrainingConfig(epochs=1, batch_size=batch_size, lr=0.1)
    limits = Limits(max_parameters=10**7)
    assert estimate.measure(space, limits, dataset, config, threads=1, device=CPU)
    assert trained == [images]
