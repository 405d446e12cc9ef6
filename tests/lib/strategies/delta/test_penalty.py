"""DELTA: the distance of feature maps, the weights of channels, and the blocks of different networks."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from stages.lib.errors import UserError
from stages.lib.networks import layers
from stages.lib.strategies.delta.penalty import _channel_axis, attach, channel_weights, delta
from stages.lib.tasks.classify.learning import loss
from tests.lib.strategies.penalties import examples, images_of, pair, process_group, shift, traces, trained

SHAPES = [(3, 4, 6), (3, 5, 2)]  # of the maps of two blocks
ARGUMENTS = {"alpha": 0.3, "beta": 0.0, "blocks": 2, "attention_examples": 0}
NAMES = ["test_resnet", "test_vit", "test_efficientnet"]


def maps(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def weights():
    return [torch.linspace(0.5, 1.5, shape[1], dtype=torch.float64) for shape in SHAPES]


def test_the_penalty_is_the_weighted_distance_of_an_example_and_a_position():
    a, b, expected = maps(0), maps(1), 0.0
    for first, second, weight in zip(a, b, weights(), strict=True):
        examples, channels, positions = first.shape
        for example in range(examples):
            for channel in range(channels):
                distance = np.linalg.norm(first[example, channel].numpy() - second[example, channel].numpy()) ** 2
                expected += 0.3 / 2 * weight[channel].item() * distance / positions / examples
    assert delta(a, b, weights(), 0.3).item() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    values = [tensor.requires_grad_() for tensor in maps(0)]
    assert torch.autograd.gradcheck(lambda *given: delta(list(given), maps(1), weights(), 0.3), values)


@pytest.mark.parametrize(("other", "alpha"), [(0, 0.3), (1, 0.0)])
def test_equal_maps_and_strength_zero_have_no_penalty_and_no_gradient(other, alpha):
    values = [tensor.requires_grad_() for tensor in maps(0)]
    penalty = delta(values, maps(other), weights(), alpha)
    penalty.backward()
    assert penalty == 0
    assert all((tensor.grad == 0).all() for tensor in values)


def test_a_duplicated_batch_costs_the_same():
    a, b = maps(0), maps(1)
    twice = delta([torch.cat([x, x]) for x in a], [torch.cat([x, x]) for x in b], weights(), 0.3)
    assert torch.allclose(twice, delta(a, b, weights(), 0.3))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_at_its_start_has_no_penalty_and_no_gradient(name):
    (model, start), train = pair(name), examples(name)
    with attach(model, start, train, loss, **ARGUMENTS) as compute:
        model(images_of(train))
        penalty = compute(images_of(train))
        penalty.backward()
    assert penalty.item() == pytest.approx(0, abs=1e-9)
    assert all(p.grad is None or p.grad.abs().max() < 1e-6 for p in model.parameters())


def last_maps(name, model, images):
    """The outputs of the last two blocks as (N, positions, C), by the networks' own functions."""
    net = model.backbone
    if name == "test_resnet":
        x = net.maxpool(net.act1(net.bn1(net.conv1(images))))
        before = net.layer3(net.layer2(net.layer1(x)))
        outputs = [before, net.layer4(before)]
    elif name == "test_efficientnet":
        before = net.blocks(net.bn1(net.conv_stem(images)))
        outputs = [before, net.conv_head(before)]
    else:
        indices = [len(net.blocks) - 2, len(net.blocks) - 1]
        outputs = net.forward_intermediates(
            images, indices=indices, intermediates_only=True, return_prefix_tokens=True, norm=False
        )
        return [torch.cat([prefix, spatial.flatten(2).mT], 1) for spatial, prefix in outputs]
    return [output.flatten(2).mT for output in outputs]


@pytest.mark.parametrize("name", NAMES)
def test_the_outputs_of_the_last_blocks_are_compared(name):
    (model, start), train = pair(name), examples(name)
    shift(model)
    images = images_of(train)
    with attach(model, start, train, loss, alpha=0.3, beta=0.7, blocks=2, attention_examples=0) as compute:
        model(images)
        penalty = compute(images)
    with torch.no_grad():
        expected = 0.7 / 2 * sum(parameter.square().sum() for parameter in model.head.parameters())
        for now, before in zip(last_maps(name, model, images), last_maps(name, start, images), strict=True):
            expected += 0.3 / 2 * (now - before).square().sum() / (now.shape[0] * now.shape[1])
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-4)
    penalty.backward()
    trained = [key for key, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()]
    assert any(key.startswith("backbone.") for key in trained)
    assert all(parameter.grad is None for parameter in start.parameters())


