"""Variants and their spaces: how they merge, and which domains are refused."""

import pytest
from search_specs import BASE, LR, TEMPERATURE, arms, choice, refused, spec_with, uniform

from orchestrator.errors import SpecError
from orchestrator.spec import load_spec
from orchestrator.spec.variants import variants

# Merging


def test_without_variants_the_spec_itself_is_the_only_one() -> None:
    (variant,) = variants(spec_with(space={"training.optimizer.lr": LR}))
    assert variant.name == "default"
    assert variant.run.training.optimizer.lr == 0.1
    assert list(variant.space) == ["training.optimizer.lr"]


def test_variants_keep_their_order_and_merge_values_and_spaces() -> None:
    found = arms(
        space={"training.optimizer.lr": LR},
        variants={
            "kd": {"set": {TEMPERATURE: {"method": "constant", "base": 3}}},
            "dtd": {"space": {f"{TEMPERATURE}.max": uniform(5, 16)}},
            "own": {"set": {"training.epochs": 4}, "space": {"training.optimizer.lr": uniform(0.5, 1)}},
        },
    )
    assert list(found) == ["kd", "dtd", "own"]
    # A section that is set replaces the whole one; fields of the other form are gone.
    assert found["kd"].run.distillation.temperature.model_dump() == {"method": "constant", "base": 3.0}
    assert list(found["kd"].space) == ["training.optimizer.lr"]
    assert found["dtd"].run.distillation.temperature.beta == 20
    assert list(found["dtd"].space) == ["training.optimizer.lr", f"{TEMPERATURE}.max"]
    assert found["own"].run.training.epochs == 4
    assert found["own"].run.training.optimizer.lr == 0.1
    assert found["own"].space["training.optimizer.lr"].low == 0.5


def test_sections_are_set_before_their_fields_whatever_the_order() -> None:
    set_ = {f"{TEMPERATURE}.beta": 3, TEMPERATURE: {"method": "cwsm", "min": 2}}
    (variant,) = arms(variants={"a": {"set": set_}}).values()
    assert (variant.run.distillation.temperature.method, variant.run.distillation.temperature.beta) == (
        "cwsm",
        3,
    )
    assert variant.run.distillation.temperature.min == 2


@pytest.mark.parametrize(
    ("search", "path", "allowed"),
    [
        ({"space": {"seed": choice(1, 2)}}, "search.space.seed", "student, distillation, training, data.augmentation"),
        (
            {"space": {"teacher.width": choice(1.0, 2.0)}},
            "search.space.teacher.width",
            "student, distillation, training, data.augmentation",
        ),
        (
            {"space": {"data.root": choice("a")}},
            "search.space.data.root",
            "student, distillation, training, data.augmentation",
        ),
        (
            {"variants": {"a": {"set": {"search.num_samples": 3}}}},
            "search.variants.a.set.search.num_samples",
            "data, teacher, student, scheme, distillation, training",
        ),
        (
            {"variants": {"a": {"set": {"resources.cpus_per_worker": 3}}}},
            "search.variants.a.set.resources.cpus_per_worker",
            "data, teacher, student, scheme, distillation, training",
        ),
        (
            {"variants": {"a": {"space": {"data.train_samples": choice(3)}}}},
            "search.variants.a.space.data.train_samples",
            "student, distillation, training, data.augmentation",
        ),
    ],
)
def test_misplaced_paths(search: dict, path: str, allowed: str) -> None:
    (problem,) = refused(**search)
    assert (problem.path, problem.rule) == (path, f"must begin with one of: {allowed}")


