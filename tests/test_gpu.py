"""The study for a GPU does its work on a CPU too, in small; its table is whole at any moment, and is gone on with."""

from __future__ import annotations

import json

import pytest
import tokenizers_made
import torch
from transformers import AutoModelForCausalLM

from experiments import gpu, gpu_tasks
from llm import models
from llm.architectures import KNOWN

WITHOUT_A_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    words = tokenizers_made.made("gpt2")
    config = KNOWN["smollm2"].shrunk(len(words)).config(max_position_embeddings=2048, eos_token_id=words.eos_token_id)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return str(models.save(tmp_path_factory.mktemp("model") / "tiny", module, words))


@WITHOUT_A_GPU
def test_without_a_gpu_it_says_so(capsys, tmp_path):
    assert gpu.main(["--out", str(tmp_path / "gpu.csv")]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and not list(tmp_path.iterdir())
    assert output.err.startswith("experiments.gpu: error: device: torch sees no GPU here; give --device cpu")
    assert gpu.main(["--device", "cpu", "--tasks", "dance"]) == 2
    assert "tasks: there is no 'dance'; there are forward, " in capsys.readouterr().err


@pytest.mark.parametrize("task,dtype", [(name, one) for name, (dtypes, _) in gpu_tasks.TASKS.items() for one in dtypes])
def test_every_task(task, dtype, model, tmp_path, capsys):
    given = [task, dtype, "cpu", model, "smallest", str(tmp_path / "run")]
    assert gpu_tasks.main(json.dumps(given)) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["status"] == "done" and found["seconds"] > 0
    assert found["peak_bytes"] == "" or found["peak_bytes"] > 2**20
    if task in ("forward", "forward+backward", "decode"):
        size = gpu_tasks.SIZES["smallest"]
        assert found["tokens"] == size.rows * (1 if task == "decode" else size.length)
        assert found["tokens_per_second"] == pytest.approx(found["tokens"] / found["seconds"], rel=0.01)
        assert found["tflops"] > 0
    else:
        assert found["found"]


def test_a_package_that_is_missing_is_told(monkeypatch, capsys):
    def needs(work):
        import a_package_that_nobody_has  # noqa: F401

    monkeypatch.setitem(gpu_tasks.TASKS, "rlvr", (("float32",), needs))
    assert gpu_tasks.main(json.dumps(["rlvr", "float32", "cpu", "x", "smallest", "y"])) == 0
    assert json.loads(capsys.readouterr().out) == {"status": "skipped: needs a_package_that_nobody_has"}


@pytest.mark.slow
def test_the_table(model, tmp_path, capsys):
    """In processes of their own; a second start finds what is done, and does what failed again."""
    out = tmp_path / "figs" / "cpu.csv"
    common = ["--device", "cpu", "--size", "smallest", "--out", str(out), "--runs", str(tmp_path / "runs")]
    words = [*common, "--tasks", "humaneval", "--model", model]
    assert gpu.main(words) == 0
    (first,) = gpu.read(out)
    assert tuple(first) == gpu.COLUMNS and (first["task"], first["dtype"], first["status"]) == (
        "humaneval",
        "float32",
        "done",
    )
    assert first["device"] == gpu_tasks.device_name("cpu") and first["torch"] == torch.__version__
    assert float(first["seconds"]) > 0 and first["commit"] and first["date"]
    gpu.write(out, [first | {"device": "another"}, first])
    capsys.readouterr()
    assert gpu.main(words) == 0
    assert capsys.readouterr().out.startswith("humaneval, float32: done already\n")
    assert gpu.main([*common, "--tasks", "midtraining", "--model", str(tmp_path / "nothing")]) == 1
    assert "1 tasks failed: midtraining" in capsys.readouterr().err
    *before, failed = gpu.read(out)
    assert before == [first | {"device": "another"}, first] and failed["status"].startswith("failed: FileNotFoundError")
