"""Right loops, evaluations and loaders, most of them of installed libraries: no alarm is due."""

from __future__ import annotations

import importlib.util
from typing import Any

import loops_wrong as own
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

TRAINING: dict[str, tuple[Any, dict[str, Any]]] = {
    "scaler_of_torch": (own.scaled("unscale first"), {**own.CLIP}),
    "window_full": (own.accumulating(lambda k: k), {"window": "full"}),
    "resumes": (own.resumed(""), own.RESUME),
    "restores_best": (
        own.validated("best of all"), {"validation": "val_loader", "traits": ["restores_best"]},
    ),
    "ema_by_hand": (own.averaged(""), own.EMA),
}  # fmt: skip
EVALUATION: dict[str, tuple[Any, dict[str, Any]]] = {
    "accuracy_by_hand": (own.evaluating(""), {"metric": "accuracy"}),
}
LOADER: dict[str, tuple[Any, dict[str, Any]]] = {}
COLLATE: dict[str, tuple[Any, dict[str, Any]]] = {"pads": (own.collating(""), own.RAGGED)}


def right(table: dict[str, Any], *needs: str, **declared: Any) -> Any:
    def add(function: Any) -> Any:
        if all(importlib.util.find_spec(name) for name in needs):
            table[function.__name__] = (function, declared)
        return function

    return add


@right(TRAINING)
def tutorial(model, loader, optimizer, loss):
    """The loop of the PyTorch tutorial, for one epoch."""
    model.train()
    for _batch, (x, y) in enumerate(loader):
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()


@right(TRAINING, clip="max_norm", traits=["skips_nonfinite"])
def scaler_skips(model, loader, optimizer, loss, *, epochs=1, max_norm=None):
    return own.scaled("unscale first")(model, loader, optimizer, loss, epochs=epochs,
                                       max_norm=max_norm)  # fmt: skip


@right(TRAINING, average_decay="decay", traits=["returns_average"])
def averaged_model_of_torch(model, loader, optimizer, loss, *, epochs=1, decay=0.9):
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    for _ in range(epochs):
        for batch in loader:
            own._steps(model, [batch], optimizer, loss)
            ema.update_parameters(model)
    return ema


@right(TRAINING, "timm", average_decay="decay", traits=["returns_average"])
def ema_of_timm(model, loader, optimizer, loss, *, epochs=1, decay=0.9):
    from timm.utils import ModelEmaV2

    ema = ModelEmaV2(model, decay=decay)
    for _ in range(epochs):
        for batch in loader:
            own._steps(model, [batch], optimizer, loss)
            ema.update(model)
    return ema.module


@right(TRAINING, "timm", average_decay="decay", traits=["returns_average"])
def third_ema_of_timm(model, loader, optimizer, loss, *, epochs=1, decay=0.9):
    from timm.utils import ModelEmaV3

    ema = ModelEmaV3(model, decay=decay)
    for _ in range(epochs):
        for batch in loader:
            own._steps(model, [batch], optimizer, loss)
            ema.update(model)
    return ema.module


@right(TRAINING, "ignite")
def trainer_of_ignite(model, loader, optimizer, loss, *, epochs=1):
    from ignite.engine import create_supervised_trainer

    create_supervised_trainer(model, optimizer, loss).run(loader, max_epochs=epochs)


@right(TRAINING, "skorch")
def net_of_skorch(model, loader, optimizer, loss, *, epochs=1):
    from skorch import NeuralNet

    net = NeuralNet(
        type(model), criterion=type(loss) if isinstance(loss, nn.Module) else _Called(loss),
        train_split=None, verbose=0, iterator_train=lambda dataset, **_: loader,
        max_epochs=epochs, warm_start=True, callbacks="disable",
    )  # fmt: skip
    net.initialize_module = lambda: setattr(net, "module_", model) or net
    net.initialize_criterion = lambda: setattr(net, "criterion_", loss) or net
    net.initialize_optimizer = lambda *a, **b: setattr(net, "optimizer_", optimizer) or net
    net.get_loss = lambda p, y, **_: loss(p, y)
    net.initialize()
    net.partial_fit(loader.dataset, None)


class _Called:
    def __init__(self, loss):
        self.loss = loss

    def __call__(self):
        return self.loss


@right(TRAINING, "accelerate", window="full", clip="max_norm")
def loop_of_accelerate(model, loader, optimizer, loss, *, accumulate=1, epochs=1, max_norm=None):
    from accelerate import Accelerator

    Accelerator().free_memory()
    helper = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    helper.gradient_state.plugin_kwargs.update(num_steps=accumulate)
    model, optimizer, loader = helper.prepare(model, optimizer, loader)
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            with helper.accumulate(model):
                helper.backward(loss(model(x), y))
                if helper.sync_gradients and max_norm is not None:
                    helper.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
                optimizer.zero_grad()


