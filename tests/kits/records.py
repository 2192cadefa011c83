"""Made-up studies, trials and final trainings, as the reader of a study gives them."""

import json
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from hypothesis import strategies as st

from nas.architecture import PRESETS, Architecture, ImageInput
from nas.counting import count
from nas.final.records import ClassResult, Exported, FinalDesign, FinalRecord, Measured, Mistake
from nas.space import Limits, default_space
from nas.statistics import Estimate
from nas.study.records import Outcome, StudyRecord, StudySettings, TestReading, TrialRecord

EPOCHS = 6
STARTED = datetime(2026, 11, 1)
IMAGE = ImageInput(channels=3, height=32, width=32, classes=10)
SETTINGS = StudySettings(
    dataset="cifar10",
    dataset_digest="sha256:0123",
    input=IMAGE,
    train_images=45_000,
    validation_images=5_000,
    subset=1.0,
    split_seed=0,
    limits=Limits(max_parameters=5_000_000),
    space=default_space(IMAGE).to_dict(),
    recipe={"epochs": EPOCHS, "optimizer": "sgd", "batch_size": 128},
)
EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&--><!--"


def design(width: int = 16) -> Architecture:
    return Architecture(
        blocks=(2, 1, 1),
        channels=(width, 2 * width, 4 * width),
        kernels=(3, 3, 5),
        shortcut_kernels=(1, 1, 3),
        pool=8,
    )


def trial(
    number: int,
    outcome: Outcome | None = Outcome.TRAINED,
    accuracy: float | None = None,
    *,
    reason: str | None = None,
    epochs: int = EPOCHS,
) -> TrialRecord:
    architecture = design(16 + number)
    cost = count(architecture, IMAGE)
    record = TrialRecord(
        number=number,
        outcome=outcome,
        architecture=architecture,
        **asdict(cost),
        reason=reason,
    )
    if accuracy is None:
        return record
    curve = tuple((epoch, accuracy * epoch / epochs) for epoch in range(1, epochs + 1))
    return replace(
        record,
        val_accuracy=accuracy,
        curve=curve,
        started=STARTED + number * timedelta(hours=1),
        finished=STARTED + number * timedelta(hours=1) + timedelta(seconds=10 * epochs),
        seconds=10.0 * epochs,
        images_per_second=30_000.0,
        device="NVIDIA H200",
    )


def study(
    *trials: TrialRecord, name: str = "cifar10-5M", notes: tuple[str, ...] = ()
) -> StudyRecord:
    return StudyRecord(
        name=name,
        settings=SETTINGS,
        notes=notes,
        versions={"torch": "2.13.0"},
        seed=7,
        command="nas search --budget 5e6 --trials 50",
        trials=trials,
    )


def study_of_widths(accuracies: dict[int, float]) -> StudyRecord:
    """A study whose designs are one stage of these widths, compared on few images."""
    trials = []
    for number, (width, accuracy) in enumerate(accuracies.items()):
        one = Architecture(
            blocks=(1,), channels=(width,), kernels=(3,), shortcut_kernels=(1,), pool=8
        )
        cost = count(one, IMAGE)
        trials.append(
            replace(
                trial(number, accuracy=accuracy),
                architecture=one,
                parameters=cost.parameters,
                mult_adds=cost.mult_adds,
            )
        )
    space = {
        **SETTINGS.space,
        **{"stages": [1], "blocks": [[1]], "channels": [list(accuracies)], "kernels": [[3]]},
        **{"shortcut_kernels": [[1]], "pool": [8]},
    }
    settings = replace(SETTINGS, space=space, validation_images=200)
    return replace(study(*trials), settings=settings)


def mixed() -> StudyRecord:
    """Every outcome once or more."""
    return study(
        trial(0, Outcome.OVER_BUDGET),
        trial(1, accuracy=0.81),
        trial(2, Outcome.STOPPED_EARLY, 0.5, epochs=2),
        trial(3, Outcome.DUPLICATE),
        trial(4, accuracy=0.9123),
        trial(5, Outcome.DIVERGED, reason="loss is nan"),
        trial(6, Outcome.OUT_OF_MEMORY, reason="out of memory"),
        trial(7, Outcome.FAILED, reason="disk is full"),
        trial(8, Outcome.FAILED, reason="disk is full"),
        trial(9, accuracy=0.85),
        replace(trial(10, None), curve=((1, 0.3),), started=STARTED + timedelta(hours=10)),
        TrialRecord(number=11, outcome=None),
    )


@st.composite
def studies(draw: st.DrawFn) -> StudyRecord:
    outcomes = draw(st.lists(st.sampled_from([*Outcome, None]), max_size=12))
    trials = []
    for number, outcome in enumerate(outcomes):
        trained = outcome is not None and outcome.counts
        accuracy = draw(st.floats(0, 1)) if trained else None
        trials.append(trial(number, outcome, accuracy, epochs=draw(st.integers(1, EPOCHS))))
    return study(*trials)


def final_record(classes: tuple[str, ...] = ("cat", "dog"), **changes: object) -> FinalRecord:
    """A final training of one finalist, resnet10, and one reference, resnet20."""
    k = len(classes)

    def measured(value: float) -> Measured:
        estimate = Estimate(value, value - 0.01, value + 0.01)
        return Measured(accuracies=(value,) * 3, mean=estimate, standard_deviation=0.001)

    def design(name: str, preset: str, value: float, **more: object) -> FinalDesign:
        cost = count(PRESETS[preset], IMAGE)
        return FinalDesign(
            name=name,
            architecture=PRESETS[preset],
            **asdict(cost),
            validation=measured(value),
            test=measured(value),
            **more,  # type: ignore[arg-type]
        )

    confusion = tuple(
        tuple(8 if i == j else (2 if j == (i + 1) % k else 0) for j in range(k)) for i in range(k)
    )
    plain = FinalRecord(
        study="cifar10-5M",
        dataset="cifar10",
        input=IMAGE,
        classes=classes,
        notes=(),
        limits=Limits(max_parameters=5_000_000),
        recipe_name="long",
        recipe={"epochs": 200},
        on="train",
        subset=1.0,
        seeds=(1, 2, 3),
        train_images=45_000,
        validation_images=5_000,
        test_images=10 * k,
        finalists=(design("trial 4", "resnet10", 0.93, trial=4),),
        references=(design("resnet20", "resnet20", 0.91),),
        gains=(),
        exported=Exported(
            seed=1,
            accuracy=Estimate(0.8, 0.7, 0.9),
            per_class=tuple(ClassResult(name=name, images=10, correct=8) for name in classes),
            confusion=confusion,
            mistakes=(Mistake(file="mistakes/0.png", label=0, predicted=1, probability=0.97),),
        ),
        read="2026-11-01T10:00:00+00:00",
        readings=1,
        seconds=10.0,
        devices=("cpu",),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def read_record(record: FinalRecord) -> StudyRecord:
    """The mixed study, whose test images were read."""
    result = json.loads(json.dumps(record.to_dict()))
    reading = TestReading(began=record.read, plan="", networks="", ended=record.read, result=result)
    return replace(mixed(), readings=(reading,))
