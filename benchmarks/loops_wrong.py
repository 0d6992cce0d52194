"""Loops, evaluations, loaders and collations with mistakes that people make, written as they do."""

from __future__ import annotations

import copy
import itertools
import os
import queue
import threading
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data.distributed import DistributedSampler

TRAINING: dict[str, tuple[Any, dict[str, Any]]] = {}
EVALUATION: dict[str, tuple[Any, dict[str, Any]]] = {}
LOADER: dict[str, tuple[Any, dict[str, Any]]] = {}
COLLATE: dict[str, tuple[Any, dict[str, Any]]] = {}


def wrong(table: dict[str, Any], **declared: Any) -> Any:
    def add(function: Any) -> Any:
        table[function.__name__] = (function, declared)
        return function

    return add


# --- training ---------------------------------------------------------------------------------


@wrong(TRAINING)
def zero_grad_forgotten(model, loader, optimizer, loss, *, epochs=1):
    for _ in range(epochs):
        for x, y in loader:
            loss(model(x), y).backward()
            optimizer.step()


@wrong(TRAINING)
def zero_grad_between(model, loader, optimizer, loss, *, epochs=1):
    for _ in range(epochs):
        for x, y in loader:
            value = loss(model(x), y)
            value.backward()
            optimizer.zero_grad(set_to_none=False)
            optimizer.step()


@wrong(TRAINING)
def zero_grad_once_an_epoch(model, loader, optimizer, loss, *, epochs=1):
    for _ in range(epochs):
        optimizer.zero_grad()
        for x, y in loader:
            loss(model(x), y).backward()
            optimizer.step()


def accumulating(divide, *, tail=True):
    def train(model, loader, optimizer, loss, *, accumulate=1, epochs=1):
        model.train()
        for _ in range(epochs):
            optimizer.zero_grad()
            for i, (x, y) in enumerate(loader):
                (loss(model(x), y) / divide(accumulate)).backward()
                last = tail and i + 1 == len(loader)
                if (i + 1) % accumulate == 0 or last:
                    optimizer.step()
                    optimizer.zero_grad()

    return train


TRAINING["loss_not_divided"] = (accumulating(lambda k: 1), {})
TRAINING["divided_by_the_full_count"] = (accumulating(lambda k: k), {})
TRAINING["last_window_dropped"] = (accumulating(lambda k: k, tail=False), {"window": "full"})
TRAINING["batches_alike"] = (accumulating(lambda k: k), {"window": "batches"})


@wrong(TRAINING)
def window_runs_on_over_epochs(model, loader, optimizer, loss, *, accumulate=1, epochs=1):
    count = 0
    for _ in range(epochs):
        for x, y in loader:
            (loss(model(x), y) / accumulate).backward()
            count += 1
            if count % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()


@wrong(TRAINING)
def optimizer_made_anew_each_epoch(model, loader, optimizer, loss, *, epochs=1):
    for _ in range(epochs):
        own = torch.optim.SGD(
            model.parameters(), optimizer.param_groups[0]["lr"],
            momentum=optimizer.param_groups[0]["momentum"],
        )  # fmt: skip
        for x, y in loader:
            own.zero_grad()
            loss(model(x), y).backward()
            own.step()


def _steps(model, batches, optimizer, loss):
    for x, y in batches:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()


@wrong(TRAINING)
def drop_last_hidden(model, loader, optimizer, loss, *, epochs=1):
    size = loader.batch_size
    for _ in range(epochs):
        _steps(model, ((x, y) for x, y in loader if len(x) == size), optimizer, loss)


@wrong(TRAINING)
def builds_its_own_loader(model, loader, optimizer, loss, *, epochs=1):
    own = DataLoader(loader.dataset, loader.batch_size)
    for _ in range(epochs):
        _steps(model, own, optimizer, loss)


@wrong(TRAINING)
def first_batch_for_ever(model, loader, optimizer, loss, *, epochs=1):
    for _ in range(epochs * len(loader)):
        _steps(model, [next(iter(loader))], optimizer, loss)


