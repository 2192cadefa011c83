"""Devices: each has an index wherever torch is told of it, and a full memory is known as that.

No GPU is needed: torch is made to count some, and what it is told goes through its own checks.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import nas
from nas.commands import main
from nas.errors import RequestError
from nas.final.events import ReadingTestImages
from nas.final.final import FinalFailed, run_final
from nas.final.request import ALL, TRAIN, FinalRequest
from nas.final.workers import FinalRuns, _Task
from nas.runtime.devices import find_device, is_out_of_memory, open_device
from nas.runtime.pool import Report, WorkerError
from nas.runtime.precision import Precision
from nas.search.continuing import DataOptions
from nas.search.events import WorkerFailed
from nas.search.plan import SearchFailed
from nas.search.request import SearchRequest
from nas.search.run import run_search
from nas.search.workers import WorkerTask
from nas.study.location import StudyLocation
from nas.study.reader import read_study
from nas.training.config import fast
from nas.training.loop import task_of
from tests.kits.commands import error_line
from tests.kits.events import on
from tests.kits.studies import RequestOf
from tests.kits.training import make_dataset

STUDY = "digits-5M"
NAMES = {"auto": 0, "cuda": 0, "cuda:0": 0, "cuda:1": 1}


class Told(Exception):
    """Torch was told the device, which is as far as one comes without a GPU."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class Nowhere(nullcontext[None]):
    """Stands for `torch.cuda.device`, a block in which another device is the current one."""

    def __init__(self, device: object) -> None:
        super().__init__()


def count_gpus(patch: pytest.MonkeyPatch, count: int) -> None:
    """Makes torch count GPUs; the first use of one ends in `Told`."""

    def use(index: int) -> None:
        raise Told(index)

    patch.setattr(torch.cuda, "is_available", lambda: count > 0)
    patch.setattr(torch.cuda, "device_count", lambda: count)
    patch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    patch.setattr(torch.cuda, "device", Nowhere)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    patch.setattr(torch._C, "_cuda_setDevice", use, raising=False)


Doing = Callable[[], object]


def index_of(doing: Doing) -> int:
    """Which GPU torch is told by this."""
    with pytest.raises(Told) as told:
        doing()
    return told.value.index


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    count_gpus(monkeypatch, 2)


@pytest.fixture
def study(request_of: RequestOf) -> SearchRequest:
    """The request of a study with one design, trained on the CPU."""
    request = request_of(trials=1, device="cpu")
    run_search(request)
    return request


def final_of(request: SearchRequest, **changes: object) -> FinalRequest:
    plain = {"study": STUDY, "studies_dir": request.studies_dir, "recipe": "fast", "device": "cpu"}
    small = {"epochs": 1, "top": 1, "seeds": 1, "subset": 0.2}
    return FinalRequest(**{**plain, **small, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "index"), NAMES.items())
@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_is_found_with_its_index(name: str, index: int) -> None:
    assert find_device(name) == torch.device("cuda", index)
    assert index_of(lambda: torch.cuda.set_device(find_device(name))) == index
    assert index_of(lambda: open_device(name)) == index


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    count_gpus(monkeypatch, 0)
    assert open_device("auto") == open_device("cpu") == torch.device("cpu")


@pytest.mark.usefixtures("two_gpus")
def test_a_final_training_has_the_recipe_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset(train_images=10_000, height=1, width=1)
    monkeypatch.setattr("nas.data.loading.load_dataset", lambda *of, **settings: dataset)
    for name in ("cpu", "cuda:1"):
        request = FinalRequest(study="x", recipe="fast", device=name)
        runs = FinalRuns(
            request=request,
            data=DataOptions(),
            folder=Path("runs"),
            precision=Precision.FLOAT32,
        )
        for part in (TRAIN, ALL):
            task = task_of(runs.part(part), torch.device(name))
            assert runs.config(part) == fast(task)


