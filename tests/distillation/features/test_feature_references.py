"""Each loss against its equation, written out in loops."""

import math
from itertools import product

import pytest
import torch
from feature_cases import METHODS, Case, batch
from torch import Tensor
from torch.nn import functional

from orchestrator.distillation.features.attention import attention_map
from orchestrator.distillation.features.nst import squared_mmd
from orchestrator.distillation.features.review import Review, hierarchical_loss

SIZE = 5


def norm(values: list[float]) -> float:
    return math.sqrt(sum(value * value for value in values))


def unit(values: list[float]) -> list[float]:
    return [value / norm(values) for value in values]


def dot(first: list[float], second: list[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def computed(case: Case, student: list[Tensor], teacher: list[Tensor]) -> float:
    return float(case.make()(student, teacher, batch(range(len(student[0])))).detach())


def halved(maps: Tensor) -> Tensor:
    """[B, C, H / 2, W / 2], the mean of each 2 x 2 block."""
    count, channels, height, width = maps.shape
    result = torch.zeros(count, channels, height // 2, width // 2, dtype=maps.dtype)
    for row, column in product(range(height // 2), range(width // 2)):
        result[:, :, row, column] = maps[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((2, 3))
    return result


def test_fitnet() -> None:
    case = Case("fitnet", student=((2, 4, 4), (3,)), teacher=((3, 2, 2), (4,)))
    student, teacher = case.features(SIZE)
    loss = case.make()
    total = 0.0
    for layer, (s, t) in enumerate(((halved(student[0]), teacher[0]), (student[1], teacher[1]))):
        weight = loss.regressors[layer].weight.detach()[:, :, 0, 0]
        s, t = s.reshape(SIZE, s.shape[1], -1), t.reshape(SIZE, t.shape[1], -1)
        for x in range(SIZE):
            squares = [
                (dot(weight[c].tolist(), s[x, :, place].tolist()) - t[x, c, place].item()) ** 2
                for c, place in product(range(t.shape[1]), range(t.shape[2]))
            ]
            total += sum(squares) / len(squares) / SIZE
    assert computed(case, student, teacher) == pytest.approx(total)


def test_attention_transfer() -> None:
    for power in (2.0, 1.0, 4.0):
        case = Case("attention_transfer", student=((2, 4, 4),), teacher=((3, 2, 2),), options={"power": power})
        student, teacher = case.features(SIZE)
        total = 0.0
        for x in range(SIZE):
            attention = []
            for maps in (halved(student[0])[x], teacher[0][x]):
                places = product(range(2), range(2))
                attention.append(unit([sum(abs(v) ** power for v in maps[:, h, w].tolist()) for h, w in places]))
            total += sum((a - b) ** 2 for a, b in zip(*attention, strict=True)) / 4 / SIZE
        assert computed(case, student, teacher) == pytest.approx(total)


@pytest.mark.parametrize(("height", "channels"), [(2, 3), (4, 2)])
def test_nst(height: int, channels: int) -> None:
    """For more places than channels and for fewer: two ways to compute the same."""
    case = Case("nst", student=((channels, height, height),), teacher=((channels + 1, height, height),))
    student, teacher = case.features(SIZE)
    total = 0.0
    for x in range(SIZE):
        s, t = ([unit(row.flatten().tolist()) for row in maps[x]] for maps in (student[0], teacher[0]))

        def mean_kernel(first: list[list[float]], second: list[list[float]]) -> float:
            return sum(dot(a, b) ** 2 for a, b in product(first, second)) / len(first) / len(second)

        total += (mean_kernel(s, s) + mean_kernel(t, t) - 2 * mean_kernel(s, t)) / SIZE
    assert computed(case, student, teacher) == pytest.approx(total)


def test_both_forms_of_the_mmd_agree() -> None:
    first, second = torch.randn(2, 3, 7, dtype=torch.float64), torch.randn(2, 4, 7, dtype=torch.float64)
    padded = [torch.cat([rows, rows.new_zeros(2, len(rows[0]), 1)], 2) for rows in (first, second)]
    torch.testing.assert_close(squared_mmd(first, second), squared_mmd(*padded))


def test_sp() -> None:
    case = METHODS["sp"]
    student, teacher = case.features(SIZE)
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        rows = []
        for features in (s, t):
            vectors = features.flatten(1).tolist()
            rows.append([unit([dot(a, b) for b in vectors]) for a in vectors])
        total += sum((rows[0][i][j] - rows[1][i][j]) ** 2 for i, j in product(range(SIZE), repeat=2)) / SIZE**2
    assert computed(case, student, teacher) == pytest.approx(total)


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


@pytest.mark.parametrize("weights", [(25.0, 50.0), (1.0, 0.0), (0.0, 2.0)])
def test_rkd(weights: tuple[float, float]) -> None:
    options = {"distance_weight": weights[0], "angle_weight": weights[1]}
    case = Case("rkd", student=((3,),), teacher=((4,),), options=options)
    student, teacher = case.features(SIZE)
    distances, angles = [], []
    for features in (student[0], teacher[0]):
        vectors = features.tolist()

        def difference(i: int, j: int, vectors: list[list[float]] = vectors) -> list[float]:
            return [a - b for a, b in zip(vectors[i], vectors[j], strict=True)]

        pairs = [(i, j) for i, j in product(range(SIZE), repeat=2) if i != j]
        mean = sum(norm(difference(i, j)) for i, j in pairs) / len(pairs)
        distances.append({(i, j): norm(difference(i, j)) / mean for i, j in pairs})
        angles.append(
            {
                (i, j, k): dot(unit(difference(i, j)), unit(difference(k, j)))
                for i, j, k in product(range(SIZE), repeat=3)
                if j not in (i, k)
            }
        )
    total = weights[0] * sum(huber(distances[0][pair] - distances[1][pair]) for pair in distances[0]) / SIZE**2
    total += weights[1] * sum(huber(angles[0][three] - angles[1][three]) for three in angles[0]) / SIZE**3
    assert computed(case, student, teacher) == pytest.approx(total)


def test_pkt() -> None:
    case = METHODS["pkt"]
    student, teacher = case.features(SIZE)
    probabilities = []
    for features in (student[0], teacher[0]):
        vectors = [unit(row) for row in features.tolist()]
        kernel = [[(1 + dot(a, b)) / 2 * (a is not b) for b in vectors] for a in vectors]
        probabilities.append([[value / sum(row) for value in row] for row in kernel])
    pairs = [(i, j) for i, j in product(range(SIZE), repeat=2) if i != j]
    total = sum(probabilities[1][i][j] * math.log(probabilities[1][i][j] / probabilities[0][i][j]) for i, j in pairs)
    assert computed(case, student, teacher) == pytest.approx(total / SIZE**2, rel=1e-4)


def test_vid() -> None:
    case = Case("vid", student=((2, 4, 4),), teacher=((3, 2, 2),), options={"initial_variance": 0.7})
    student, teacher = case.features(SIZE)
    weights = [layer.weight.detach()[:, :, 0, 0] for layer in case.make().means[0][::2]]
    total = 0.0
    for x, h, w in product(range(SIZE), range(2), range(2)):
        mean = weights[0] @ halved(student[0])[x, :, h, w]
        for weight in weights[1:]:
            mean = weight @ mean.clamp(min=0)
        for c in range(3):
            total += (math.log(0.7) + (teacher[0][x, c, h, w].item() - mean[c].item()) ** 2 / 0.7) / 2
    assert computed(case, student, teacher) == pytest.approx(total / (SIZE * 2 * 2 * 3))


def test_crd() -> None:
    case = METHODS["crd"]
    student, teacher = case.features(SIZE)
    loss = case.make()
    others = loss.draw_negatives(batch(range(SIZE)))
    samples, negatives = 20, 6
    total = 0.0
    for features, embed, memory in (
        (student[0], loss.embed_student, loss.memory_teacher),
        (teacher[0], loss.embed_teacher, loss.memory_student),
    ):
        exponentials = []
        for x in range(SIZE):
            z = unit((embed.weight @ features[x] + embed.bias).tolist())
            rows = [x, *others[x].tolist()]
            exponentials.append([math.exp(dot(z, memory[row].tolist()) / 0.07) for row in rows])
        normaliser = sum(map(sum, exponentials)) / (SIZE * (1 + negatives)) * samples
        for row in exponentials:
            positive, *rest = [value / normaliser for value in row]
            noise = negatives / samples
            total -= math.log(positive / (positive + noise))
            total -= sum(math.log(noise / (value + noise)) for value in rest)
    assert computed(case, student, teacher) == pytest.approx(total / SIZE, rel=1e-5)


def test_hierarchical_loss() -> None:
    first, second = (torch.randn(2, 3, 8, 8, dtype=torch.float64) for _ in range(2))
    expected, weight = torch.zeros(2, dtype=torch.float64), 1.0
    for _ in range(4):
        expected += weight * (first - second).square().mean((1, 2, 3)) / 1.875
        first_half, second_half = halved(first), halved(second)
        if weight == 1.0:
            original = (first, second)
        first, second, weight = first_half, second_half, weight / 2
    torch.testing.assert_close(hierarchical_loss(*original), expected)


def test_review() -> None:
    """Two layers; the shallow one is twice as large as the deep one, and its teacher half of its own size."""
    case = Case("review", student=((2, 4, 4), (3, 2, 2)), teacher=((3, 2, 2), (4, 2, 2)))
    student, teacher = case.features(SIZE)
    loss = case.make()
    assert isinstance(loss, Review)

    def normed(maps: Tensor) -> Tensor:
        mean = maps.mean((0, 2, 3), keepdim=True)
        return (maps - mean) / ((maps - mean).square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()

    shallow, deep = loss.fusions
    below = normed(functional.conv2d(student[1], deep.narrow[0].weight))
    own = normed(functional.conv2d(student[0], shallow.narrow[0].weight))
    larger = below.repeat_interleave(2, 2).repeat_interleave(2, 3)
    shares = functional.conv2d(torch.cat([own, larger], 1), shallow.attention.weight, shallow.attention.bias).sigmoid()
    fused = own * shares[:, 0:1] + larger * shares[:, 1:2]
    outputs = [
        normed(functional.conv2d(fused[:, :, ::2, ::2], shallow.widen[0].weight, padding=1)),
        normed(functional.conv2d(below, deep.widen[0].weight, padding=1)),
    ]
    expected = sum(hierarchical_loss(u, t).mean() for u, t in zip(outputs, teacher, strict=True))
    assert computed(case, student, teacher) == pytest.approx(float(expected.detach()))


def test_attention_maps_have_length_one() -> None:
    lengths = attention_map(torch.randn(4, 3, 5, 5), 2.0).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(4))
