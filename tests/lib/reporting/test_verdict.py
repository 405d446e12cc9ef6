"""What the verdict says of figures, whichever way a metric is better."""

from types import SimpleNamespace

import pandas as pd
import pytest

from stages.lib.core import cards, runs
from stages.lib.core.contracts import Metric
from stages.lib.evaluation import comparison
from stages.lib.evaluation.facts import Fact, Facts
from stages.lib.evaluation.verdicts import Comparison, Shipped, Verdict
from stages.lib.params.schema import Compare
from stages.lib.reporting import verdict
from stages.lib.reporting.verdict import warnings
from stages.lib.reporting.verdict.spent import Spent
from stages.lib.tasks.classify import measures
from tests.tiny import PARAMS, model_card

ERRORS = Metric(values=lambda *given: None, differ=lambda *given: None, higher_is_better=False, fraction=False)


def lines(before, after, half, most=0.1, scale=ERRORS, chance=float("nan"), only=float("nan")):
    """What is said of a model that went from `before` to `after`, with the half width of its interval."""
    change = after - before
    row = {"metric": "accuracy", "chance": chance, "only": only, "model": "target dots-0", "before": before,
           "after": after, "change": change, "lower": change - half,
           "upper": change + half}  # fmt: skip
    return warnings.catastrophic("dots", scale, pd.DataFrame([row]), most)


@pytest.mark.parametrize(
    ("after", "half", "named"),
    [(0.6, 0.1, True), (0.6, 0.4, False), (0.81, 0.01, False), (0.79, 0.01, True), (0.95, 0.01, False)],
    ids=["far less", "maybe chance", "not enough", "just enough", "more"],
)
def test_forgetting_is_named_where_it_is_more_than_allowed_and_no_chance(after, half, named):
    found = lines(0.9, after, half, scale=measures.METRICS["accuracy"])
    assert len(found) == named
    if named:
        low, high = (f"{100 * (after - 0.9 + end):+.1f}" for end in (-half, half))
        assert found[0].startswith(
            "Catastrophic forgetting: after target dots-0, accuracy on dots (with its original head) went "
        )
        assert f"went from 90.0 % to {100 * after:.1f} % ({100 * (after - 0.9):+.1f}, {low} to {high})." in found[0]
        assert "keep models/dots beside the new model, or choose wise_ft" in found[0]


@pytest.mark.parametrize(
    ("after", "half", "named"),
    [(4.0, 0.5, True), (4.0, 2.5, False), (2.1, 0.01, False), (2.3, 0.01, True), (1.0, 0.1, False)],
    ids=["far more", "maybe chance", "not enough", "just enough", "less"],
)
def test_where_lower_is_better_more_is_forgetting_as_a_fraction_of_what_it_was(after, half, named):
    found = lines(2.0, after, half)
    assert len(found) == named
    if named:
        assert f"went from 2 to {after:g} ({after - 2:+g}, " in found[0]


def project(tmp_path, monkeypatch, **advice):
    monkeypatch.chdir(tmp_path)
    cards.write_json(runs.ADVICE, {"probe": None} | advice)


def told(metric, d, results, *, name="accuracy", seeds=(0,), chance=None, models=None, said="It finds half of them", spent=None):
    """The verdict on one comparison of dots with random weights."""
    compare = Compare.model_validate(PARAMS["compare"] | {"metric": name, "margin": 0.25})
    p = SimpleNamespace(
        compare=compare,
        checks=SimpleNamespace(use="any"),
        inits=["dots"],
        seeds=list(seeds),
        target=SimpleNamespace(data="lines"),
    )
    test = comparison.Test("lines", ["a", "b"], None, None, "", False, False)
    models = models or {"dots-0": model_card("dots-0", best={"val_loss": 0.5})}
    pairs = [comparison.Pair("transfer", "Transfer as a whole", "scratch")]
    values = {arm: r["value"] for arm, r in results.items()}
    found = Comparison(
        ship="dots-0",
        shipped=SHIPPED,
        intervals={},
        measured={},
        use="unknown",
        luck={},
        without_leaks=None,
        warnings=[],
        chance=chance,
        **{name: values},
        transfer=d,
    )
    return verdict.write(p, metric, test, ["tiny", "dots"], pairs, results, found, models, Facts(said, [FACT]), spent or {})


