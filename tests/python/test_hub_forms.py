"""Tensors that the hub has in two forms: told by their shapes, by `--hub-form` where these leave it
open, and written like those of `--like`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from harness import cli, tiny_multimodal
from harness import mindspeed_reference as reference
from harness.compare import assert_reads_as, assert_same_tensors
from harness.mindspeed_reference import Layout, Tensors

RECIPE = ("--recipe", "mindspeed-mm")
LAYOUT = Layout([[1, 3]], [[4, 0]], tp=2, vit_tp=1, ep=4)
# Both forms of one of the tensors have one shape: gate_up [8, 32, 32], down [8, 32, 32].
OPEN = [pytest.param(16, "gate_up_proj", id="gate_up"), pytest.param(32, "down_proj", id="down")]
TOLD = 12


class Model:
    """Qwen3-VL-MoE with experts of a width, as published and as transformers 5 saves it."""

    def __init__(self, width: int) -> None:
        tiny = tiny_multimodal.build("qwen3_vl_moe")
        text = tiny.config["text_config"] | {"moe_intermediate_size": width}
        self.config = tiny.config | {"text_config": text}
        generator = torch.Generator().manual_seed(width)
        self.published: Tensors = {}
        for name, tensor in tiny.tensors.items():
            shape = {"gate_up_proj": (8, 32, 2 * width), "down_proj": (8, width, 32)}.get(
                name.rpartition(".experts.")[2] if ".experts." in name else ""
            )
            made = torch.randn(shape, generator=generator).to(tensor.dtype) if shape else tensor
            self.published[name] = made
        self.forms = {
            "published": self.published,
            "transformers": {
                name: tensor.transpose(1, 2).contiguous() if ".experts." in name else tensor
                for name, tensor in self.published.items()
            },
        }

    def save(self, form: str, directory: Path) -> Path:
        tiny_multimodal.save(self.config, self.forms[form], directory)
        return directory

    def assert_ranks(self, root: Path) -> None:
        """Whatever form they come from, the ranks hold what the published tensors make."""
        ranks = reference.convert(self.published, self.config, LAYOUT)
        files = {path.name: path for path in (root / "release").glob("mp_rank_*")}
        assert files.keys() == ranks.keys()
        for rank, [expected] in ranks.items():
            content = torch.load(files[rank] / "model_optim_rng.pt", weights_only=True)
            assert_same_tensors(content["model"], expected)


def to_megatron(source: Path, out: Path, *more: object) -> list[object]:
    return ["convert", source, out, "--to", "megatron", *RECIPE, *LAYOUT.options(), *more]


@pytest.fixture
def ranks(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Model, Path, Path]:
    """A model, its assets, and its ranks."""
    model = Model(request.param)
    assets = model.save("published", tmp_path / "assets")
    cli.ok(*to_megatron(assets, tmp_path / "ranks", "--hub-form", "published"))
    return model, assets, tmp_path / "ranks"


def refused(code: int, *command: object) -> str:
    """Says why on stderr, and leaves nothing behind."""
    out = Path(str(command[2]))
    done = cli.expect(code, *command)
    assert not out.exists()
    return done.stderr


@pytest.mark.parametrize("form", ["published", "transformers"])
def test_the_shape_tells(tmp_path: Path, out: Path, form: str) -> None:
    model = Model(TOLD)
    source = model.save(form, tmp_path / "hf")
    cli.ok(*to_megatron(source, out))
    model.assert_ranks(out)


@pytest.mark.parametrize(("width", "tensor"), OPEN)
def test_what_is_open_is_asked_for(tmp_path: Path, out: Path, width: int, tensor: str) -> None:
    source = Model(width).save("published", tmp_path / "hf")
    said = refused(cli.MAPPING, *to_megatron(source, out))
    for word in (tensor, "[8, 32, 32]", "--hub-form published", "--hub-form transformers"):
        assert word in said
    for form in ("publisht", "long"):
        said = refused(cli.USAGE, *to_megatron(source, out, "--hub-form", form))
        assert f"'{form}'" in said
        assert "published or transformers" in said


@pytest.mark.parametrize("form", ["published", "transformers"])
@pytest.mark.parametrize("width", [16, 32, TOLD])
def test_the_flag_says_it(tmp_path: Path, out: Path, width: int, form: str) -> None:
    model = Model(width)
    source = model.save(form, tmp_path / "hf")
    cli.ok(*to_megatron(source, out, "--hub-form", form))
    model.assert_ranks(out)


@pytest.mark.parametrize("other", ["published", "transformers"])
def test_the_flag_does_not_overrule_a_shape(tmp_path: Path, out: Path, other: str) -> None:
    model = Model(TOLD)
    source = model.save("transformers", tmp_path / "hf")
    cli.ok(*to_megatron(source, out, "--hub-form", other))
    model.assert_ranks(out)


@pytest.mark.parametrize("ranks", [TOLD, 16], indirect=True)
def test_the_form_that_is_written(ranks: tuple[Model, Path, Path], tmp_path: Path) -> None:
    model, assets, root = ranks
    for form in ("", "published", "transformers"):
        out = tmp_path / f"out-{form}"
        options = ["--hub-form", form] if form else []
        cli.ok("convert", root, out, *RECIPE, "--assets-from", assets, *options)
        assert_reads_as(out, model.forms[form or "published"])


@pytest.mark.parametrize("ranks", [TOLD], indirect=True)
@pytest.mark.parametrize("form", ["published", "transformers"])
def test_like_a_directory(ranks: tuple[Model, Path, Path], tmp_path: Path, form: str) -> None:
    """Its shapes count for more than the flag, as they do where it is read."""
    model, assets, root = ranks
    like = model.save(form, tmp_path / "like")
    for number, options in enumerate(([], ["--hub-form", "published"])):
        out = tmp_path / f"out-{number}"
        options += ["--like", like, "--assets-from", assets]
        cli.ok("convert", root, out, *RECIPE, *options)
        assert_reads_as(out, model.forms[form])


@pytest.mark.parametrize("ranks", [16], indirect=True)
def test_like_a_directory_whose_shapes_leave_it_open(
    ranks: tuple[Model, Path, Path], tmp_path: Path, out: Path
) -> None:
    model, assets, root = ranks
    like = model.save("transformers", tmp_path / "like")
    command = ["convert", root, out, *RECIPE, "--like", like, "--assets-from", assets]
    assert "--hub-form transformers" in refused(cli.MAPPING, *command)
    cli.ok(*command, "--hub-form", "transformers")
    assert_reads_as(out, model.forms["transformers"])


@pytest.mark.parametrize("ranks", [16], indirect=True)
def test_passing_through_the_hub_asks_nothing(
    ranks: tuple[Model, Path, Path], tmp_path: Path, out: Path
) -> None:
    """No one sees the hub's tensors between two flavors."""
    model, assets, root = ranks
    flavors = [*RECIPE, "--from-recipe", "mindspeed-mm", "--assets-from", assets]
    cli.ok("convert", root, tmp_path / "dcp", "--to", "dcp", *flavors)
    cli.ok(*to_megatron(tmp_path / "dcp", out, *flavors[2:]))
    model.assert_ranks(out)


