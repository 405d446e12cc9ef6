"""What plug-ins are given: parts of a split."""

import torch

from stages.lib.core.contracts import LoadedSplit, part


def test_part_gives_the_inputs_and_targets_of_its_rows():
    everything = LoadedSplit(lambda indices, level, draws: (indices * 10, level, draws), torch.arange(100, 200), 3)
    some = part(everything, torch.tensor([4, 7, 90]))
    assert some.targets.tolist() == [104, 107, 190]
    inputs, level, draws = some.inputs(torch.tensor([2, 0]), "light", "given")
    assert (inputs.tolist(), level, draws, some.num_draws) == ([900, 40], "light", "given", 3)