FACT = Fact("ece", "Calibration error", 0.05, 0.04, 0.06, "5.0 %", "4.0 to 6.0 %")
SHIPPED = Shipped(trained_from="dots", facts={}, transfer={"difference": 0.25, "lower": 0.125, "upper": 0.5})


def of(word, difference=0.25, lower=0.125, upper=0.5, **changes):
    ps = {"p": 0.01, "p_holm": 0.03, "p_margin": 0.5, "p_margin_holm": 0.5}
    return Verdict.model_validate({"difference": difference, "lower": lower, "upper": upper, "verdict": word} | ps | changes)


ARMS = {"dots": {"value": 0.75, "lower": 0.7, "upper": 0.8}, "scratch": {"value": 0.5, "lower": 0.45, "upper": 0.55}}
ACCURACY = measures.METRICS["accuracy"]


def test_figures_that_are_no_fractions_keep_their_unit(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch)
    results = {name: {"value": 1.5, "lower": 1.25, "upper": 2} for name in ("dots", "scratch")}
    text = told(ERRORS, of("helps", -0.25, -0.5, -0.125), results, name="mean_error", seeds=(0, 1))
    assert "**Transfer as a whole: helps**, -0.25 mean error (95 % interval -0.5 to -0.125)." in text
    assert "| random weights (control) | 1.5 | 1.25 to 2 |" in text and "As good, within 0.25 mean error" in text


def test_one_seed_is_about_the_models_alone(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch)
    text = told(ACCURACY, of("this model is better"), ARMS)
    assert (
        "**Transfer as a whole: this model is better**, +25.0 points of accuracy (95 % interval +12.5 to +50.0, one seed only)"
        in text
    )
    assert "- **One seed: all of this is about these models, not about the method.**" in text and "helps**" not in text
    assert "One seed:" not in told(ACCURACY, of("helps"), ARMS, seeds=(0, 1))


def test_trainings_that_need_not_repeat_are_named(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch)
    for deterministic in (True, False):
        models = {"dots-0": model_card("dots-0", best={"val_loss": 0.5}, deterministic=deterministic)}
        said = told(ACCURACY, of("helps"), ARMS, models=models)
        assert ("Not covered: the same trainings again" in said) == (not deterministic)


def test_as_good_says_within_what_and_a_correction_what_it_changed(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch)
    text = told(
        ACCURACY, of("as good", 0.01, -0.05, 0.06, p=0.6, p_holm=0.6, p_margin=0.001, p_margin_holm=0.002), ARMS, seeds=(0, 1)
    )
    assert "**Transfer as a whole: as good, within 25 points**, +1.0 points of accuracy" in text
    text = told(ACCURACY, of("no difference shown", p=0.03, p_holm=0.09), ARMS, seeds=(0, 1))
    assert "By itself it would be a difference" in text
    text = told(ACCURACY, of("helps", p_margin_holm=0.01), ARMS, seeds=(0, 1))
    assert "The difference is shown to be smaller than 25 points." in text


def test_a_control_at_chance_is_named_and_chance_stands_beside_the_figures(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch)
    text = told(ACCURACY, of("helps"), ARMS, chance=0.47, seeds=(0, 1))
    assert "- **random weights: not shown to be better than always the most frequent answer**, 50.0 % (45.0 % to 55.0 %)" in text
    assert "against 47.0 %." in text and "| always the most frequent answer | 47.0 % | |" in text
    assert "not shown to be better" not in told(ACCURACY, of("helps"), ARMS, chance=0.44, seeds=(0, 1))
    assert "most frequent answer" not in told(ACCURACY, of("helps"), ARMS, seeds=(0, 1)), "the task has none"


@pytest.mark.parametrize(("probe", "named"), [(0.985, True), (0.944, False)])
def test_a_target_below_the_probe_is_named_with_the_images_that_both_were_measured_on(tmp_path, monkeypatch, probe, named):
    project(tmp_path, monkeypatch, probe={"accuracy": probe, "num_val": 54, "num_train": 400})
    models = {"dots-0": model_card("dots-0", best={"val_loss": 0.5, "val_accuracy": 0.944}),
              "tiny-0": model_card("tiny-0", best={"val_loss": 0.6, "val_accuracy": 0.5})}  # fmt: skip
    text = told(ACCURACY, of("helps"), ARMS, models=models)
    said = (
        "**A linear probe did better than dots-0 (94.4 %)** on the 54 validation images of lines: it is right for 98.1 % of them."
    )
    assert (said in text) == named
    assert "tiny-0 (" not in text, "the probe was fitted to features of dots"