@pytest.mark.parametrize(("name", "index"), NAMES.items())
@pytest.mark.usefixtures("two_gpus")
def test_commands_tell_torch_the_index(
    name: str, index: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    device = ["--device", name]
    train = ["train", "--preset", "resnet20", "--dataset", "digits", *device]
    search = ["search", "--budget", "5M", "--dataset", "digits", "--trials", "1", *device]
    assert index_of(lambda: main(train)) == index
    assert index_of(lambda: main(search)) == index
    assert index_of(lambda: main(["predict", "model", "image.png", *device])) == index


@pytest.mark.usefixtures("two_gpus")
def test_doctor_looks_at_the_first_gpu_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert index_of(lambda: main(["doctor"])) == 0


def test_a_final_training_tells_torch_the_index(
    study: SearchRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(event: ReadingTestImages) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        count_gpus(patch, 2)
        for name, index in NAMES.items():
            assert index_of(partial(run_final, final_of(study, device=name))) == index
    with pytest.raises(KeyboardInterrupt):  # all is trained
        run_final(final_of(study), on(ReadingTestImages, leave))
    count_gpus(monkeypatch, 2)  # to test on
    same = final_of(study, device="cuda:1", precision="float32")  # as on the CPU
    assert index_of(lambda: run_final(same)) == 1


def search_on_one_gpu(task: WorkerTask, report: Report) -> None:
    """In a worker's process: searches until torch is told a GPU, and reports which."""
    found = index_of_worker(lambda: run_search(task.request))
    report(WorkerError(found))


def train_on_one_gpu(task: _Task, report: Report) -> None:
    """The same of a worker of a final training."""

    doing = partial(task.final.train, task.runs, task.threads, lambda event: None)
    report(WorkerError(index_of_worker(doing)))


def index_of_worker(doing: Doing) -> str:
    visible = os.environ["CUDA_VISIBLE_DEVICES"]
    with pytest.MonkeyPatch.context() as patch:
        count_gpus(patch, len(visible.split(",")))
        return f"uses {index_of(doing)} of {visible}"


@pytest.mark.slow
def test_each_worker_tells_torch_the_first_of_the_gpus_it_sees(
    study: SearchRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def listen(event: WorkerFailed) -> None:
        said.append(event.reason)

    count_gpus(monkeypatch, 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("nas.search.run._work", search_on_one_gpu)
    monkeypatch.setattr("nas.final.workers._work", train_on_one_gpu)
    with pytest.raises(SearchFailed):
        run_search(replace(study, trials=9, workers=2, device="auto"), on(WorkerFailed, listen))
    assert sorted(said) == ["worker 1 uses 0 of 0", "worker 2 uses 0 of 1"]
    said.clear()
    with pytest.raises(FinalFailed):
        run_final(
            final_of(study, seeds=2, workers=2, per_gpu=2, device="cuda:1"),
            on(WorkerFailed, listen),
        )
    assert sorted(said) == ["worker 1 uses 0 of 1", "worker 2 uses 0 of 1"]


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("gpus", "name"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2")])
def test_a_device_that_is_not_there_is_one_line_before_images_are_read(
    gpus: int,
    name: str,
    study: SearchRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    count_gpus(monkeypatch, gpus)
    images = ["--dataset", "folder", "--data-dir", "photos"]
    for photo in (Path("photos/cat/1.png"), Path("photos/dog/2.png")):
        photo.parent.mkdir(parents=True)
        photo.touch()  # an error, too, once it is read
    for command in (
        ["train", "--preset", "resnet20", *images],
        ["search", "--budget", "5M", "--trials", "1", *images],
        ["search", "--budget", "5M", "--trials", "4", "--workers", "2", *images],
        ["final", "--study", STUDY],
        ["predict", "nowhere", "image.png"],
    ):
        capsys.readouterr()
        before = files_in(tmp_path)
        assert main([*command, "--device", name]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err == (
            "error: --device: expected auto, cpu or a CUDA device of this machine, which has "
            f"{gpus}, got '{name}'\n"
        )
        assert files_in(tmp_path) == before
    with pytest.raises(RequestError, match="--device"):
        nas.load(tmp_path, device=name)


def raised(doing: Doing) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        doing()
    return caught.value


def more_than_there_is() -> object:
    return torch.empty(10**15, dtype=torch.uint8)


def fail_from(cause: BaseException) -> None:
    raise ValueError("training failed") from cause


def while_handling(error: BaseException) -> BaseException:
    """An error that came while a lack of memory was handled."""

    def doing() -> None:
        try:
            more_than_there_is()
        except RuntimeError:
            raise error  # noqa: B904  # which is the case

    return raised(doing)


ACCELERATOR_ERROR = getattr(torch, "AcceleratorError", RuntimeError)  # torch >= 2.8

LACKS_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    MemoryError(),
    raised(more_than_there_is),
    RuntimeError("[enforce fail at alloc_cpu.cpp:72] DefaultCPUAllocator: not enough memory"),
    ACCELERATOR_ERROR("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    while_handling(RuntimeError("CUDA error: operation failed due to an earlier error")),
    raised(lambda: fail_from(MemoryError())),
]
OTHER_ERRORS = [
    ACCELERATOR_ERROR("CUDA error: an illegal memory access was encountered"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    RuntimeError("expected contiguous memory format"),
    RuntimeError("CUDNN_STATUS_EXECUTION_FAILED"),
    ValueError("out of memory"),
    KeyboardInterrupt(),
    while_handling(KeyboardInterrupt()),
]


@pytest.mark.parametrize("error", LACKS_OF_MEMORY, ids=repr)
def test_a_lack_of_memory_is_known_in_all_its_words(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHER_ERRORS, ids=repr)
def test_other_errors_are_no_lack_of_memory(error: BaseException) -> None:
    assert not is_out_of_memory(error)


WIDE = ["--blocks", "1", "--channels", "9000000", "--pool", "8"]


def test_a_design_that_does_not_fit_is_one_line_of_train(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *WIDE, "--dataset", "digits", "--device", "cpu", "--epochs", "1"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: out of memory on cpu (")
    assert "smaller --batch-size or a smaller design" in said.err
    assert len(said.err.splitlines()) == 1


def fill_gpu(patch: pytest.MonkeyPatch) -> None:
    """Makes torch count one GPU, whose memory is full."""
    count_gpus(patch, 1)
    patch.setattr(torch._C, "_cuda_setDevice", lambda index: None, raising=False)
    patch.setattr(torch.backends.cudnn, "benchmark", False)
    move = torch.Tensor.to

    def to(tensor: torch.Tensor, *where: object, **named: object) -> torch.Tensor:
        if any(isinstance(w, torch.device) and w.type == "cuda" for w in where):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return move(tensor, *where, **named)  # type: ignore[call-overload,no-any-return]

    patch.setattr(torch.Tensor, "to", to)


def test_images_that_do_not_fit_are_one_line(
    study: SearchRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    fill_gpu(monkeypatch)
    digits = ["--dataset", "digits", "--device", "cuda"]
    for command in (
        ["train", "--blocks", "1", "--channels", "4", "--pool", "4", *digits],
        ["search", "--budget", "5M", "--trials", "1", "--studies-dir", "others", *digits],
        ["final", "--study", STUDY, "--device", "cuda"],
    ):
        capsys.readouterr()
        line = error_line(capsys, main(command))
        assert "MB of images on cuda:0, got an out-of-memory error" in line
    location = StudyLocation.at(STUDY, studies_dir=Path("others"))
    assert read_study(location).trials == ()  # and the same command goes on


def test_memory_that_ends_anywhere_else_is_one_line(
    study: SearchRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = run_final(final_of(study)).folder
    fill_gpu(monkeypatch)
    capsys.readouterr()
    assert main(["predict", str(folder), "image.png", "--device", "cuda"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: out of memory: CUDA out of memory. Tried to allocate ")
    assert len(said.err.splitlines()) == 1