@wrong(TRAINING)
def first_epoch_cached(model, loader, optimizer, loss, *, epochs=1):
    batches = list(loader)
    for _ in range(epochs):
        _steps(model, batches, optimizer, loss)


@wrong(TRAINING)
def one_epoch_too_many(model, loader, optimizer, loss, *, epochs=1):
    for _ in range(epochs + 1):
        _steps(model, loader, optimizer, loss)


@wrong(TRAINING)
def iterator_made_once(model, loader, optimizer, loss, *, epochs=1):
    batches = iter(loader)
    for _ in range(epochs):
        _steps(model, batches, optimizer, loss)


@wrong(TRAINING)
def labels_of_the_batch_before(model, loader, optimizer, loss, *, epochs=1):
    last = None
    for _ in range(epochs):
        for x, y in loader:
            target = y if last is None or len(last) != len(y) else last
            _steps(model, [(x, target)], optimizer, loss)
            last = y


@wrong(TRAINING)
def autocast_not_declared(model, loader, optimizer, loss, *, epochs=1):
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(model(x.float()).to(x.dtype), y)
            value.backward()
            optimizer.step()


@wrong(TRAINING)
def secret_weight_decay(model, loader, optimizer, loss, *, epochs=1):
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            decay = sum(p.square().sum() for p in model.parameters())
            (loss(model(x), y) + 1e-4 * decay).backward()
            optimizer.step()


@wrong(TRAINING)
def secret_warmup(model, loader, optimizer, loss, *, epochs=1):
    rate, step = optimizer.param_groups[0]["lr"], 0
    for _ in range(epochs):
        for x, y in loader:
            step += 1
            optimizer.param_groups[0]["lr"] = rate * min(1, step / 10)
            _steps(model, [(x, y)], optimizer, loss)


@wrong(TRAINING)
def secret_clipping(model, loader, optimizer, loss, *, epochs=1):
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()


@wrong(TRAINING)
def first_layer_left_frozen(model, loader, optimizer, loss, *, epochs=1):
    next(iter(model.parameters())).requires_grad_(requires_grad=False)
    for _ in range(epochs):
        _steps(model, loader, optimizer, loss)


@wrong(TRAINING)
def trains_a_copy(model, loader, optimizer, loss, *, epochs=1):
    model = copy.deepcopy(model)
    for _ in range(epochs):
        _steps(model, loader, optimizer, loss)


def scaled(order):
    def train(model, loader, optimizer, loss, *, epochs=1, max_norm=None):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10**6)
        for _ in range(epochs):
            for x, y in loader:
                optimizer.zero_grad()
                scaler.scale(loss(model(x), y)).backward()
                if order == "unscale first":
                    scaler.unscale_(optimizer)
                if max_norm is not None and order != "after":
                    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                scaler.step(optimizer)
                scaler.update()
                if max_norm is not None and order == "after":
                    nn.utils.clip_grad_norm_(model.parameters(), max_norm)

    return train


CLIP = {"clip": "max_norm"}
TRAINING["clip_before_unscale"] = (scaled("clip first"), CLIP)
TRAINING["clip_after_the_step"] = (scaled("after"), CLIP)


def clipped(clip):
    def train(model, loader, optimizer, loss, *, accumulate=1, epochs=1, max_norm=None):
        for _ in range(epochs):
            batches = iter(loader)
            while window := list(itertools.islice(batches, accumulate)):
                rows = sum(len(x) for x, _ in window)
                optimizer.zero_grad()
                for x, y in window:
                    (loss(model(x), y) * len(x) / rows).backward()
                    if clip == "each" and max_norm is not None:
                        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                if clip == "value" and max_norm is not None:
                    nn.utils.clip_grad_value_(model.parameters(), max_norm)
                if clip == "l1" and max_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), max_norm, norm_type=1)
                if clip == "head" and max_norm is not None:
                    nn.utils.clip_grad_norm_(list(model.parameters())[-2:], max_norm)
                optimizer.step()

    return train


for way in ("each", "value", "l1", "head", "not"):
    TRAINING[f"clip_{way}"] = (clipped(way), CLIP)


