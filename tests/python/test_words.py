"""The words that people bring from elsewhere: URLs, names of types, sizes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from harness import cli
from harness.cli import USAGE

SAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"

# Where a command takes a path.
PLACES = {
    "inspect": ["inspect", "URL"],
    "SRC": ["convert", "URL", "out"],
    "DST": ["convert", SAMPLE, "URL"],
    "DST of a plan": ["plan", SAMPLE, "URL"],
    "--assets-from": ["convert", SAMPLE, "out", "--assets-from", "URL"],
    "--like": ["convert", SAMPLE, "out", "--like", "URL"],
    "--llm-from": ["convert", SAMPLE, "out", "--llm-from", "URL"],
    "--recipe": ["convert", SAMPLE, "out", "--recipe", "URL.toml"],
    "--layout": ["convert", SAMPLE, "out", "--to", "megatron", "--layout", "URL.toml"],
    "--from-layout": ["convert", SAMPLE, "out", "--from-layout", "URL.toml"],
    "--plan": ["convert", "--plan", "URL"],
    "-o": ["plan", SAMPLE, "out", "-o", "URL"],
    "verify": ["verify", "URL"],
    "recipe show": ["recipe", "show", "URL.toml"],
    "recipe check": ["recipe", "check", "URL.toml"],
    "load-dir": ["merge-dcp-to-hf", "--load-dir", "URL", "--save-dir", "out"],
    "save-dir": ["merge-dcp-to-hf", "--load-dir", SAMPLE, "--save-dir", "URL"],
    "mm-convert": ["mm-convert", "Qwen2VLConverter", "hf_to_mm", "--cfg.mm_dir", "out",
                   "--cfg.hf_config.hf_dir", "URL", "--cfg.parallel_config.llm_pp_layers", "[1]",
                   "--cfg.parallel_config.vit_pp_layers", "[1]"],
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_url_is_no_path(place: str, tmp_path: Path) -> None:
    url = "s3://bucket/run"
    arguments = [str(word).replace("URL", url) for word in PLACES[place]]
    said = cli.expect(USAGE, *arguments, cwd=tmp_path).stderr
    assert "this is a URL" in said
    assert "aws s3 cp --recursive" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("gs://bucket/run", "gcloud storage cp -r gs://bucket/run DIRECTORY"),
        ("az://container/run", "azcopy"),
        ("hf://org/name", "hf download org/name"),
        ("https://huggingface.co/org/name/tree/main", "hf download org/name"),
        ("https://example.com/model.safetensors", "wget or curl"),
        ("file:///data/run", "leave the scheme out: /data/run"),
        (str(PurePosixPath("s3://bucket/run")), "aws s3 cp --recursive s3://bucket/run DIRECTORY"),
    ],
)
def test_what_would_work_in_place_of_a_url(url: str, advice: str, tmp_path: Path) -> None:
    assert advice in cli.expect(USAGE, "convert", url, "out", cwd=tmp_path).stderr
    cli.expect(USAGE, "convert", SAMPLE, url, cwd=tmp_path)
    assert not list(tmp_path.iterdir())