@pytest.mark.parametrize(
    ("shape", "width", "axis"),
    [((2, 8), 8, 1), ((2, 8, 7, 7), 8, 1), ((2, 7, 7, 8), 8, 3), ((2, 7, 8), 8, 2), ((2, 8, 8, 8), 8, 1), ((2, 9, 7, 7), 8, 1)],
)
def test_the_axis_of_the_channels_is_found(shape, width, axis):
    assert _channel_axis("block", nn.Linear(3, width), torch.zeros(shape)) == axis


def fitted_head(start, features, labels):
    """Give the start a head that fits the labels, as a linear probe would."""
    head = copy.deepcopy(start.head).requires_grad_(True)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=30)

    def closure():
        optimizer.zero_grad()
        total = cross_entropy(head(features), labels) + 1e-3 * head.weight.square().sum()
        total.backward()
        return total

    optimizer.step(closure)
    start.head.load_state_dict(head.state_dict())


def by_hand(name, start, images, labels):
    """Channel weights of the last two blocks: every channel set to zero in the networks' own functions."""
    net = start.backbone
    first, second = last_maps(name, start, images)

    def pooled(x):
        return start.head(net.forward_head(x))

    def square(x):
        return x.mT.unflatten(2, (int(x.shape[1] ** 0.5), -1))

    def from_second(x):
        if name == "test_vit":
            return pooled(net.norm(x))
        return pooled(square(x) if name == "test_resnet" else net.bn2(square(x)))

    def from_first(x):
        if name == "test_vit":
            return from_second(net.blocks[-1](x))
        x = net.layer4(square(x)) if name == "test_resnet" else net.conv_head(square(x))
        return from_second(x.flatten(2).mT)

    result = []
    for maps, rest in ((first, from_first), (second, from_second)):
        whole = cross_entropy(rest(maps), labels)
        gains = []
        for channel in range(maps.shape[2]):
            kept = torch.ones(maps.shape[2])
            kept[channel] = 0
            gains.append(cross_entropy(rest(maps * kept), labels) - whole)
        powers = np.exp(torch.stack(gains).double().numpy())
        result.append(powers / powers.mean())
    return result


@pytest.mark.parametrize("name", NAMES)
def test_channel_weights_are_what_setting_each_channel_to_zero_costs(name):
    _, start = pair(name)
    train = examples(name, 20)  # more than are held at once
    images = images_of(train)
    fitted_head(start, start.backbone(images), train.targets)
    blocks = list(layers.blocks(start))[-2:]
    found = channel_weights(start, blocks, train, torch.arange(20), loss)
    with torch.no_grad():
        expected = by_hand(name, start, images, train.targets)
    for weight, reference in zip(found, expected, strict=True):
        assert weight.mean().item() == pytest.approx(1, abs=1e-5)
        assert weight.numpy() == pytest.approx(reference, abs=0.01 * reference.std())
    assert traces(start) == []


def test_a_channel_that_the_head_uses_weighs_more_than_one_that_it_does_not():
    _, start = pair()
    train = examples()
    features = start.backbone(images_of(train))
    used = int(features.std(0).argmax())
    labels = (features[:, used] > features[:, used].median()).long()
    start.head.weight.zero_()
    start.head.weight[1, used] = 50.0
    start.head.bias[1] = -50.0 * features[:, used].median()
    (weight,) = channel_weights(start, ["layer4.0"], train._replace(targets=labels), torch.arange(6), loss)
    others = torch.cat([weight[:used], weight[used + 1 :]])
    assert weight[used] > 1.05 * others.max()
    assert others.max() == others.min()


def test_the_weights_of_channels_count_in_the_penalty():
    train = examples(num=8)
    values = []
    for attention_examples in (0, 4, 8, 99):
        model, start = pair()
        fitted_head(start, start.backbone(images_of(train)), train.targets)
        shift(model)
        with attach(model, start, train, loss, **ARGUMENTS | {"attention_examples": attention_examples}) as compute:
            model(images_of(train))
            values.append(compute(images_of(train)).item())
    assert values[0] != values[2]
    assert values[1] != values[2]
    assert values[2] == values[3], "there are only 8 images"


def test_attention_looks_at_images_from_all_over_the_training_set():
    model, start = pair()
    train = examples(num=10)
    asked = []
    spy = train._replace(
        inputs=lambda indices, level, draws: asked.append(indices.tolist()) or train.inputs(indices, level, draws)
    )
    with attach(model, start, spy, loss, **ARGUMENTS | {"attention_examples": 5}):
        assert asked[-1] == [0, 2, 4, 6, 8]