def scheduled(when):
    def train(model, loader, optimizer, loss, *, accumulate=1, epochs=1, scheduler=None):
        for _ in range(epochs):
            batches = iter(loader)
            while window := list(itertools.islice(batches, accumulate)):
                rows = sum(len(x) for x, _ in window)
                optimizer.zero_grad()
                for x, y in window:
                    (loss(model(x), y) * len(x) / rows).backward()
                    if scheduler is not None and when == "micro-batch":
                        scheduler.step()
                if scheduler is not None and when == "before":
                    scheduler.step()
                optimizer.step()
            if scheduler is not None and when == "epoch":
                scheduler.step()

    return train


for when in ("micro-batch", "before", "epoch", "never"):
    TRAINING[f"schedule_{when}"] = (scheduled(when), {"scheduler": "step"})
TRAINING["schedule_epoch_before"] = (scheduled("before"), {"scheduler": "epoch"})


def validated(fault):
    def train(model, loader, optimizer, loss, *, epochs=1, val_loader=None):
        model.train()
        best, best_loss = None, float("inf")
        for _ in range(epochs):
            if fault not in ("eval left on", "best"):
                model.train()
            _steps(model, loader, optimizer, loss)
            if val_loader is None:
                continue
            if fault != "validates in train mode":
                model.eval()
            total = 0.0
            for x, y in val_loader:
                value = loss(model(x), y)
                if fault == "backward in validation":
                    value.backward()
                    optimizer.step()
                total += float(value) * len(x)
            if fault == "worst":
                total = -total
            if fault == "training loss":
                total = sum(float(loss(model(x), y)) * len(x) for x, y in loader)
            if total < best_loss:
                best_loss = total
                state = model.state_dict()
                best = state if fault == "reference" else copy.deepcopy(state)
            if fault == "shallow" and total == best_loss:
                best = copy.copy(model.state_dict())
        if best is not None and fault not in ("eval left on", "validates in train mode",
                                              "backward in validation", "last"):  # fmt: skip
            model.load_state_dict(best)

    return train


for fault in ("eval left on", "validates in train mode", "backward in validation"):
    TRAINING[fault.replace(" ", "_")] = (validated(fault), {"validation": "val_loader"})
for fault in ("reference", "shallow", "worst", "last", "training loss"):
    TRAINING[f"best_{fault.replace(' ', '_')}"] = (
        validated(fault), {"validation": "val_loader", "traits": ["restores_best"]},
    )  # fmt: skip


def resumed(fault):
    def train(model, loader, optimizer, loss, *, epochs=1, scheduler=None, checkpoint=None):
        start = 0
        if checkpoint and os.path.exists(checkpoint):
            state = torch.load(checkpoint, weights_only=False)
            model.load_state_dict(state["model"])
            if fault != "optimizer":
                optimizer.load_state_dict(state["optimizer"])
            if scheduler is not None and fault != "scheduler":
                scheduler.load_state_dict(state["scheduler"])
            if fault != "random":
                torch.set_rng_state(state["rng"])
            start = state["epoch"] + (0 if fault == "epoch" else 1)
        model.train()
        for epoch in range(start, epochs):
            _steps(model, loader, optimizer, loss)
            if scheduler is not None:
                scheduler.step()
            if checkpoint:
                torch.save({
                    "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                    "rng": torch.get_rng_state(), "epoch": epoch,
                    "scheduler": scheduler.state_dict() if scheduler is not None else None,
                }, checkpoint)  # fmt: skip

    return train


RESUME = {"resume": {"path": "checkpoint", "random": True}, "scheduler": "epoch"}
for fault in ("optimizer", "scheduler", "random", "epoch"):
    TRAINING[f"resume_loses_{fault}"] = (resumed(fault), RESUME)


