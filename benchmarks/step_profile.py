"""Where the time of a training step goes: kernels by the time they take, of a thin and a wide net.

After a warm-up, in which steps are captured where that works, torch's profiler records an epoch of
40 steps of our loop with the recipe `fast`, batches and their augmentation included, validation
left out as far as it goes (64 images)::

    python benchmarks/step_profile.py --presets resnet20 flexres22-2

Images are random bytes of CIFAR-10's shape.
"""

import argparse
import shlex
import sys

from torch.profiler import ProfilerActivity, profile

from machine import hardware, software
from nas.architecture import PRESETS
from nas.runtime.devices import open_device
from new_designs import run_of

STEPS = 40


def main() -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--presets", nargs="+", choices=PRESETS, default=("resnet20", "flexres22-2"), metavar="NAME"
    )
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = open_device(args.device)
    on_gpu = device.type == "cuda"
    print(hardware(device))
    print(software("torch"))
    print(f"python {shlex.join(sys.argv)}")
    for preset in args.presets:
        run = run_of(PRESETS[preset], device, args.batch_size, STEPS)
        for _ in range(2):
            run.train_epoch()
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
        with profile(activities=activities) as profiled:
            result = run.train_epoch()
        kind = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        events = [
            (getattr(event, kind), event.count, event.key)
            for event in profiled.key_averages()
            if ("CUDA" in str(event.device_type)) == on_gpu
        ]
        total = sum(microseconds for microseconds, _, _ in events)
        step = 1e6 * args.batch_size / result.images_per_second
        print(
            f"\n{preset}: {result.images_per_second:,.0f} images/s under the profiler, a step "
            f"{step:,.0f} us, of which kernels take {total / STEPS:,.0f} us"
            f"{' (captured)' if run.captured else ''}"
        )
        print(f"{'share':>7}{'us/step':>10}{'calls/step':>12}  kernel")
        for microseconds, calls, name in sorted(events, reverse=True)[: args.rows]:
            print(
                f"{microseconds / total:>7.1%}{microseconds / STEPS:>10.1f}"
                f"{calls / STEPS:>12.1f}  {name[:90]}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