def test_problems_of_a_variant_are_told_where_it_sets_them() -> None:
    found = refused(
        variants={
            "a": {"set": {"training.optimzer.lr": 1}},
            "b": {"set": {"training.optimizer.lr": -1}},
            "c": {"set": {TEMPERATURE: {"method": "constant", "gamma": 3}}},
            "d": {"set": {f"{TEMPERATURE}.min": 6}},
            "e": {"set": {"student.model": "resnet9"}},
            "f": {"set": {"teacher": None}},
        }
    )
    where = "search.variants"
    assert [problem.path for problem in found] == [
        f"{where}.a.set.training.optimzer.lr",
        f"{where}.b.set.training.optimizer.lr",
        f"{where}.c.set.{TEMPERATURE}.gamma",
        f"{where}.d.set.{TEMPERATURE}.min",
        f"{where}.e.set.student.model",
        f"{where}.f.set.teacher",
    ]
    assert found[0].rule == "training.optimzer: unknown key"
    assert found[0].hint == "did you mean 'optimizer'?"
    assert found[1].rule == "must be > 0.0"
    assert found[3].rule == "must be <= base (4.0)"
    assert "did you mean 'resnet" in found[4].rule
    assert "is needed where" in found[5].rule


def test_the_lines_of_variants(load, problems) -> None:
    text = (
        "name: a\ndata: {dataset: digits}\nteacher: {model: resnet14}\nstudent: {model: resnet8}\n"
        "search:\n"
        "  space:\n"
        "    training.optimizer.lr: {type: uniform, low: 0.1, high: 1}\n"
        "    training.optimizer.momentum: {type: uniform, low: 0.5, high: 1}\n"
        "  variants:\n"
        "    a.b:\n"
        "      set:\n"
        "        training.epochs: 3\n"
        "        training.optimizer.nesterof: true\n"
        "    c:\n"
        "      space:\n"
        "        student.width: {type: uniform, low: 0, high: 1}\n"
    )
    assert [(problem.path, problem.line) for problem in problems(text)] == [
        ("search.space.training.optimizer.momentum", 8),
        ("search.variants.a.b.set.training.optimizer.nesterof", 13),
        ("search.variants.c.space.student.width", 16),
    ]


# Domains


def test_a_shared_path_that_one_variant_lacks_is_named() -> None:
    (problem,) = refused(
        space={f"{TEMPERATURE}.gamma": uniform(0.5, 2)},
        variants={"kd": {"set": {TEMPERATURE: {"method": "constant"}}}, "dtd": {}},
    )
    assert problem.path == f"search.space.{TEMPERATURE}.gamma"
    assert problem.rule == "variant 'kd' has no such field"
    assert "give it in the variants that have it" in (problem.hint or "")


def test_a_shared_domain_that_fits_no_variant_is_told_once() -> None:
    three = {"a": {}, "b": {"set": {"training.epochs": 4}}, "c": {}}
    (problem,) = refused(space={"training.optimzer.lr": LR}, variants=three)
    assert (problem.rule, problem.hint) == ("there is no field training.optimzer", "did you mean 'optimizer'?")
    (problem,) = refused(space={"training.gradient_clip": uniform(0, 1)}, variants=three)
    assert "training.gradient_clip must be > 0" in problem.rule
    (problem,) = refused(space={"trainig.epochs": choice(1)}, variants=three)
    assert problem.hint == "did you mean 'training'?"


def test_a_shared_path_names_all_variants_that_lack_it() -> None:
    constant = {"set": {TEMPERATURE: {"method": "constant"}}}
    (problem,) = refused(
        space={f"{TEMPERATURE}.gamma": uniform(0.5, 2)}, variants={"kd": constant, "dtd": {}, "la": constant}
    )
    assert problem.rule == "variants 'kd', 'la' have no such field"