@right(TRAINING, "lightning", clip="gradient_clip_val", window="full", scheduler="epoch",
       validation="validation", resume="checkpoint")  # fmt: skip
def trainer_of_lightning(model, loader, optimizer, loss, *, gradient_clip_val=None, **given):
    from dlcheck.adapters.lightning import training

    training(model, loader, optimizer, loss, gradient_clip_val=gradient_clip_val, **given)


@right(TRAINING, "transformers", clip="max_grad_norm", scheduler="step", ignore_index=-100)
def trainer_of_transformers(model, loader, optimizer, loss, *, max_grad_norm=None, **given):
    from dlcheck.adapters.transformers import training

    training(model, loader, optimizer, loss, max_grad_norm=max_grad_norm, **given)


@right(EVALUATION, "lightning", metric="mean_loss")
def validation_of_lightning(model, loader):
    from dlcheck.adapters.lightning import evaluation

    return evaluation(model, loader)


@right(EVALUATION, "ignite", metric="accuracy")
def evaluator_of_ignite(model, loader):
    from ignite.engine import create_supervised_evaluator
    from ignite.metrics import Accuracy

    was = model.training
    found = create_supervised_evaluator(model, {"accuracy": Accuracy()}).run(loader)
    model.train(was)
    return found.metrics["accuracy"]


@right(EVALUATION, "ignite", metric="mean_loss")
def loss_of_ignite(model, loader):
    from ignite.engine import create_supervised_evaluator
    from ignite.metrics import Loss

    was = model.training
    metric = Loss(nn.functional.cross_entropy)
    found = create_supervised_evaluator(model, {"loss": metric}).run(loader)
    model.train(was)
    return found.metrics["loss"]


@right(EVALUATION, "torchmetrics", metric="accuracy")
def accuracy_of_torchmetrics(model, loader):
    from torchmetrics import MeanMetric

    was = model.training
    metric = MeanMetric().double()
    model.eval()
    with torch.inference_mode():
        for x, y in loader:
            metric.update((model(x).argmax(-1) == y).double())
    model.train(was)
    return metric.compute()


@right(LOADER, shuffle=True, drop_last="drop_last", workers="num_workers",
       persistent="persistent_workers", traits=["validates"])  # fmt: skip
def loader_of_torch(dataset, **given):
    return DataLoader(dataset, shuffle=True, **given)


@right(LOADER, shuffle=True, traits=["with_replacement"])
def weighted_sampler(dataset, batch_size):
    sampler = torch.utils.data.WeightedRandomSampler([1.0] * len(dataset), len(dataset))
    return DataLoader(dataset, batch_size, sampler=sampler)


class _Epochs:
    def __init__(self, dataset, batch_size, rank=0, world=1, seed=0):
        self.sampler = DistributedSampler(dataset, world, rank, shuffle=True, seed=seed)
        self.loader = DataLoader(dataset, batch_size, sampler=self.sampler)
        self.epoch = -1

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.epoch += 1
        self.sampler.set_epoch(self.epoch)
        return iter(self.loader)


LOADER["distributed_sampler"] = (
    _Epochs,
    {"shuffle": True, "seed": "seed", "shards": {"rank": "rank", "count": "world"},
     "traits": ["pads_shards"]},
)  # fmt: skip


@right(LOADER, "accelerate", shuffle=True, drop_last="drop_last")
def loader_of_accelerate(dataset, **given):
    from accelerate import Accelerator

    return Accelerator(cpu=True).prepare(DataLoader(dataset, shuffle=True, **given))


@right(LOADER, "lightning", shuffle=False)
def combined_loader_of_lightning(dataset, batch_size):
    from lightning.pytorch.utilities import CombinedLoader

    class Plain:
        def __init__(self):
            self.loader = CombinedLoader([DataLoader(dataset, batch_size)], "sequential")

        def __iter__(self):
            return (batch for batch, _, _ in self.loader)

    return Plain()


class _WorkerShare(own._All):
    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        start, step = (info.id, info.num_workers) if info else (0, 1)
        return (self.dataset[i] for i in range(start, len(self.dataset), step))


@right(LOADER, workers="num_workers", traits=["order_by_worker"])
def iterable_data_set(dataset, batch_size, num_workers=0):
    return DataLoader(_WorkerShare(dataset), batch_size, num_workers=num_workers)


@right(COLLATE)
def default_collate(rows):
    return torch.utils.data.default_collate(rows)


@right(COLLATE, "transformers", rows="dict",
       inputs={"input_ids": "index[v] n 4", "labels": "label[k] n"})  # fmt: skip
def data_collator_of_transformers(rows):
    from transformers import default_data_collator

    return default_data_collator(rows)