def averaged(fault):
    def train(model, loader, optimizer, loss, *, epochs=1, decay=0.9):
        ema = copy.deepcopy(model)
        if fault == "shared":
            ema.load_state_dict(model.state_dict())
            for a, p in zip(ema.parameters(), model.parameters(), strict=True):
                a.data = p.data
        for _ in range(epochs):
            for batch in loader:
                _steps(model, [batch], optimizer, loss)
                if fault != "each epoch":
                    _mix(ema, model, 1 - decay if fault == "swapped" else decay, fault)
            if fault == "each epoch":
                _mix(ema, model, decay, fault)
        return ema

    return train


def _mix(ema, model, decay, fault):
    with torch.no_grad():
        pairs = zip(ema.parameters(), model.parameters(), strict=True)
        for a, p in itertools.islice(pairs, 1 if fault == "first" else None):
            a.mul_(decay).add_(p, alpha=1 if fault == "sum" else 1 - decay)


EMA = {"average_decay": "decay", "traits": ["returns_average"]}
for fault in ("shared", "each epoch", "swapped", "first", "sum"):
    TRAINING[f"ema_{fault.replace(' ', '_')}"] = (averaged(fault), EMA)


def skipping(fault):
    def train(model, loader, optimizer, loss, *, epochs=1):
        for _ in range(epochs):
            for x, y in loader:
                optimizer.zero_grad()
                value = loss(model(x), y)
                if fault == "break" and not torch.isfinite(value):
                    break
                value.backward()
                bad = any(not torch.isfinite(p.grad).all() for p in model.parameters())
                if bad and fault == "zeros":
                    for p in model.parameters():
                        p.grad.zero_()
                if bad and fault == "reset":
                    optimizer.state.clear()
                    continue
                if fault == "nan_to_num":
                    for p in model.parameters():
                        p.grad.nan_to_num_(0)
                optimizer.step()

    return train


for fault in ("break", "zeros", "reset", "nan_to_num", "none"):
    TRAINING[f"skip_by_{fault}"] = (skipping(fault), {"traits": ["skips_nonfinite"]})


def ignoring(model, loader, optimizer, loss, *, accumulate=1, epochs=1):
    for _ in range(epochs):
        batches = iter(loader)
        while window := list(itertools.islice(batches, accumulate)):
            optimizer.zero_grad()
            rows = sum(len(x) for x, _ in window)
            for x, y in window:
                (loss(model(x), y) * len(x) / rows).backward()
            optimizer.step()


TRAINING["ignored_labels_counted"] = (ignoring, {"ignore_index": -100})


# --- evaluation -------------------------------------------------------------------------------


def evaluating(fault):
    kept: list[float] = []

    def evaluate(model, loader):
        was = model.training
        if fault != "train mode":
            model.eval()
        right, rows, shares, running = 0, 0, [], 0.0
        context = torch.enable_grad() if fault == "graph" else torch.no_grad()
        with context:
            for i, (x, y) in enumerate(loader):
                if fault == "skips the last" and len(loader) > 1 and i + 1 == len(loader):
                    break
                axis = 0 if fault == "axis" else -1
                z = model(x)
                hits = (z.argmax(axis) == y).double() if axis else _first_axis(z, y)
                right += float(hits.sum())
                rows += len(y)
                shares.append(float(hits.mean()))
                running += (float(hits.mean()) - running) * (0.5 if i else 1.0)
        if fault != "stays in eval":
            model.train(was if fault != "always train" else True)
        if fault == "accumulates":
            kept.append(right / rows)
            return sum(kept) / len(kept) + 1e-3 * len(kept)
        return {
            "mean of means": float(np.mean(shares)),
            "data set": right / len(loader.dataset),
            "count": right / (len(loader) * loader.batch_size),
            "running": running,
            "last batch": shares[-1],
            "percent": 100 * right / rows,
            "error": 1 - right / rows,
        }.get(fault, right / rows)

    return evaluate


def _first_axis(z, y):
    classes = z.argmax(0)
    return torch.tensor([float(classes[t] == i) for i, t in enumerate(y.tolist())])


for fault in ("train mode", "graph", "skips the last", "axis", "stays in eval", "always train",
              "accumulates", "mean of means", "data set", "count", "running", "last batch",
              "percent", "error"):  # fmt: skip
    EVALUATION[fault.replace(" ", "_")] = (evaluating(fault), {"metric": "accuracy"})


