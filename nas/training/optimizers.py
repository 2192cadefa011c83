"""torch.optim's optimizers, as recipes name them."""

import torch
from torch import nn

from nas.training.backend import Backend
from nas.training.config import Optimizer, TrainingConfig


def make_optimizer(
    model: nn.Module, config: TrainingConfig, backend: Backend
) -> torch.optim.Optimizer:
    """The recipe's optimizer over the model's weights.

    Norms and biases have no weight decay unless the recipe says so. The fastest implementation that
    torch has for the device is taken. Where steps are recorded as graphs the learning rate is a
    tensor, so that a graph follows it, if the optimizer keeps all it counts on the device, too.
    """
    if config.decay_all:
        groups = [{"params": list(model.parameters()), "weight_decay": config.weight_decay}]
    else:
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
    on_host = config.optimizer is Optimizer.ADAGRAD and not backend.fused_adagrad
    recorded = backend.graphs is not None and not on_host
    device = next(model.parameters()).device
    lr = torch.tensor(config.lr, device=device) if recorded else config.lr
    match config.optimizer:
        case Optimizer.SGD | Optimizer.NESTEROV:
            nesterov = config.optimizer is Optimizer.NESTEROV
            return torch.optim.SGD(
                groups, lr=lr, momentum=config.momentum, nesterov=nesterov, fused=True
            )
        case Optimizer.ADAM:
            return torch.optim.Adam(groups, lr=lr, fused=True, capturable=recorded)
        case Optimizer.ADAMW:
            return torch.optim.AdamW(groups, lr=lr, fused=True, capturable=recorded)
        case Optimizer.ADADELTA:
            return torch.optim.Adadelta(groups, lr=lr, foreach=True, capturable=recorded)
        case Optimizer.ADAGRAD if backend.fused_adagrad:
            return torch.optim.Adagrad(groups, lr=lr, fused=True)
        case Optimizer.ADAGRAD:  # with a rate on the host: foreach reads one on a device 200 times
            return torch.optim.Adagrad(groups, lr=lr, foreach=True)


def has_rate_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a recorded step would follow the learning rate."""
    return all(isinstance(group["lr"], torch.Tensor) for group in optimizer.param_groups)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step, without waiting for the device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