@pytest.mark.parametrize(
    ("path", "domain", "rule"),
    [
        (
            "training.optimizer.lr",
            uniform(0, 1),
            "training.optimizer.lr = 0.0, training.optimizer.lr must be > 0",
        ),
        ("training.optimizer.momentum", uniform(0.5, 1), "training.optimizer.momentum must be < 1"),
        ("training.epochs", uniform(2, 5), "must be a whole number"),
        (
            "training.batch_size",
            choice(16, "32"),
            "training.batch_size = 32, training.batch_size must be a whole",
        ),
        ("student.norm", choice("batch", "layer"), "must be 'batch', 'group' or 'sync_batch'"),
        ("student.model", choice("resnet8", "resnet9"), "is not a known model"),
        (
            f"{TEMPERATURE}.max",
            uniform(3, 8),
            f"{TEMPERATURE}.max = 3.0, {TEMPERATURE}.max must be >= base (4.0)",
        ),
        (
            f"{TEMPERATURE}.min",
            uniform(1, 5),
            f"{TEMPERATURE}.min = 5.0, {TEMPERATURE}.min must be <= base (4.0)",
        ),
        ("training.optimizer.learning_rate", uniform(1, 2), "there is no field training.optimizer.learning_rate"),
        ("training.schedule.warmup_epochs", uniform(0, 10), "must be below epochs (10)"),
        (TEMPERATURE, choice({"method": "constant"}, {"method": "flsw", "gama": 1}), f"{TEMPERATURE}.gama is no field"),
    ],
)
def test_ends_of_a_domain_that_are_not_valid(path: str, domain: dict, rule: str) -> None:
    (problem,) = refused(space={path: domain})
    assert problem.path == f"search.space.{path}"
    assert rule in problem.rule


def test_the_end_itself_belongs_to_the_domain() -> None:
    # min <= base = 4 <= max, so both ends are just valid.
    spec_with(space={f"{TEMPERATURE}.min": uniform(1, 4)})
    spec_with(space={f"{TEMPERATURE}.max": uniform(4, 8)})
    assert refused(space={f"{TEMPERATURE}.min": uniform(1, 4.0001)})
    assert refused(space={f"{TEMPERATURE}.max": uniform(3.9999, 8)})


def test_two_domains_that_cross_a_rule_are_refused_with_the_way_out() -> None:
    space = {f"{TEMPERATURE}.min": uniform(1, 6), f"{TEMPERATURE}.base": uniform(3, 8)}
    problems = refused(space=space)
    assert f"search.space.{TEMPERATURE}.min" in [problem.path for problem in problems]
    problem = next(problem for problem in problems if problem.path.endswith(".min"))
    assert (
        f"with {TEMPERATURE}.min = 6.0, {TEMPERATURE}.base = 3.0, {TEMPERATURE}.min must be <= base (3.0)"
        in problem.rule
    )
    assert problem.hint == "narrow the domain, or add a rule under search.constraints"
    spec_with(space=space, constraints=[f"{TEMPERATURE}.min <= {TEMPERATURE}.base"])


def test_rules_across_sections_are_checked_however_many_domains_there_are() -> None:
    many = {
        "training.optimizer.lr": uniform(0.1, 1),
        "training.optimizer.momentum": uniform(0.1, 0.9),
        "training.optimizer.weight_decay": uniform(0, 1),
        "training.gradient_clip": uniform(0.1, 1),
        "training.checkpoint_interval_s": uniform(0, 1),
        "distillation.ce_weight": uniform(0.1, 1),
        "distillation.kd_weight": uniform(0.1, 1),
        "student.width": uniform(0.1, 1),
    }
    crossing = {
        "training.epochs": choice(9, 3),
        "training.schedule.warmup_epochs": uniform(0, 4),
    }
    spec_with(space=many | crossing | {"training.epochs": choice(9, 5)})
    problems = refused(space=many | crossing)
    assert any("warmup_epochs must be below epochs (3)" in problem.rule for problem in problems)


# The teacher's training


def test_the_teacher_is_trained_as_the_spec_says_and_not_as_a_variant_or_a_point_says() -> None:
    found = arms(
        space={"training.optimizer.lr": LR},
        variants={
            "plain": {},
            "short": {"set": {"training.epochs": 3}},
            "other": {"set": {"teacher": {"model": "resnet20"}, "training.epochs": 3}},
            "own": {"set": {"teacher.training": {"epochs": 7}}},
            "part": {"set": {"teacher.training.epochs": 8}},
        },
    )
    own = found["plain"].run.training
    for name in ("plain", "short", "other"):
        run = found[name].run
        assert run.teacher_training == own
        assert run.with_values({"training.optimizer.lr": 0.02, "training.epochs": 2}).teacher_training == own
    assert found["other"].run.teacher.model == "resnet20"
    assert found["own"].run.teacher_training.epochs == 7
    assert found["own"].run.teacher_training.optimizer.lr == 0.05
    assert found["part"].run.teacher_training.epochs == 8
    assert found["part"].run.teacher_training.optimizer.lr == own.optimizer.lr