def test_a_stored_plan_keeps_it(tmp_path: Path, out: Path) -> None:
    model = Model(16)
    source = model.save("transformers", tmp_path / "hf")
    _, *rest = to_megatron(source, out, "--hub-form", "transformers")
    cli.ok("plan", *rest, "-o", tmp_path / "plan.json")
    stored = json.loads((tmp_path / "plan.json").read_text())
    assert stored["request"]["hub_form"] == "transformers"
    cli.ok("convert", "--plan", tmp_path / "plan.json")
    model.assert_ranks(out)
    manifest = json.loads((out / "release" / "reshard-manifest.json").read_text())
    assert manifest["request"]["hub_form"] == "transformers"


def test_a_recipe_that_knows_one_form_of_each(tmp_path: Path, out: Path) -> None:
    source = Model(TOLD).save("published", tmp_path / "hf")
    options = ["--recipe", "identity", "--hub-form", "published"]
    assert "--hub-form" in refused(cli.USAGE, "convert", source, out, *options)


def test_recipe_check_takes_any_form(tmp_path: Path) -> None:
    recipe = "mindspeed-mm/qwen3-vl-moe"
    told = Model(TOLD).save("transformers", tmp_path / "told")
    cli.ok("recipe", "check", recipe, told)
    model = Model(16).save("transformers", tmp_path / "open")
    assert "[8, 32, 32] may be" in cli.expect(cli.NO, "recipe", "check", recipe, model).stdout
    cli.ok("recipe", "check", recipe, model, "--hub-form", "transformers")
