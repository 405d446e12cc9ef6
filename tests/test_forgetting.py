"""Earlier tasks under later backbones, with real tiny networks on real packed images."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from stages import forgetting
from stages.lib.core import cards, datasets, runs
from stages.lib.errors import UserError
from stages.lib.networks import backbones
from stages.lib.params import read as params
from stages.lib.reporting.verdict import warnings as section
from tests.tiny import FULL, HOW, PACKING, PARAMS, RESNET, data_card, model_card, shades, write_params

CLASSES = ["cross", "frame", "ring"]
PREPROCESSING = HOW | PACKING | {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
NUM = 80
HOPS = {"dots": FULL | {"init": "tiny", "data": "dots", "task": "classify", "strategy": "full"},
        "lines2": FULL | {"init": "dots", "data": "lines", "task": "classify", "strategy": "full"}}  # fmt: skip


def build(tensors, num_classes=3, head=None):
    model = backbones.build(RESNET | ({"head": head} if head else {}), num_classes)
    model.load_state_dict(tensors)
    return model.eval()


def logits(tensors, preprocessing=PREPROCESSING, **how):
    """The answers to the hop's test images, with the preprocessing written out."""
    pixels = shades(NUM) / 255
    inputs = (pixels - np.array(preprocessing["mean"])) / np.array(preprocessing["std"])
    with torch.no_grad():
        return build(tensors, **how)(torch.from_numpy(inputs.transpose(0, 3, 1, 2)).float())


def network(seed, num_classes=3, head=None):
    """Tensors of a network that answers differently from image to image."""
    torch.manual_seed(seed)
    model = backbones.build(RESNET | ({"head": head} if head else {}), num_classes)
    last = model.head[-1] if head else model.head
    last.weight.data.mul_(30)
    last.bias.data.zero_()
    last.bias.data.sub_(logits(model.state_dict(), num_classes=num_classes, head=head).mean(0))
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(tensors, seed, size, num_classes=None):
    """Another backbone, `size` times its spread away, and if asked for another head."""
    generator = torch.Generator().manual_seed(seed)
    changed = {}
    for name, tensor in tensors.items():
        if name.startswith("backbone.") and name.endswith("weight"):
            tensor = tensor + size * tensor.std() * torch.randn(tensor.shape, generator=generator)
        changed[name] = tensor.clone()
    if num_classes:
        width = tensors["head.weight"].shape[1]
        changed |= {"head.weight": torch.randn(num_classes, width, generator=generator), "head.bias": torch.zeros(num_classes)}
    return changed


def write_model(folder, tensors, chain, classes=CLASSES, parent=None, strategy="full", head=None, **preprocessing):
    kind = "target" if folder.startswith("target") else "intermediate"
    cards.write_model(Path("models") / folder, tensors, model_card(
        Path(folder).name, kind=kind, architecture=RESNET | ({"head": head} if head else {}), output_names=classes, chain=chain,
        preprocessing=PREPROCESSING | preprocessing, parent={"name": parent or chain[-2], "sha256": ""},
        settings={"strategy": strategy},
    ))  # fmt: skip


def write_data(targets, groups=None, **card):
    """The prepared data of the hop, which have a test split only."""
    folder = Path("data/prepared/dots")
    table = pd.DataFrame({"key": [f"{index:03}" for index in range(NUM)], "label": np.array(CLASSES)[targets]})
    datasets.write_split(folder, "test", shades(NUM), table.assign(group="" if groups is None else groups))
    cards.write_data_card(folder, data_card("dots", **{"labels": CLASSES} | card))


def settings(hops=("dots",), inits=("dots", "tiny"), seeds=(0,)):
    params = PARAMS | {"intermediate": {name: HOPS[name] for name in hops}, "inits": list(inits), "seeds": list(seeds)}
    write_params(Path(), params)


@pytest.fixture
def hop(tmp_path, monkeypatch):
    """The hop dots, right for about nine in ten of its test images; two targets, one from dots and one beside it."""
    monkeypatch.chdir(tmp_path)
    tensors = network(seed=0)
    labels = logits(tensors).argmax(1).numpy()
    labels[::10] = (labels[::10] + 1) % 3
    write_data(labels)
    write_model("dots", tensors, ["tiny", "dots"])
    write_model("target/dots-0", moved(tensors, 1, 0.2, num_classes=2), ["tiny", "dots", "dots-0"], ["a", "b"])
    write_model("target/tiny-0", network(seed=9), ["tiny", "tiny-0"])
    settings()
    return SimpleNamespace(tensors=tensors, labels=labels)