@wrong(EVALUATION, metric="mean_loss")
def loss_mean_of_means(model, loader):
    was = model.training
    model.eval()
    with torch.no_grad():
        total = sum(float(nn.functional.cross_entropy(model(x), y)) for x, y in loader)
    model.train(was)
    return total / len(loader)


# --- loaders ----------------------------------------------------------------------------------


WORKERS = {"workers": "num_workers"}


@wrong(LOADER, shuffle=True, **WORKERS)
def workers_seed_numpy_alike(dataset, batch_size, num_workers=0):
    return DataLoader(dataset, batch_size, shuffle=True, num_workers=num_workers,
                      worker_init_fn=lambda worker: np.random.seed(0))  # fmt: skip


@wrong(LOADER, shuffle=True, **WORKERS)
def workers_seed_by_their_number(dataset, batch_size, num_workers=0):
    return DataLoader(dataset, batch_size, shuffle=True, num_workers=num_workers,
                      worker_init_fn=lambda worker: np.random.seed(worker))  # fmt: skip


@wrong(LOADER, shuffle=True)
def drops_the_last(dataset, batch_size):
    return DataLoader(dataset, batch_size, shuffle=True, drop_last=True)


class _Fixed:
    def __init__(self, dataset, batch_size):
        self.dataset, self.batch_size = dataset, batch_size

    def __len__(self):
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        return iter(DataLoader(self.dataset, self.batch_size, shuffle=True, generator=generator))


LOADER["same_order_each_epoch"] = (_Fixed, {"shuffle": True})


@wrong(LOADER, shuffle=True, shards={"rank": "rank", "count": "world"}, traits=["pads_shards"])
def set_epoch_forgotten(dataset, batch_size, rank=0, world=1):
    sampler = DistributedSampler(dataset, world, rank, shuffle=True)
    return DataLoader(dataset, batch_size, sampler=sampler)


@wrong(LOADER, shards={"rank": "rank", "count": "world"})
def rank_ignored(dataset, batch_size, rank=0, world=1):
    return DataLoader(dataset, batch_size)


@wrong(LOADER, shards={"rank": "rank", "count": "world"})
def remainder_lost_to_ranks(dataset, batch_size, rank=0, world=1):
    each = len(dataset) // world
    return DataLoader(torch.utils.data.Subset(dataset, range(rank * each, (rank + 1) * each)),
                      batch_size)  # fmt: skip


class _All(IterableDataset):
    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        return (self.dataset[i] for i in range(len(self.dataset)))


@wrong(LOADER, **WORKERS)
def workers_read_everything(dataset, batch_size, num_workers=0):
    return DataLoader(_All(dataset), batch_size, num_workers=num_workers)


class _Strided(_All):
    def __iter__(self):
        info = get_worker_info()
        start, step = (info.id, info.num_workers + 1) if info else (0, 1)
        return (self.dataset[i] for i in range(start, len(self.dataset), step))


@wrong(LOADER, traits=["order_by_worker"], **WORKERS)
def workers_leave_rows(dataset, batch_size, num_workers=0):
    return DataLoader(_Strided(dataset), batch_size, num_workers=num_workers)


@wrong(LOADER, shuffle=True)
def samples_with_replacement(dataset, batch_size):
    sampler = torch.utils.data.RandomSampler(dataset, replacement=True)
    return DataLoader(dataset, batch_size, sampler=sampler)


class _Prefetched:
    def __init__(self, dataset, batch_size):
        self.loader = DataLoader(dataset, batch_size)

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        waiting: Any = queue.Queue(2)

        def fill():
            for batch in self.loader:
                waiting.put(batch)
            waiting.put(None)

        threading.Thread(target=fill, daemon=True).start()
        last = waiting.get()
        while (following := waiting.get()) is not None:
            yield last
            last = following


LOADER["prefetch_loses_the_last"] = (_Prefetched, {"shuffle": False})


class _Retrying(torch.utils.data.Dataset):
    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        try:
            return self.dataset[i]
        except Exception:
            return self[(i + 1) % len(self)]


