"""optimization.json: Adafactor steps of a matrix and a vector, and the learning rates of every schedule."""

import random

import torch
from transformers import get_scheduler
from transformers.optimization import Adafactor

import reference_model

STEPS = 7
# A weight and a bias of a tiny model; the bias is not decayed.
SHAPES = {"fc1.weight": (3, 4), "fc1.bias": (3,)}
# In these steps, counted from 1, the weight has no gradient.
MISSING = (3, 4, 5)
OPTIMIZERS = [
    {"scale_parameter": False, "relative_step": False, "learning_rate": 1e-2},
    {"scale_parameter": False, "relative_step": False, "learning_rate": 1e-2, "weight_decay": 0.1, "beta1": 0.9},
    {"scale_parameter": True, "relative_step": False, "learning_rate": 1e-2, "clip_threshold": 0.5, "decay_rate": -0.6},
    {"scale_parameter": True, "relative_step": True, "weight_decay": 0.1, "eps": [1e-12, 0.1]},
    {"scale_parameter": True, "relative_step": True, "warmup_init": True, "beta1": 0.5, "eps": [1e-30, 1e-3]},
]
SCHEDULES = [
    ("linear", 0, {}),
    ("linear", 4, {}),
    ("cosine", 3, {}),
    ("cosine", 0, {"num_cycles": 1.5}),
    ("polynomial", 2, {"power": 1.0}),
    ("polynomial", 4, {"power": 2.5, "lr_end": 1e-4}),
    ("polynomial", 0, {"power": 3.0, "lr_end": 0.0}),
    ("constant", 3, {}),
    ("constant_with_warmup", 3, {}),
    ("inverse_sqrt", 3, {}),
    ("inverse_sqrt", 0, {}),
]
TOTAL, PEAK = 16, 3e-3


def numbers(rng, shape):
    count = torch.Size(shape).numel()
    return torch.tensor([rng.gauss(0.0, 1.0) for _ in range(count)], dtype=torch.float32).reshape(shape)


def values(tensor):
    """With as many digits as float32 needs."""
    return [float(f"{value:.9g}") for value in tensor.detach().flatten().tolist()]


def adafactor(rng, options):
    """Gradients, and the parameters after every step."""
    parameters = {name: torch.nn.Parameter(numbers(rng, shape)) for name, shape in SHAPES.items()}
    case = {"options": options, "start": {name: values(value) for name, value in parameters.items()}, "steps": []}
    given = {key: tuple(value) if key == "eps" else value for key, value in options.items()}
    groups = [{"params": parameters["fc1.weight"]}, {"params": parameters["fc1.bias"], "weight_decay": 0.0}]
    optimizer = Adafactor(groups, lr=given.pop("learning_rate", None), **given)
    for step in range(1, STEPS + 1):
        gradients = {}
        for name, parameter in parameters.items():
            # Large at first, then small, so that some updates are clipped.
            gradient = numbers(rng, parameter.shape) * (4.0 if step < 3 else 0.3)
            parameter.grad = None if name == "fc1.weight" and step in MISSING else gradient
            if parameter.grad is not None:
                gradients[name] = values(gradient)
        optimizer.step()
        after = {name: values(value) for name, value in parameters.items()}
        case["steps"].append({"gradients": gradients, "parameters": after})
    return case


def schedule(name, warmup_steps, options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = get_scheduler(name, optimizer, warmup_steps, TOTAL, scheduler_specific_kwargs=options)
    rates = []
    for _ in range(TOTAL + 1):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return {"lr_scheduler_type": name, "warmup_steps": warmup_steps, "lr_scheduler_kwargs": options, "rates": rates}


def make(output):
    rng = random.Random(5)
    schedules = [schedule(*each) for each in SCHEDULES]
    cases = [adafactor(rng, options) for options in OPTIMIZERS]
    fields = {"total": TOTAL, "learning_rate": PEAK, "schedules": schedules}
    reference_model.write(output / "optimization", cases, **fields)
    print(f"{len(cases)} settings of Adafactor, {len(schedules)} schedules")