def test_a_teacher_with_its_own_training_keeps_it() -> None:
    spec = load_spec(
        BASE, {"teacher.training": {"epochs": 3}, "search.variants": {"a": {"set": {"training.epochs": 5}}}}
    )
    (variant,) = variants(spec)
    assert variant.run.teacher_training.epochs == 3
    assert variant.run.teacher_training.optimizer.lr == 0.05


def test_a_variant_may_read_its_teacher_from_a_file() -> None:
    found = arms(variants={"a": {"set": {"teacher.checkpoint": "/t.safetensors"}}, "b": {}})
    assert found["a"].run.teacher.checkpoint == "/t.safetensors"
    assert found["a"].run.teacher.training is None
    assert found["b"].run.teacher.checkpoint is None


NO_LOGIT_LOSS = {"distillation.kd_weight": 0, "distillation.ce_weight": 1}
IDLE = "acts on the logit loss alone, which kd_weight 0 leaves out; remove it, or raise kd_weight"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"distillation.adjustment": {"rule": "probability_shift"}}, "set.distillation.adjustment"),
        ({"distillation.adjustment.rule": "probability_shift"}, "set.distillation.adjustment"),
        ({"distillation": {"kd_weight": 0, "loss": {"method": "dist"}}}, "set.distillation.loss"),
        ({"distillation.logit_standardization": True}, "set.distillation.logit_standardization"),
        ({"distillation.warmup_epochs": 2}, "set.distillation.warmup_epochs"),
        ({f"{TEMPERATURE}.beta": 30}, "set.distillation.temperature"),
    ],
)
def test_a_variant_may_not_set_what_acts_on_the_logit_loss_that_it_leaves_out(given: dict, path: str) -> None:
    arms = {"kd": {}, "alone": {"set": {**NO_LOGIT_LOSS, **given}}}
    (problem,) = refused(variants=arms)
    assert (problem.path, problem.rule) == (f"search.variants.alone.{path}", IDLE)
    arms["alone"]["set"] |= {"distillation.kd_weight": 0.5}
    arms["alone"]["set"].pop("distillation", None)
    spec_with(variants=arms)


def test_a_variant_may_not_search_what_acts_on_the_logit_loss_that_it_leaves_out() -> None:
    space = {f"{TEMPERATURE}.max": uniform(4, 8)}
    (problem,) = refused(variants={"kd": {}, "alone": {"set": NO_LOGIT_LOSS, "space": space}})
    assert (problem.path, problem.rule) == (f"search.variants.alone.space.{TEMPERATURE}.max", IDLE)


def test_what_a_variant_without_a_logit_loss_inherits_may_stay() -> None:
    searched = {"distillation.kd_weight": choice(0, 0.5), f"{TEMPERATURE}.max": uniform(4, 8)}
    spec_with(variants={"kd": {}, "alone": {"set": NO_LOGIT_LOSS}}, space={f"{TEMPERATURE}.max": uniform(4, 8)})
    spec_with(variants={"both": {"set": {"distillation.adjustment": {"rule": "probability_shift"}}}}, space=searched)


@pytest.mark.parametrize("search", [{}, {"variants": {"a": {"set": {"training.batch_size": 32}}, "b": {}}}])
def test_a_spec_may_not_set_what_acts_on_a_logit_loss_that_no_variant_has(search: dict) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(BASE | {"search": search}, NO_LOGIT_LOSS)
    assert [(problem.path, problem.rule) for problem in caught.value.problems] == [("distillation.temperature", IDLE)]
    spec = BASE | {"search": {"variants": {"kd": {"set": {"distillation.kd_weight": 1}}, "b": {}}}}
    spec["distillation"] = {**BASE["distillation"], "kd_weight": 0, "ce_weight": 1}
    load_spec(spec)