@wrong(LOADER, shuffle=True)
def bad_rows_replaced(dataset, batch_size):
    return DataLoader(_Retrying(dataset), batch_size, shuffle=True)


class _Reused:
    """Chunks of neighbours in random order."""

    def __init__(self, dataset, batch_size):
        self.dataset, self.size = dataset, batch_size

    def __len__(self):
        return -(-len(self.dataset) // self.size)

    def __iter__(self):
        starts = torch.randperm(len(self)) * self.size
        for start in starts.tolist():
            rows = range(start, min(start + self.size, len(self.dataset)))
            yield torch.utils.data.default_collate([self.dataset[i] for i in rows])


LOADER["shuffles_chunks_only"] = (_Reused, {"shuffle": True})


class _SortsInputs(_Reused):
    def __iter__(self):
        order = torch.randperm(len(self.dataset)).tolist()
        for start in range(0, len(order), self.size):
            x, y = torch.utils.data.default_collate(
                [self.dataset[i] for i in order[start : start + self.size]]
            )
            yield x[x.flatten(1).sum(1).argsort()], y


LOADER["sorts_inputs_without_targets"] = (_SortsInputs, {"shuffle": True})


class _NoisyByIndex(_Reused):
    def __iter__(self):
        for start in range(0, len(self.dataset), self.size):
            rows = range(start, min(start + self.size, len(self.dataset)))
            x, y = torch.utils.data.default_collate([self.dataset[i] for i in rows])
            generator = torch.Generator().manual_seed(start)
            yield x + torch.randn(x.shape, generator=generator, dtype=x.dtype), y


LOADER["noise_by_index"] = (_NoisyByIndex, {"shuffle": False, "traits": ["stochastic"]})


class _Endless(_Reused):
    def __iter__(self):
        while len(self.dataset) >= self.size:
            order = torch.randperm(len(self.dataset)).tolist()
            for start in range(0, len(order) - self.size + 1, self.size):
                yield torch.utils.data.default_collate(
                    [self.dataset[i] for i in order[start : start + self.size]]
                )


LOADER["endless_drops_the_tail"] = (_Endless, {"traits": ["endless"]})


@wrong(LOADER, traits=["validates"])
def takes_a_batch_of_none(dataset, batch_size):
    return DataLoader(dataset, max(1, batch_size))


@wrong(LOADER)
def casts_to_half(dataset, batch_size):
    return ((x.half(), y) for x, y in DataLoader(dataset, batch_size))


# --- collations -------------------------------------------------------------------------------

RAGGED = {"inputs": {"x": "float n t~", "y": "label[k] n"}, "padding": {"value": 0.0, "mask": 2}}


def collating(fault):
    def collate(rows):
        x, y = zip(*rows, strict=True)
        y = torch.stack(list(y))
        if fault == "sorts":
            x = tuple(sorted(x, key=len, reverse=True))
        lengths = torch.tensor([len(row) for row in x])
        if fault == "shortest":
            x = tuple(row[: int(lengths.min())] for row in x)
        whole = nn.utils.rnn.pad_sequence(
            list(x), batch_first=True, padding_value=1.0 if fault == "value" else 0.0
        )
        places = torch.arange(whole.shape[1])[None]
        mask = places <= lengths[:, None] if fault == "mask" else places < lengths[:, None]
        if fault == "content":
            mask = whole != 0
            mask[:, :1] = False
        if fault == "wide":
            extra = whole.new_zeros(len(whole), 5)
            whole, mask = torch.cat([whole, extra], 1), torch.cat([mask, extra.bool()], 1)
        if fault == "float32":
            whole = whole.float()
        if fault == "in place":
            for row in x:
                row.mul_(2)
        return whole, y.flip(0) if fault == "flips" else y, mask

    return collate


for fault in ("sorts", "shortest", "value", "mask", "content", "wide", "float32", "in place",
              "flips"):  # fmt: skip
    COLLATE[fault.replace(" ", "_")] = (collating(fault), RAGGED)
