"""torch.optim's optimizers, as recipes name them."""

import torch
from torch import nn

from nas.training.config import Optimizer, TrainingConfig


def make_optimizer(
    model: nn.Module, config: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    """The recipe's optimizer over the model's weights.

    Norms and biases have no weight decay unless the recipe says so. The fastest implementation that
    torch has for the device is taken. On CUDA the learning rate is a tensor, so that a CUDA graph
    of the step follows it.
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
    on_cuda = device.type == "cuda"
    lr = torch.tensor(config.lr, device=device) if on_cuda else config.lr
    match config.optimizer:
        case Optimizer.SGD | Optimizer.NESTEROV:
            nesterov = config.optimizer is Optimizer.NESTEROV
            return torch.optim.SGD(
                groups, lr=lr, momentum=config.momentum, nesterov=nesterov, fused=True
            )
        case Optimizer.ADAM:
            return torch.optim.Adam(groups, lr=lr, fused=True, capturable=on_cuda)
        case Optimizer.ADAMW:
            return torch.optim.AdamW(groups, lr=lr, fused=True, capturable=on_cuda)
        case Optimizer.ADADELTA:
            return torch.optim.Adadelta(groups, lr=lr, foreach=True, capturable=on_cuda)
        case Optimizer.ADAGRAD:
            return torch.optim.Adagrad(groups, lr=lr, foreach=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step, without waiting for the device."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
