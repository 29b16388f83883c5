"""The rules that each field's value must keep, as they are told: types, ranges, and rules between fields."""

import pytest

HEAD = """\
name: tiny
data: {dataset: digits}
teacher: {model: resnet14}
student: {model: resnet8}
"""


@pytest.mark.parametrize(
    ("text", "path", "line", "rule"),
    [
        # Rules between fields.
        (
            "distillation:\n  temperature:\n    method: flsw\n    min: 5\n    base: 4\n",
            "distillation.temperature.min",
            8,
            "must be <= base (4.0)",
        ),
        (
            "distillation:\n  temperature:\n    method: cwsm\n    max: 3\n",
            "distillation.temperature.max",
            8,
            "must be >= base (4.0)",
        ),
        (
            "distillation:\n  ce_weight: 0\n  kd_weight: 0\n",
            "distillation.kd_weight",
            7,
            "must be above 0 where ce_weight is 0: there would be no loss",
        ),
        (
            "training:\n  epochs: 10\n  schedule:\n    milestones: [5, 10]\n",
            "training.schedule.milestones",
            8,
            "must rise and lie between 0 and epochs (10)",
        ),
        (
            "training:\n  schedule: {milestones: [5, 3]}\n",
            "training.schedule.milestones",
            6,
            "must rise and lie between 0 and epochs (240)",
        ),
        (
            "training:\n  epochs: 10\n  schedule:\n    warmup_epochs: 10\n",
            "training.schedule.warmup_epochs",
            8,
            "must be below epochs (10)",
        ),
        (
            "distillation:\n  warmup_epochs: 11\ntraining: {epochs: 10}\n",
            "distillation.warmup_epochs",
            6,
            "must be <= training.epochs (10)",
        ),
        (
            "distillation:\n  features:\n  - {method: review, warmup_epochs: 11}\ntraining: {epochs: 10}\n",
            "distillation.features.0.warmup_epochs",
            7,
            "must be <= training.epochs (10)",
        ),
        (
            "distillation: {warmup_epochs: 20}\nscheme:\n  method: teacher_assistants\n"
            "  assistants: [{model: resnet8, training: {epochs: 19}}]\n",
            "distillation.warmup_epochs",
            5,
            "must be <= scheme.assistants.0.training.epochs (19)",
        ),
        (
            "training:\n  optimizer: {momentum: 0, nesterov: true}\n",
            "training.optimizer.nesterov",
            6,
            "must be false where momentum is 0",
        ),
        (
            "training:\n  accumulation: 2\ndistillation:\n  temperature: {method: flsw}\n",
            "training.accumulation",
            6,
            "must be 1 with temperature.method flsw, which needs a whole batch at once; more workers can share one",
        ),
        (
            "training: {accumulation: 4}\ndistillation: {features: [{method: rkd, weight: 1}]}\n",
            "training.accumulation",
            5,
            "must be 1 with the feature loss rkd, which needs a whole batch at once; more workers can share one",
        ),
        ("search:\n  metric: val/loss\n", "search.mode", 5, "must be min for metric val/loss"),
        (
            "search:\n  space:\n    training.epochs: {type: randint, low: 3,\n      high: 3}\n",
            "search.space.training.epochs.high",
            8,
            "must be > low (3)",
        ),
        (
            "search:\n  space:\n    training.optimizer.lr: {type: loguniform, low: 0, high: 1}\n",
            "search.space.training.optimizer.lr.low",
            7,
            "must be > 0 on a logarithmic scale",
        ),
        (
            "search:\n  space:\n    training.optimizer.lr: {type: quniform, low: 0.1, high: 1, q: 0.25}\n",
            "search.space.training.optimizer.lr.low",
            7,
            "must be a multiple of q (0.25)",
        ),
        (
            "search:\n  sampler: grid\n  space:\n    training.epochs: {type: randint, low: 1, high: 2}\n"
            "    training.optimizer.lr: {type: uniform, low: 0.1, high: 1}\n",
            "search.space.training.optimizer.lr",
            9,
            "cannot be a grid: use choice, quniform or randint",
        ),
        (
            "search:\n  space:\n    training.epochs: {type: choice, values: [3, 4, 3]}\n",
            "search.space.training.epochs.values",
            7,
            "must differ from each other",
        ),
        (
            "search:\n  constraints:\n  - a < b\n",
            "search.constraints.0",
            7,
            "'a < b' is not of the form 'path <= path' or 'path >= path'",
        ),
        (
            "search:\n  constraints: [1 <= 2]\n",
            "search.constraints.0",
            6,
            "must name at least one field",
        ),
        # Types.
        ("training: {epochs: 2.5}\n", "training.epochs", 5, "must be a whole number"),
        ("training: {epochs: '3'}\n", "training.epochs", 5, "must be a whole number"),
        ("training: {epochs: true}\n", "training.epochs", 5, "must be a whole number"),
        ("training: {epochs: null}\n", "training.epochs", 5, "must be a whole number"),
        ("training: {optimizer: {lr: false}}\n", "training.optimizer.lr", 5, "must be a number"),
        ("training:\n", "training", 5, "must be a mapping"),
        ("training: [1]\n", "training", 5, "must be a mapping"),
        ("training: {optimizer: [1]}\n", "training.optimizer", 5, "must be a mapping"),
        ("distillation:\n  temperature: flsw\n", "distillation.temperature", 6, "must be a mapping"),
        (
            "training:\n  schedule:\n    milestones:\n    - 1\n    - x\n",
            "training.schedule.milestones.1",
            9,
            "must be a number",
        ),
        (
            "training: {schedule: {milestones: 3}}\n",
            "training.schedule.milestones",
            5,
            "must be a list",
        ),
        ("tracking: {uri: 3}\n", "tracking.uri", 5, "must be text"),
        ("search: {space: [1]}\n", "search.space", 5, "must be a mapping"),
        ("search: {variants: {kd: }}\n", "search.variants.kd", 5, "must be a mapping"),
        # Ranges.
        ("seed: -1\n", "seed", 5, "must be >= 0"),
        ("seed: 2000000000\n", "seed", 5, "must be < 2000000000"),
        ("training: {epochs: 0}\n", "training.epochs", 5, "must be >= 1"),
        ("training: {optimizer: {momentum: 1}}\n", "training.optimizer.momentum", 5, "must be < 1.0"),
        ("distillation: {ce_weight: -0.1}\n", "distillation.ce_weight", 5, "must be >= 0.0"),
        (
            "distillation: {temperature: {base: 0}}\n",
            "distillation.temperature.base",
            5,
            "must be >= 0.001",
        ),
        (
            "distillation: {temperature: {method: flsw, max: 1001}}\n",
            "distillation.temperature.max",
            5,
            "must be <= 1000.0",
        ),
        (
            "distillation: {temperature: {method: flsw, gamma: 500}}\n",
            "distillation.temperature.gamma",
            5,
            "must be <= 16.0",
        ),
        (
            "distillation: {temperature: {method: cwsm, beta: 1.0e+300}}\n",
            "distillation.temperature.beta",
            5,
            "must be <= 1000000.0",
        ),
        (
            "distillation: {adjustment: {rule: label_smoothing, epsilon: 1.1}}\n",
            "distillation.adjustment.epsilon",
            5,
            "must be <= 1.0",
        ),
        ("resources: {num_workers: 0}\n", "resources.num_workers", 5, "must be >= 1"),
        (
            "resources: {num_workers: [4, 2]}\n",
            "resources.num_workers",
            5,
            "the smallest number of workers, 4, is above the largest, 2",
        ),
        (
            "resources: {num_workers: [1, 2, 3]}\n",
            "resources.num_workers",
            5,
            "must be a number of workers, or the smallest and the largest number as [min, max]",
        ),
        ("resources: {num_workers: [0, 2]}\n", "resources.num_workers", 5, "must be >= 1"),
        (
            "resources: {gpus_per_worker: 1.5}\n",
            "resources.gpus_per_worker",
            5,
            "must be a whole number above 1: only a single GPU can be shared",
        ),
        (
            "resources: {num_workers: [1, 2], gpus_per_worker: 0.5}\n",
            "resources.gpus_per_worker",
            5,
            "must be a whole number where num_workers is [min, max]: Ray miscounts the places of shares",
        ),
        ("search: {num_samples: 10001}\n", "search.num_samples", 5, "must be <= 10000"),
        (
            "search: {space: {training.epochs: {type: choice, values: []}}}\n",
            "search.space.training.epochs.values",
            5,
            "must not be empty",
        ),
        (
            "search: {variants: {-kd: {}}}\n",
            "search.variants.-kd",
            5,
            "must begin with a letter (a to z) or digit and go on with letters, digits, + . _ or -",
        ),
        (
            "training: {precision: float16}\n",
            "training.precision",
            5,
            "must be 'auto', 'float32' or 'bf16'",
        ),
        # Numbers that are none.
        ("training: {optimizer: {lr: .nan}}\n", "training.optimizer.lr", 5, "must be a finite number"),
        ("training: {optimizer: {lr: .inf}}\n", "training.optimizer.lr", 5, "must be a finite number"),
        ("training: {optimizer: {lr: -.INF}}\n", "training.optimizer.lr", 5, "must be a finite number"),
        ("training: {optimizer: {lr: 1e999}}\n", "training.optimizer.lr", 5, "must be a finite number"),
    ],
)
def test_one_problem(problems, text: str, path: str, line: int, rule: str) -> None:
    (problem,) = problems(HEAD + text)
    assert (problem.path, problem.line, problem.rule, problem.hint) == (path, line, rule, None)