def run(name="dots"):
    forgetting.main(name, "dots")
    return pd.read_csv(f"metrics/forgetting/{name}/forgetting.csv")


def correct(backbone, hop):
    """Whether each test image is recognised by a backbone under the hop's head."""
    heads = {name: tensor for name, tensor in hop.tensors.items() if name.startswith("head.")}
    tensors = {name: tensor for name, tensor in backbone.items() if name.startswith("backbone.")}
    return logits(tensors | heads).argmax(1).numpy() == hop.labels


def balanced(right, hop):
    """The mean recall of the classes (labels that occur), the metric of what was forgotten."""
    return np.mean([right[hop.labels == label].mean() for label in np.unique(hop.labels)])


def read(folder):
    return cards.read_model(Path("models") / folder)[0]


def test_a_later_backbone_under_the_head_of_the_hop(hop, capsys):
    (row,) = run().itertuples(index=False)
    before, after = correct(hop.tensors, hop), correct(read("target/dots-0"), hop)
    assert row.model == "target dots-0"
    assert (row.before, row.after) == pytest.approx((balanced(before, hop), balanced(after, hop)), abs=1e-6)
    assert before.mean() == 0.9 and 0.4 < after.mean() < 0.85
    assert row.change == pytest.approx(balanced(after, hop) - balanced(before, hop), abs=1e-6)
    assert (row.metric, row.chance) == ("balanced_accuracy", pytest.approx(1 / len(np.unique(hop.labels)), abs=1e-6))
    drawn = np.random.default_rng(0).integers(NUM, size=(5000, NUM))
    differ = after.astype(float) - before  # the same images for both
    each = [np.where(hop.labels[drawn] == label, differ[drawn], np.nan) for label in np.unique(hop.labels)]
    differences = np.mean([np.nanmean(one, axis=1) for one in each], axis=0)
    assert (row.lower, row.upper) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=0.03)
    assert row.lower < row.change < row.upper < 0
    ends = [f"{100 * balanced(right, hop):.1f} %" for right in (before, after)]
    said = f"dots after target dots-0: balanced accuracy went from {ends[0]} to {ends[1]}\n"
    assert capsys.readouterr().out == said
    assert [path.name for path in Path("metrics/forgetting/dots").iterdir()] == ["forgetting.csv"]


def test_a_backbone_that_makes_the_head_give_one_answer_is_named_with_it(hop, capsys):
    lost = {name: torch.zeros_like(tensor) if name.startswith("backbone.") else tensor for name, tensor in hop.tensors.items()}
    write_model("target/dots-0", lost, ["tiny", "dots", "dots-0"])
    (row,) = run().itertuples(index=False)
    assert row.after == pytest.approx(row.chance, abs=1e-6)
    assert f"it answers '{row.only}' to everything" in capsys.readouterr().out
    (line,) = warnings()
    assert f"and it answers '{row.only}' to everything)." in line


def test_a_backbone_that_stayed_forgot_nothing(hop):
    stayed = hop.tensors | {name: tensor for name, tensor in network(7, num_classes=2).items() if name.startswith("head.")}
    write_model("target/dots-0", stayed, ["tiny", "dots", "dots-0"], ["a", "b"])
    (row,) = run().itertuples(index=False)
    assert (row.change, row.lower, row.upper, row.after) == (0, 0, 0, row.before)


def test_equal_inputs_give_equal_bytes(hop):
    run()
    first = Path("metrics/forgetting/dots/forgetting.csv").read_bytes()
    run()
    assert Path("metrics/forgetting/dots/forgetting.csv").read_bytes() == first
    assert all(len(cell.partition(b".")[2]) <= 6 for cell in first.split(b"\n")[1].split(b",")), "six digits"


def test_statistics_of_normalisations_are_those_of_the_later_model(hop):
    shifted = {name: tensor + (0.3 if name.endswith("running_mean") else 0) for name, tensor in hop.tensors.items()}
    write_model("target/dots-0", shifted, ["tiny", "dots", "dots-0"])
    (row,) = run().itertuples(index=False)
    assert row.after == pytest.approx(balanced(correct(shifted, hop), hop), abs=1e-6)
    assert row.after < row.before