def test_what_matters_of_the_model_to_ship_stands_beside_its_name(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch)
    text = told(ACCURACY, of("helps"), ARMS, seeds=(0, 1), said="It finds half of them")
    top = text.split("## Did it help?")[0]
    assert "**Ship models/target/dots-0**, the target with the lowest validation loss. It finds half of them.\n" in top
    assert "- Calibration error: 5.0 % (4.0 to 6.0 %)\n" in top
    assert ("- What transfer was worth to it: +25.0 points of accuracy over random weights (95 % interval +12.5 to +50.0; the "
            "targets from dots, the mean over 2 seeds)\n") in top  # fmt: skip
    assert "+12.5 to +50.0; the targets from dots, one seed only)" in told(ACCURACY, of("helps"), ARMS)


def test_epochs_and_images_stand_beside_each_arm_and_a_starved_control_is_named(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch)
    rich, poor = [Spent(15, 1500, True), Spent(12, 1200, False)], [Spent(2, 200, True), Spent(2, 200, True)]
    text = told(ACCURACY, of("helps"), ARMS, seeds=(0, 1), spent={"dots": rich, "scratch": poor})
    assert "| dots (proposal) | 75.0 % | 70.0 % to 80.0 % | 12 to 15 | 1,200 to 1,500 |" in text
    assert "| random weights (control) | 50.0 % | 45.0 % to 55.0 % | 2 | 200 |" in text
    assert "- **random weights: stopped while it was still getting better**, after 200 examples against 1,500 of dots." in text
    stopped = [each._replace(rising=False) for each in poor]
    assert "still getting better" not in told(ACCURACY, of("helps"), ARMS, seeds=(0, 1), spent={"dots": rich, "scratch": stopped})
    assert "still getting better" not in told(ACCURACY, of("helps"), ARMS, seeds=(0, 1), spent={"dots": poor, "scratch": rich})


def test_a_head_that_is_computed_has_no_epochs_and_not_0_images(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch)
    text = told(ACCURACY, of("helps"), ARMS, seeds=(0, 1), spent={"dots": [Spent(0, 0, False)] * 2})
    assert "| dots (proposal) | 75.0 % | 70.0 % to 80.0 % | none | – |" in text


def test_targets_that_are_one_model_are_not_said_to_have_been_chosen_from(tmp_path, monkeypatch):
    project(tmp_path, monkeypatch)
    same = {f"dots-{seed}": model_card(f"dots-{seed}", best={"val_loss": 0.5}, sha256="a") for seed in range(2)}
    said = (
        "the target with the lowest validation loss (dots-1 is the same model: nothing in its training depends on the seed). It"
    )
    assert said in told(ACCURACY, of("helps"), ARMS, seeds=(0, 1), models=same)
    many = {f"dots-{seed}": model_card(f"dots-{seed}", best={"val_loss": 0.5}, sha256="a") for seed in range(5)}
    assert "validation loss (4 others are the same model: " in told(ACCURACY, of("helps"), ARMS, seeds=range(5), models=many)
    other = same | {"dots-1": model_card("dots-1", best={"val_loss": 0.5}, sha256="b")}
    assert "the same model" not in told(ACCURACY, of("helps"), ARMS, seeds=(0, 1), models=other)


def test_a_model_that_answers_one_thing_to_everything_is_named_with_what_that_reaches():
    scale = measures.METRICS["balanced_accuracy"]
    (line,) = lines(0.9, 0.5, 0.01, scale=scale, chance=0.5, only="intact")
    assert "(-40.0, -41.0 to -39.0; one answer for everything reaches 50.0 %, and it answers 'intact' to everything)." in line
    (line,) = lines(0.9, 0.6, 0.01, scale=scale, chance=0.5)
    assert "reaches 50.0 %)." in line and "it answers" not in line
