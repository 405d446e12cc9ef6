"""How often seeds that are added until the verdict decides lead to a wrong one.

    python -m tests.benchmarks.sequential --experiments 500

Simulates two arms whose true accuracies are a planted effect apart, in settings that differ in what varies: few test images, or
many and models that differ from seed to seed. In each experiment a verdict is asked at 3, 5, 8 and 12 seeds by the code of
`compare`, until it decides (as `python -m stages decide --most 12` does). Wrong are: helps or hurts without an effect; hurts of a
positive effect; as good, within 2 points, of an effect of 2 or 5. Once with the looks planned, and once as if each were the only
one.
"""

import argparse
from collections import Counter
from statistics import NormalDist

import numpy as np
from tqdm import tqdm

from stages.commands.decide import UNDECIDED, planned
from stages.lib.evaluation import pairing, verdicts
from stages.lib.params.schema import Compare
from stages.lib.tasks.classify.measures import METRICS

ACCURACY, EFFECTS, MOST = 0.8, (0.0, 0.01, 0.02, 0.05), 12
SETTINGS = {  # number of test images, standard deviation of the accuracy of one arm's seeds
    "few images, seeds differ by 1 point": (300, 0.01),
    "many images, seeds differ by 0.3": (1000, 0.003),
    "many images, seeds differ by 3": (1000, 0.03),
}
SHARED, OWN = 0.5, 0.15  # of the variance of what decides on an image: as hard for both arms, as hard for all seeds of one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, required=True, help="of each effect in each setting")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap (compare.num_resamples is 10,000)")
    asked = parser.parse_args()
    looks = planned(3, MOST)
    print("| setting | effect | looks | helps | hurts | as good | wrong | seeds |\n|" + " --- |" * 8)
    for name, (num, spread) in SETTINGS.items():
        for effect in EFFECTS:
            random = np.random.default_rng([num, round(1000 * spread), round(100 * effect)])
            found: dict[bool, list[tuple[str, int]]] = {True: [], False: []}
            for _ in tqdm(range(asked.experiments), leave=False, disable=None):
                arms, labels = simulated(random, num, effect, spread)
                for corrected in found:
                    found[corrected].append(decided(arms, labels, looks, corrected, asked.resamples))
            for corrected, ends in found.items():
                words = Counter(word for word, _ in ends)
                share = {word: f"{100 * words[word] / len(ends):.1f} %" for word in ("helps", "hurts", "as good")}
                wrong = sum(words[word] for word in mistaken(effect)) / len(ends)
                told = f"{name} | {100 * effect:g} | {'planned' if corrected else 'uncorrected'} | {' | '.join(share.values())}"
                print(f"| {told} | {100 * wrong:.1f} % | {np.mean([seeds for _, seeds in ends]):.1f} |", flush=True)


def simulated(random: np.random.Generator, num: int, effect: float, spread: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Predictions (MOST, N, 2) of two arms, whose accuracies over all images and seeds are exactly `effect` apart, and labels."""
    labels, hard = random.integers(2, size=num), random.normal(size=num)
    arms = []
    for accuracy in (ACCURACY + effect / 2, ACCURACY - effect / 2):
        easy = NormalDist().inv_cdf(accuracy)
        skill = spread / NormalDist().pdf(easy)
        what = np.sqrt(SHARED) * hard + np.sqrt(OWN) * random.normal(size=num) + skill * random.normal(size=(MOST, 1))
        what = what + np.sqrt(1 - SHARED - OWN - skill**2) * random.normal(size=(MOST, num))  # variance 1 in all
        sure = np.where((what < easy) == labels, 0.9, 0.1)
        arms.append(np.stack([1 - sure, sure], axis=-1))
    return arms, labels


def decided(arms: list[np.ndarray], labels: np.ndarray, looks: list[int], corrected: bool, resamples: int) -> tuple[str, int]:
    """The verdict at which it stops, and the number of seeds."""
    settings = Compare(metric="accuracy", num_resamples=resamples, confidence=0.95, margin=0.02, looks=looks if corrected else [])
    for num in looks:
        first, second = (arm[:num] for arm in arms)
        found = pairing.paired(METRICS["accuracy"], first, second, labels, None, num_resamples=resamples, seed=0)
        word = verdicts.judged({"": found}, METRICS["accuracy"], settings, num)[""].verdict
        if word != UNDECIDED:
            break
    return word, num


def mistaken(effect: float) -> tuple[str, ...]:
    """The verdicts that are wrong of an effect, with a margin of 2 points."""
    if not effect:
        return "helps", "hurts"
    return ("hurts", "as good") if effect >= 0.02 else ("hurts",)


if __name__ == "__main__":
    main()