def test_images_are_prepared_as_the_hop_knew_them(hop):
    before = run()
    write_model("target/dots-0", read("target/dots-0"), ["tiny", "dots", "dots-0"], ["a", "b"], px=64, mean=[0.0, 0.0, 0.0])
    pd.testing.assert_frame_equal(run(), before)


def test_a_head_of_several_layers_goes_along(hop):
    head = {"kind": "linear", "hidden": 6, "dropout": 0.5, "zero": False}
    tensors = network(seed=3, head=head)
    write_model("dots", tensors, ["tiny", "dots"], head=head)
    (row,) = run().itertuples(index=False)
    later = {name: tensor for name, tensor in read("target/dots-0").items() if name.startswith("backbone.")}
    heads = {name: tensor for name, tensor in tensors.items() if name.startswith("head.")}
    assert row.after == pytest.approx(balanced(logits(later | heads, head=head).argmax(1).numpy() == hop.labels, hop), abs=1e-6)


def test_every_hop_of_a_chain_is_asked_after_every_training_behind_it(hop):
    settings(["dots", "lines2"], ["lines2", "dots", "tiny"], seeds=[0, 4])
    second = moved(hop.tensors, 2, 0.1)
    write_model("lines2", second, ["tiny", "dots", "lines2"])
    for index, seed in enumerate((0, 4)):
        write_model(f"target/lines2-{seed}", moved(second, 3 + index, 0.3), ["tiny", "dots", "lines2", f"lines2-{seed}"])
        write_model(f"target/dots-{seed}", moved(hop.tensors, 5 + index, 0.2), ["tiny", "dots", f"dots-{seed}"])
        write_model(f"target/tiny-{seed}", network(seed=9), ["tiny", f"tiny-{seed}"])
    first = run("dots").set_index("model")
    assert first.index.tolist() == ["lines2", "target lines2-0", "target lines2-4", "target dots-0", "target dots-4"]
    for name, folder in [("lines2", "lines2"), ("target lines2-4", "target/lines2-4"), ("target dots-0", "target/dots-0")]:
        assert first.after[name] == pytest.approx(balanced(correct(read(folder), hop), hop), abs=1e-6)
    last = run("lines2").set_index("model")
    assert last.index.tolist() == ["target lines2-0", "target lines2-4"]
    on_second = SimpleNamespace(tensors=second, labels=hop.labels)
    assert last.before.tolist() == pytest.approx([balanced(correct(second, on_second), on_second)] * 2, abs=1e-6)
    assert last.after["target lines2-4"] == pytest.approx(
        balanced(correct(read("target/lines2-4"), on_second), on_second), abs=1e-6
    )


def test_a_hop_that_nothing_follows_has_an_empty_table(hop):
    settings(inits=["tiny"])
    assert run().empty
    assert warnings() == [
        "None: no test example in training data, no wrong preprocessing, no learning rate too high, no missing freezing, no "
        "earlier task forgotten (checks.forgetting: 0.1)."
    ]


def test_groups_are_drawn_whole(hop):
    single = run().iloc[0]
    change = correct(read("target/dots-0"), hop).astype(int) - correct(hop.tensors, hop)
    groups = np.empty(NUM, object)  # images of a group fare alike
    for value in (-1, 0, 1):
        groups[change == value] = [f"{value}: {index // 8}" for index in range((change == value).sum())]
    write_data(hop.labels, groups)
    grouped = run().iloc[0]
    assert grouped.change == single.change
    assert grouped.upper - grouped.lower > 1.5 * (single.upper - single.lower)


def test_mistakes_are_named(hop):
    write_data(hop.labels, labels=["cross", "ring"])
    with pytest.raises(UserError, match=r"models/dots knows cross, frame, ring, .* has cross, ring;"):
        run()
    write_data(hop.labels, packing=PACKING | {"px": 48})
    with pytest.raises(UserError, match="was prepared with px 48, and models/dots was trained with 32"):
        run()
    with pytest.raises(UserError, match=r"models/dot/card\.json cannot be read"):
        run("dot")


# Along the line of wise_ft.