def test_activations_that_work_in_place_change_no_weight():
    def network(inplace):
        torch.manual_seed(0)
        start = nn.Module()
        start.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.Hardswish(inplace),
            nn.Conv2d(4, 4, 3),
            nn.Hardswish(inplace),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        start.head = nn.Linear(4, 2)
        start.forward = lambda images: start.head(start.backbone(images))
        return start.eval()

    train = examples()
    found = [channel_weights(network(inplace), ["0", "2"], train, torch.arange(6), loss) for inplace in (False, True)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_nothing_is_left_on_the_model_nor_on_the_start():
    model, start = pair()
    with attach(model, start, examples(), loss, **ARGUMENTS | {"attention_examples": 2}) as compute:
        assert traces(model) == ["backbone", "backbone.layer3.0", "backbone.layer4.0"]
        model(images_of(examples()))
        compute(images_of(examples()))
    assert traces(model, start) == []


def test_nothing_is_left_after_an_error():
    model, start = pair()
    broken = examples()._replace(targets=torch.full((6,), 7))  # the head has two classes
    with pytest.raises(IndexError), attach(model, start, broken, loss, **ARGUMENTS | {"attention_examples": 2}):
        pass
    assert traces(model, start) == []


def test_too_many_blocks_are_refused_with_what_is_allowed():
    model, start = pair()
    with pytest.raises(UserError, match=r"blocks: 8 .* 7 blocks .*layer4.0.* 1 to 7"), \
            attach(model, start, examples(), loss, **ARGUMENTS | {"blocks": 8}):  # fmt: skip
        pass


def test_a_block_without_feature_maps_is_named():
    with pytest.raises(UserError, match=r"layer4\.0"):
        _channel_axis("layer4.0", nn.Linear(2, 2), (torch.zeros(1), torch.zeros(1)))


def test_maps_are_not_used_twice_and_validation_leaves_none():
    model, start = pair()
    train = examples()
    with attach(model, start, train, loss, **ARGUMENTS) as compute:
        model(images_of(train))
        compute(images_of(train))
        with torch.inference_mode():
            model(images_of(train))
        with pytest.raises(ValueError, match="feature maps"):
            compute(images_of(train))
        model(images_of(train))
        assert compute(images_of(train)).item() == pytest.approx(0, abs=1e-9)


def test_the_start_computes_in_the_number_format_of_the_model():
    model, start = pair()
    images = images_of(examples())
    with attach(model, start, examples(), loss, **ARGUMENTS) as compute:
        with torch.autocast("cpu", torch.bfloat16):
            model(images)
        penalty = compute(images)
    assert penalty == 0, "bf16 was compared with float32"


def test_distances_of_maps_in_half_precision_are_taken_in_float32():
    model, start = pair()
    shift(model)
    images = images_of(examples())
    with attach(model, start, examples(), loss, **ARGUMENTS) as compute:
        with torch.autocast("cpu", torch.bfloat16):
            model(images)
        penalty = compute(images)
    expected = 0.0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for now, before in zip(last_maps("test_resnet", model, images), last_maps("test_resnet", start, images), strict=True):
            assert now.dtype == torch.bfloat16
            expected += 0.3 / 2 * (now.double() - before.double()).square().sum().item() / (now.shape[0] * now.shape[1])
    assert penalty.item() == pytest.approx(expected, rel=1e-5)


def test_training_mode_moves_the_statistics_of_the_model_and_not_of_the_start():
    model, start = pair()
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    model.train()
    with attach(model, start, examples(), loss, **ARGUMENTS) as compute:
        model(images_of(examples()))
        compute(images_of(examples())).backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in start.state_dict().items())
    assert not torch.equal(model.backbone.bn1.running_mean, before["backbone.bn1.running_mean"])


def test_repeated_training_gives_the_same_bits():
    def strong(*args):
        return attach(*args, **ARGUMENTS | {"alpha": 3.0, "beta": 0.1, "attention_examples": 3})

    def off(*args):
        return attach(*args, **ARGUMENTS | {"alpha": 0.0})

    first, again, without = trained(strong), trained(strong), trained(off)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, without[name]) for name, tensor in first.items())


def test_data_parallel_training_goes_as_it_does_without():
    def strong(*args):
        return attach(*args, **ARGUMENTS | {"alpha": 3.0, "beta": 0.1})

    alone = trained(strong)
    with process_group():
        parallel = trained(strong, wrap=DistributedDataParallel)
    assert all(torch.allclose(tensor, parallel[name], atol=1e-6) for name, tensor in alone.items())
