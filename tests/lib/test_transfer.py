"""Every strategy, on three kinds of network, from preparation to proof: what was declared moved, and nothing else."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models.swin_transformer import ShiftedWindowAttention

from stages.lib import backbones, checkpoints, plugins, schema, transfer
from stages.lib.errors import UserError
from stages.lib.examples import Examples
from stages.lib.inference import predict
from stages.lib.strategies import lora, wise_ft
from stages.lib.strict import Trainable

NETWORKS = {"test_resnet": 32, "test_vit": 160, "test_efficientnet": 32}  # and the images that they take, px
LAST = Trainable(last_blocks=2)
KNOBS = {
    "feature_extraction": {"epochs": 2, "head_lr": 0.01},
    "partial": {"epochs": 2, "trainable": LAST, "lr": 0.0005, "head_lr": 0.01},
    "full": {"epochs": 2, "lr": 0.0005, "head_lr": 0.01},
    "scratch": {"epochs": 2, "lr": 0.0005},
    "discriminative": {"epochs": 2, "lr": 0.0005, "head_lr": 0.01, "decay": 0.7, "rates": {}},
    "gradual": {"epochs": 2, "steps": 2, "lr": 0.0005, "head_lr": 0.01, "decay": 0.7},
    "lp_ft": {"probe_epochs": 2, "head_lr": 0.01, "epochs": 2, "lr": 0.0005},
    "wise_ft": {"probe_epochs": 2, "head_lr": 0.01, "epochs": 2, "lr": 0.0005, "num_alphas": 5},
    "l2_sp": {"epochs": 2, "lr": 0.0005, "head_lr": 0.01, "trainable": "all", "alpha": 0.01, "beta": 0.01},
    "bss": {"epochs": 2, "lr": 0.0005, "head_lr": 0.01, "trainable": LAST, "eta": 0.001, "k": 1},
    "delta": {"probe_epochs": 2, "head_lr": 0.01, "epochs": 2, "lr": 0.0005, "trainable": "all", "alpha": 0.01, "beta": 0.01,
              "blocks": 2, "attention_images": 2},
    "bitfit": {"epochs": 2, "lr": 0.01, "head_lr": 0.01},
    "norm_only": {"epochs": 2, "lr": 0.01, "head_lr": 0.01},
    "lora": {"epochs": 2, "lr": 0.01, "head_lr": 0.01, "rank": 2, "alpha": 4.0},
    "knn": {"neighbours": 3, "temperature": 0.07},
    "prototype": {"temperature": 0.07},
}  # fmt: skip
TRAINING = {"optimizer": "adamw", "momentum": 0.9, "weight_decay": 0.05, "schedule": "cosine", "warmup_epochs": 0.5,
            "warmup": "all", "batch_size": 8, "label_smoothing": 0.1, "balance": "none", "augment": "none", "mixup": 0,
            "cutmix": 0, "clip_norm": 0, "ema": 0, "patience": 30,
            "head": {"hidden": 0, "dropout": 0, "zero": False}}  # fmt: skip


def examples(network="test_resnet", num=24, seed=0, swapped=False):
    """Two classes of noise around two mean images; `swapped` gives each the label of the other."""
    generator = torch.Generator().manual_seed(seed)
    labels, px = torch.arange(num) % 2, NETWORKS[network]
    images = torch.randn(num, 3, px, px, generator=generator) + labels[:, None, None, None] * 0.5
    return Examples(lambda indices, level, draws: images[indices], 1 - labels if swapped else labels, num_draws=0)


@pytest.fixture(scope="module")
def starts():
    """Weights of each network with a head for another task; in residual branches the last scale is not the 0 that it starts
    with, since nothing before it would get a gradient."""
    found = {}
    for network in NETWORKS:
        torch.manual_seed(5)
        model = backbones.build({"library": "timm", "model": network}, 7)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
                nn.init.constant_(module.weight, 0.5)
        found[network] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return found


def prepare(starts, strategy, network="test_resnet", seed=1, **knobs):
    torch.use_deterministic_algorithms(True)
    fabric = Fabric(accelerator="cpu", devices=1)
    prepared = transfer.prepare(
        fabric, starts[network], {"library": "timm", "model": network}, 2, strategy=strategy, knobs=KNOBS[strategy] | knobs,
        head={"kind": "linear", **TRAINING["head"]}, num_examples=24, seed=seed,
    )  # fmt: skip
    return fabric, prepared


def train(fabric, prepared, train, val, *, state=None, save=lambda state: None, loss_jump=2, seed=1, **training):
    return transfer.train(
        fabric, prepared, train, val, training=TRAINING | training, loss_jump=loss_jump, seed=seed, state=state, save=save
    )  # fmt: skip


def run(starts, strategy, network="test_resnet", val=None, knobs=None, **options):
    fabric, prepared = prepare(starts, strategy, network, **knobs or {})
    val = val or examples(network, 16, 1)
    return prepared, train(fabric, prepared, examples(network), val, **options)


@pytest.fixture(scope="module")
def finished(starts):
    """A training of each strategy on each network, run once; tests only look at it."""
    done = {}

    def get(strategy, network):
        if (strategy, network) not in done:
            done[strategy, network] = run(starts, strategy, network)
        return done[strategy, network]

    return get


def test_every_strategy_is_tested_here():
    assert sorted([*KNOBS, "auto"]) == plugins.names("strategies")
    for strategy, knobs in KNOBS.items():
        declared = plugins.load("strategies", strategy).Knobs.model_fields
        assert knobs.keys() == declared.keys()


CASES = [(strategy, network) for strategy in KNOBS for network in NETWORKS if (strategy, "vit" in network) != ("lora", False)]


@pytest.mark.parametrize(("strategy", "network"), CASES)
def test_exactly_what_is_declared_moves(starts, finished, strategy, network):
    """Independently of the certificate: the names in the learning rates of the phases, the statistics of those normalisations
    of which a tensor is among them (where biases or normalisations alone are trained, they stay), and for adapters the weights
    of linear layers; then the certificate must agree."""
    prepared, trained = finished(strategy, network)
    model = prepared.model
    before, after = prepared.before, model.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in starts[network].items() if name.startswith("backbone."))
    assert list(after) == list(before)
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}

    named = {name for phase in prepared.phases for name in phase.lrs}
    if strategy == "lora":
        linear = [name for name, module in model.backbone.named_modules() if isinstance(module, nn.Linear)]
        named = {f"backbone.{name}.weight" for name in linear} | {"head.weight", "head.bias"}
    for name, module in model.named_modules():
        follows = isinstance(module, nn.BatchNorm2d) and strategy not in ("bitfit", "norm_only")
        if follows and named & {f"{name}.weight", f"{name}.bias"}:
            named |= {f"{name}.running_mean", f"{name}.running_var", f"{name}.num_batches_tracked"}
    if strategy in ("knn", "prototype"):
        assert not prepared.phases
        named = {f"head.{name}" for name, _ in model.head.named_buffers()}
    assert moved == named

    whole = trained.certificate[trained.certificate.phase == "all"]
    assert (trained.certificate.verdict == "ok").all()
    assert list(whole.tensor) == list(before) and set(whole[whole.moved].tensor) == moved
    assert set(whole[whole.declared != "frozen"].tensor) == moved
    num_phases = len(prepared.phases)
    assert sorted(set(trained.certificate.phase)) == ([str(n) for n in range(num_phases)] if num_phases > 1 else []) + ["all"]
    assert trained.warnings == []  # of a clean run


@pytest.mark.parametrize(("strategy", "network"), CASES)
def test_the_history_and_the_best_values_are_those_of_the_model(finished, strategy, network):
    prepared, trained = finished(strategy, network)
    val, history = examples(network, 16, 1), trained.history
    logits = prepared.model.eval()(val.inputs(torch.arange(16), "none", None)).detach()
    assert trained.best["val_loss"] == pytest.approx(cross_entropy(logits, val.labels).item(), abs=1e-4)
    assert trained.best["val_accuracy"] == pytest.approx((logits.argmax(1) == val.labels).float().mean().item())
    assert list(history.epoch) == list(range(1, len(history) + 1))
    kept = history[history.epoch == trained.best["epoch"]].iloc[0]
    assert kept.best
    if strategy not in ("wise_ft", "lora"):  # what they end with is not the model of an epoch
        assert trained.best["val_loss"] == pytest.approx(kept.val_loss, abs=1e-5)
    rates = [column for column in history if column.startswith("lr_")]
    assert bool(rates) == bool(prepared.phases) and not history[rates].isna().any().any()
    for number, phase in enumerate(prepared.phases):
        rows = history[history.phase == number]
        assert len(rows) == phase.epochs
        in_use = {column for column in rates if rows[column].iloc[0] > 0}
        assert ("lr_head" in in_use) and (in_use == {"lr_head"}) == all(name.startswith("head.") for name in phase.lrs)


def test_more_is_trained_than_the_data_supports_is_foreseen(starts):
    _, prepared = prepare(starts, "full")
    num = sum(parameter.numel() for name, parameter in prepared.model.named_parameters() if name.startswith("backbone."))
    (told,) = transfer.foreseen(prepared, 24, 100)
    assert f"{num:,} parameters of the backbone on 24 examples" in told and "feature_extraction" in told
    assert transfer.foreseen(prepared, 24, num / 24) == []
    for strategy in ("feature_extraction", "knn", "norm_only"):
        assert transfer.foreseen(prepare(starts, strategy)[1], 24, 100) == []


def test_adapters_count_as_what_is_trained(starts):
    _, prepared = prepare(starts, "lora", "test_vit")
    num = sum(tensor.numel() for name, tensor in prepared.model.named_parameters() if ".lora_" in name)
    (told,) = transfer.foreseen(prepared, 24, 100)
    assert f"{num:,} parameters of the backbone on 24 examples" in told


def test_what_several_phases_train_counts_once(starts):
    both = [transfer.foreseen(prepare(starts, strategy)[1], 24, 100) for strategy in ("full", "gradual")]
    assert both[0] == both[1]


def test_what_moves_after_the_last_phase_is_named(starts):
    fabric, prepared = prepare(starts, "partial")

    def finish(fabric, model, *, start, train, val, batch_size):
        with torch.no_grad():
            model.backbone.conv1[0].weight += 1e-6
        return {}

    prepared = prepared._replace(plugin=SimpleNamespace(finish=finish))
    with pytest.raises(UserError, match=r"(?s)backbone.conv1.0.weight \(declared frozen\): frozen but moved"):
        train(fabric, prepared, examples(), examples(num=16, seed=1))


def test_random_weights_and_heads_come_from_the_seed(starts):
    built = [prepare(starts | {"test_resnet": None}, "scratch", seed=seed)[1].before for seed in (1, 1, 2)]
    assert all(torch.equal(tensor, built[1][name]) for name, tensor in built[0].items())
    assert not torch.equal(built[0]["backbone.conv1.0.weight"], built[2]["backbone.conv1.0.weight"])
    heads = [prepare(starts, "full", seed=seed)[1].before["head.weight"] for seed in (1, 2)]
    assert not torch.equal(*heads)


def test_a_head_is_built_from_its_specification_which_the_model_keeps(starts):
    fabric = Fabric(accelerator="cpu", devices=1)
    spec = {"kind": "linear", "hidden": 5, "dropout": 0.2, "zero": True}
    start = {"library": "timm", "model": "test_resnet", "head": {"kind": "prototype", "temperature": 1.0}}
    prepared = transfer.prepare(fabric, starts["test_resnet"], start, 2, strategy="gradual", knobs=KNOBS["gradual"], head=spec,
                                num_examples=24, seed=1)  # fmt: skip
    assert prepared.architecture == {"library": "timm", "model": "test_resnet", "head": spec}
    val = examples(num=16, seed=1)
    assert (predict(prepared.model, val, 8) == 0).all()
    trained = train(fabric, prepared, examples(), val)
    assert (trained.certificate.verdict == "ok").all()
    again = backbones.build(prepared.architecture, 2)
    again.load_state_dict(prepared.model.state_dict())
    torch.testing.assert_close(predict(again, val, 16), predict(prepared.model, val, 16), atol=1e-5, rtol=0)
    assert (predict(again, val, 8) != 0).any()


def test_an_image_size_that_the_network_does_not_take_is_told_before_training(starts):
    _, prepared = prepare(starts, "full", "test_vit")
    transfer.require_that_it_takes(prepared, 160, "birds")
    with pytest.raises(UserError, match=r"timm test_vit does not take images of 100 px \(datasets.birds.px\)"):
        transfer.require_that_it_takes(prepared, 100, "birds")


# Strategies that train nothing


def unit_features(prepared, given):
    """Features of each example by itself, at length 1."""
    backbone = prepared.model.backbone.eval()
    rows = [backbone(given.inputs(torch.tensor([index]), "none", None)) for index in range(len(given.labels))]
    rows = torch.cat(rows).detach().double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("network", NETWORKS)
def test_knn_trains_nothing_and_answers_as_scikit_learn(starts, network):
    val = examples(network, 16, 1)
    prepared, trained = run(starts, "knn", network, val=val)
    reference = KNeighborsClassifier(3, metric="cosine", algorithm="brute", weights=lambda far: np.exp((1 - far) / 0.07))
    reference.fit(unit_features(prepared, examples(network)), examples(network).labels)
    shares = predict(prepared.model, val, 5).exp().numpy()
    np.testing.assert_allclose(shares, reference.predict_proba(unit_features(prepared, val)).clip(1e-6), atol=2e-3)
    assert len(trained.history) == 1 and trained.best["epoch"] == 1
    assert prepared.architecture["head"] == {"kind": "knn", "neighbours": 3, "temperature": 0.07, "num_examples": 24}


@pytest.mark.parametrize("network", NETWORKS)
def test_prototypes_train_nothing_and_answer_as_class_means_do(starts, network):
    val = examples(network, 16, 1)
    prepared, _ = run(starts, "prototype", network, val=val)
    values, labels = unit_features(prepared, examples(network)), examples(network).labels.numpy()
    means = np.stack([values[labels == label].mean(0) for label in (0, 1)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(predict(prepared.model, val, 5), unit_features(prepared, val) @ means.T / 0.07, atol=2e-3)


@pytest.mark.parametrize("strategy", ["knn", "prototype"])
def test_a_computed_head_does_not_depend_on_training_options(starts, strategy):
    """All of which are named as unused, so that a block may not hold them."""
    one, other = (
        run(starts, strategy, **options)[0].model.state_dict()
        for options in ({}, {"mixup": 1.0, "ema": 0.9, "optimizer": "sgd", "seed": 7, "balance": "sampling"})
    )
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    unused = plugins.load("strategies", strategy).UNUSED
    assert set(unused) == schema.Training.model_fields.keys() - {"batch_size"}


# LoRA


@pytest.mark.parametrize("network", ["test_resnet", "test_efficientnet"])
def test_lora_refuses_a_network_without_linear_layers(starts, network):
    with pytest.raises(UserError, match=r"lora: this backbone has no linear.*Choose partial, bitfit or norm_only"):
        prepare(starts, "lora", network)


def test_lora_passes_by_layers_whose_weights_are_taken_without_calling_them():
    attention = ShiftedWindowAttention(8, [2, 2], [0, 0], num_heads=2)
    backbone = torch.nn.ModuleDict({"torch": torch.nn.MultiheadAttention(8, 2), "swin": attention, "mlp": torch.nn.Linear(8, 8)})
    adapters = lora.adapt(SimpleNamespace(backbone=backbone), rank=2, alpha=4.0)
    assert set(adapters.values()) == {"backbone.mlp.weight"}


def test_lora_adds_zero_at_first_and_ends_as_the_network_that_it_was(starts):
    """Before merging, the network with adapters gives what the merged one gives, and the sum is W + alpha / rank * B A."""
    fabric, prepared = prepare(starts, "lora", "test_vit")
    val = examples("test_vit", 16, 1)
    plain = backbones.build(prepared.architecture, 2)
    plain.load_state_dict(prepared.before)
    torch.testing.assert_close(predict(prepared.model, val, 8), predict(plain, val, 8), atol=1e-6, rtol=0)

    states = []
    trained = train(fabric, prepared, examples("test_vit"), val, save=lambda state: states.append(copy.deepcopy(state)))
    last = states[-1]["best"]["model"]
    merged = prepared.model.state_dict()
    assert list(merged) == list(prepared.before)
    adapted = 0
    for name, tensor in merged.items():
        stem = name.removesuffix(".weight")
        if f"{stem}.lora_A.default.weight" in last:
            down, up = last[f"{stem}.lora_A.default.weight"].double(), last[f"{stem}.lora_B.default.weight"].double()
            assert down.shape[0] == up.shape[1] == 2
            expected = prepared.before[name].double() + 4.0 / 2 * up @ down
            torch.testing.assert_close(tensor.double(), expected, atol=1e-6, rtol=0)
            adapted += 1
        elif not name.startswith("head."):
            assert torch.equal(tensor, prepared.before[name])
    assert adapted == 6 * 4  # query-key-value, projection and two of the MLP, in each block

    _, unmerged = prepare(starts, "lora", "test_vit")
    unmerged.model.load_state_dict(last)
    torch.testing.assert_close(predict(prepared.model, val, 8), predict(unmerged.model, val, 8), atol=1e-5, rtol=0)
    plain.load_state_dict(merged)
    assert torch.equal(predict(plain, val, 8), predict(prepared.model, val, 8))
    assert trained.best["val_loss"] == pytest.approx(states[-1]["best"]["loss"], abs=1e-5)


# WiSE-FT


@pytest.mark.parametrize(
    ("network", "swapped", "knobs", "kept"),
    [
        ("test_resnet", True, {"lr": 0.02}, 0.0),  # fine-tuning only harms, on labels that say the opposite
        ("test_resnet", False, {"lr": 0.05, "epochs": 1}, 0.25),
        ("test_resnet", False, {"lr": 0.002}, 1.0),
        ("test_vit", True, {"lr": 0.02}, 0.0),
        ("test_vit", False, {"lr": 0.002}, 0.25),
        ("test_vit", False, {"lr": 0.0001}, 1.0),
    ],
)
def test_wise_ft_keeps_the_best_point_between_the_probe_and_the_fine_tuned(starts, network, swapped, knobs, kept):
    states, val = [], examples(network, 16, 1, swapped)
    prepared, trained = run(starts, "wise_ft", network, val, knobs, save=lambda state: states.append(copy.deepcopy(state)))
    table = trained.tables["alpha"]
    probe, tuned = states[-1]["start"], states[-1]["best"]["model"]
    assert list(table.alpha) == [0, 0.25, 0.5, 0.75, 1]
    model = backbones.build(prepared.architecture, 2)
    for row in table.itertuples():
        mixed = {
            name: torch.from_numpy(np.asarray((1 - row.alpha) * probe[name].numpy() + row.alpha * tensor.numpy()))
            if tensor.is_floating_point()
            else tensor
            for name, tensor in tuned.items()
        }
        model.load_state_dict(mixed)
        loss = cross_entropy(predict(model, val, 8), val.labels).item()
        assert row.val_loss == pytest.approx(loss, rel=1e-3, abs=1e-4)
    best = table.val_loss.idxmin()
    assert list(table.kept) == [index == best for index in range(5)]
    assert table.alpha[best] == kept
    assert trained.best["val_loss"] == table.val_loss[best] and trained.best["val_accuracy"] == table.val_accuracy[best]

    end = {0: probe, 1: tuned}.get(kept)
    if end:
        assert all(torch.equal(parameter, end[name]) for name, parameter in prepared.model.named_parameters())
    assert (trained.certificate.verdict == "ok").all()
    whole = trained.certificate[trained.certificate.phase == "all"].set_index("tensor")
    backbone = [name for name, _ in prepared.model.named_parameters() if name.startswith("backbone.")]
    assert whole.moved[backbone].any() == whole.moved[backbone].all() == (kept > 0)
    assert trained.certificate[trained.certificate.phase == "1"].moved.all()  # that fine-tuning did move is still proved
    phase = trained.history.set_index("epoch").phase[trained.best["epoch"]]
    assert phase == (0 if kept == 0 else 1)


def test_the_ends_of_a_line_are_exact():
    """In every bit of what is compared, also where rounding or infinity would change a straight line."""
    generator = torch.Generator().manual_seed(0)
    one = {"a": torch.randn(1000, generator=generator), "count": torch.tensor(3)}
    other = {"a": torch.randn(1000, generator=generator) * 1e6, "count": torch.tensor(8)}
    assert torch.equal(wise_ft.between(one, other, 0.0)["a"], one["a"])
    assert torch.equal(wise_ft.between(one, other, 1.0)["a"], other["a"])
    np.testing.assert_allclose(wise_ft.between(one, other, 0.3)["a"], 0.7 * one["a"] + 0.3 * other["a"], rtol=1e-4, atol=0.1)
    assert wise_ft.between(one, other, 0.3)["count"] == 8


# Going on after a kill


@pytest.mark.parametrize(
    ("strategy", "network"), [("wise_ft", "test_resnet"), ("lora", "test_vit"), ("delta", "test_efficientnet")]
)
def test_a_transfer_resumed_after_any_epoch_ends_with_the_same_model_and_proof(starts, strategy, network, tmp_path):
    """What follows the last phase (merging, a line to where the phase began) needs more than the weights."""

    def go(state, name):
        files = []

        def save(state):
            files.append(tmp_path / f"{name}-{len(files)}")
            checkpoints.save(files[-1], state)

        fabric, prepared = prepare(starts, strategy, network)
        trained = train(fabric, prepared, examples(network), examples(network, 16, 1), state=state, save=save, ema=0.6)
        return prepared.model.state_dict(), trained, files

    model, trained, files = go(None, "whole")
    assert len(files) == (2 if strategy == "lora" else 4)
    for number, file in enumerate(files):
        again, resumed, _ = go(checkpoints.load(file), f"from-{number}")
        assert all(torch.equal(tensor, again[name]) for name, tensor in model.items())
        pd.testing.assert_frame_equal(resumed.certificate, trained.certificate)
        pd.testing.assert_frame_equal(resumed.history.drop(columns="time_ms"), trained.history.drop(columns="time_ms"))
        assert resumed.tables.keys() == trained.tables.keys() and resumed.best == trained.best
        for name, table in trained.tables.items():
            pd.testing.assert_frame_equal(resumed.tables[name], table)


def test_the_table_of_layers_says_who_trains_at_which_rate(starts):
    _, prepared = prepare(starts, "gradual")
    for number, phase in enumerate(prepared.phases):
        rows = prepared.layers[prepared.layers.phase == number]
        assert rows.trainable.sum() == sum(prepared.model.get_parameter(name).numel() for name in phase.lrs)
        assert math.isclose(rows.lr_max.max(), max(phase.lrs.values()))