def write_line(hop, kept, folder="target/dots-0", chain=("tiny", "dots", "dots-0")):
    """A model that wise_ft left at alpha = `kept` of the line from the hop; gives the far end of it."""
    tuned = moved(hop.tensors, 1, 0.5)
    between = {name: (1 - kept) * first.double() + kept * tuned[name].double() for name, first in hop.tensors.items()}
    between = {name: tensor.to(hop.tensors[name].dtype) for name, tensor in between.items()}
    write_model(folder, between, list(chain), parent="dots", strategy="wise_ft")
    alphas = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    table = pd.DataFrame({"alpha": alphas, "val_loss": 0.5, "val_accuracy": [0.5, 0.6, 0.7, 0.65, 0.6, 0.6]})
    kind = "target" if folder.startswith("target") else "intermediate"
    path = Path("metrics") / kind / Path(folder).name / "alpha.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.assign(kept=table.alpha == kept).to_csv(path, index=False)
    return tuned


def curve():
    return pd.read_csv("metrics/forgetting/dots/alpha.csv")


def test_the_line_begins_at_the_start_and_goes_through_the_model(hop):
    tuned = write_line(hop, kept=0.4)
    (row,) = run().itertuples(index=False)
    line = curve()
    assert line.model.tolist() == ["target dots-0"] * 6
    assert line.alpha.tolist() == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert line.target.tolist() == [0.5, 0.6, 0.7, 0.65, 0.6, 0.6]
    accuracy = dict(zip(line.alpha, line.earlier, strict=True))
    assert (accuracy[0.0], accuracy[0.4]) == (row.before, row.after)
    assert accuracy[1.0] == pytest.approx(balanced(correct(tuned, hop), hop), abs=0.02)  # floats: the end is computed back
    for alpha in (0.2, 0.8):
        point = {name: torch.lerp(first.double(), tuned[name].double(), alpha).to(first) for name, first in hop.tensors.items()}
        assert accuracy[alpha] == pytest.approx(balanced(correct(point, hop), hop), abs=0.02)
    assert accuracy[1.0] < accuracy[0.4] < accuracy[0.0]


@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_an_end_that_was_kept(hop, kept):
    tuned = write_line(hop, kept)
    run()
    if kept == 0:  # nothing is left of the other end
        assert not Path("metrics/forgetting/dots/alpha.csv").exists()
    else:
        assert curve().earlier.iloc[-1] == pytest.approx(balanced(correct(tuned, hop), hop), abs=1e-6)


def test_hops_and_several_targets_have_a_line_each(hop):
    settings(["dots", "lines2"], ["dots"], seeds=[0, 4])
    write_line(hop, 0.4, "lines2", ("tiny", "dots", "lines2"))
    write_line(hop, 0.4)
    write_line(hop, 0.2, "target/dots-4", ("tiny", "dots", "dots-4"))
    table = run().set_index("model")
    line = curve()
    assert line.model.unique().tolist() == ["lines2", "target dots-0", "target dots-4"]
    kept = line[(line.model == "target dots-4") & (line.alpha == 0.2)]
    assert kept.earlier.item() == table.after["target dots-4"]


# What compare makes of it.


def warnings():
    """The lines under the heading."""
    cards.write_json(runs.ADVICE, {"warnings": [], "preprocessing": [{"name": "half size"}], "decided": True})
    accuracy = {"name": "accuracy", "higher_is_better": True, "fraction": True}
    cards.write_json(runs.Training("intermediate", "dots", "").evaluation / "report.json", {"primary": accuracy})
    p = params.load("checks", "intermediate", "inits", "seeds")
    trainings = runs.expected(params.read())
    for training in trainings:
        cards.write_json(training.metrics / "run.json", {"name": training.label, "warnings": []})
    forgotten = {"dots": cards.read_table(runs.forgetting("dots") / "forgetting.csv")}
    text = section.write(p, section.found(p, trainings, forgotten, {}), forgotten)
    heading, _, *lines = text.splitlines()
    assert heading == "## Warnings"
    return lines


def test_a_backbone_made_anew_is_catastrophic_forgetting_and_a_small_change_is_not(hop):
    write_model("target/dots-0", network(seed=11), ["tiny", "dots", "dots-0"])
    (row,) = run().itertuples(index=False)
    (line,) = warnings()
    assert line.startswith(
        "- Catastrophic forgetting: after target dots-0, balanced accuracy on dots (with its original head) went from "
    )
    assert f"went from {100 * row.before:.1f} % to {100 * row.after:.1f} % ({100 * row.change:+.1f}, " in line
    assert "wise_ft" in line
    write_model("target/dots-0", moved(hop.tensors, 1, 0.01), ["tiny", "dots", "dots-0"])
    assert abs(run().change.item()) < 0.1
    (line,) = warnings()
    assert line.startswith("None: ")
