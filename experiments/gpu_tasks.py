"""The tasks of `experiments.gpu`, each of which runs in a process of its own and prints what it found as JSON.

Packages are imported within the tasks, so that one that is missing is missed by those alone that need it.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Found = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        rows, length: of the passes that are timed; repeats: how often, after once that is not.
        decoded: tokens that are drawn one after the other, after a context of ``context``.
        iterations, programs: of the mid-training runs; steps: of RLVR; problems, tokens: of the evaluation.
        updates: of the base model of LineWorld.
    """

    rows: int
    length: int
    repeats: int
    context: int
    decoded: int
    iterations: int
    programs: int
    steps: int
    problems: int
    tokens: int
    updates: int


SIZES = {
    "full": Size(16, 512, 10, 256, 64, 4, 32, 10, 20, 256, 300),
    "small": Size(4, 128, 2, 64, 8, 2, 4, 2, 2, 32, 20),
    "smallest": Size(2, 16, 1, 8, 2, 1, 2, 1, 1, 4, 2),
}


@dataclass(frozen=True)
class Work:
    """What a task is given."""

    dtype: Literal["float32", "bfloat16"]
    device: str
    model: str
    size: Size
    folder: Path

    @property
    def source(self) -> Any:
        from llm import models

        return models.smollm2_folder() if self.model == "smollm2" else self.model

    def load(self) -> Any:
        """The model, its weights in the type of the task."""
        import torch

        from llm import models

        return models.load(self.source, dtype=getattr(torch, self.dtype), device=self.device)


def device_name(device: str) -> str:
    """Of the GPU that torch sees, or the processor.

    Raises:
        ValueError: torch sees no GPU.
    """
    import torch

    if device == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device: torch sees no GPU here; give --device cpu to do the same work on the processor")
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"


def _timed(work: Work, act: Callable[[], Any]) -> float:
    """Seconds of one call, the best of several after one that is not timed."""
    import torch

    times = []
    for _ in range(work.size.repeats + 1):
        start = time.perf_counter()
        act()
        if work.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _rate(seconds: float, tokens: int, flops: float) -> Found:
    return {
        "seconds": round(seconds, 6), "tokens": tokens, "tokens_per_second": round(tokens / seconds, 3),
        "tflops": float(f"{flops / seconds / 1e12:.4g}"),
    }  # fmt: skip


def forward(work: Work) -> Found:
    """One pass over rows, with all logits."""
    import torch

    from llm.architectures import Architecture
    from llm.cost import forward_flops

    module, size = work.load().model, work.size
    ids = torch.zeros(size.rows, size.length, dtype=torch.long, device=work.device)
    with torch.no_grad():
        seconds = _timed(work, lambda: module(input_ids=ids, use_cache=False))
    flops = forward_flops(Architecture.of(module.config), size.length, rows=size.rows)
    return _rate(seconds, ids.numel(), flops)


def update(work: Work) -> Found:
    """One update of the M-step: float32 weights, passes in the type of the task, AdamW."""
    import numpy as np
    import torch

    from llm import models
    from llm.architectures import Architecture
    from llm.cost import training_flops
    from llm.mstep import TrainConfig, Trainer
    from llm.program import CONTENT, Row

    module, size = models.load(work.source, device=work.device).model, work.size
    shape = Architecture.of(module.config)
    trainer = Trainer(
        module,
        torch.zeros(shape.vocabulary, dtype=torch.bool),
        TrainConfig(rate=1e-6, batch=size.rows, dtype=work.dtype),
    )
    n = size.length
    row = Row(
        np.arange(n) % shape.vocabulary, np.full(n, -1), np.zeros(n, bool), np.ones(n, np.float32),
        np.zeros(n, np.float32), np.zeros(n, np.int64), np.full(n, CONTENT),
    )  # fmt: skip
    seconds = _timed(work, lambda: trainer.update([row] * size.rows))
    return _rate(seconds, size.rows * n, training_flops(shape, n, False, size.rows))


def decode(work: Work) -> Found:
    """Tokens drawn one after the other in a session, as an E-step's thoughts are: seconds of one token of each row."""
    import numpy as np

    from llm.architectures import Architecture
    from llm.cost import forward_flops
    from llm.engine import Session, draw

    module, size = work.load().model, work.size
    rows = np.arange(size.rows)
    uniforms = np.random.default_rng(0).random((size.decoded, size.rows))
    seconds = []
    for _ in range(size.repeats + 1):
        session = Session(module, size.rows, size.context + size.decoded)
        session.append(rows, np.zeros((size.rows, size.context), np.int64), score=False)
        start = time.perf_counter()
        for uniform in uniforms:
            token, _ = draw(session.logits, uniform)
            session.append(rows, token.cpu().numpy()[:, None], score=False)  # waits for the device
        seconds.append((time.perf_counter() - start) / size.decoded)
    flops = forward_flops(Architecture.of(module.config), 1, rows=size.rows)
    return _rate(min(seconds[1:]), size.rows, flops)


def lineworld(work: Work) -> Found:
    """Mid-training of a tiny model on LineWorld: a base, then the posterior E-step."""
    from llm.config import MidtrainConfig
    from llm.midtrain import midtrain

    size, start = work.size, time.perf_counter()
    base = midtrain(
        MidtrainConfig(
            model="lineworld", corpus="lineworld-wrong:500", method="oracle", rate=6e-3, estep_programs=500,
            iterations=1, updates=size.updates, batch=32, dtype=work.dtype, out=work.folder / "base",
        )
    )  # fmt: skip
    out = midtrain(
        MidtrainConfig(
            model=str(base / "model"), corpus="lineworld:20", rate=2e-3, max_thought=2, iterations=size.iterations,
            estep_programs=20, updates=8, candidates=8, dtype=work.dtype, out=work.folder / "posterior",
        )
    )  # fmt: skip
    seconds, last = time.perf_counter() - start, _records(out)[-1]
    return {"seconds": round(seconds, 3), "found": f"pass {last['pass']:.3f}, thinks {last['think']:.3f}"}


def rlvr(work: Work) -> Found:
    """GRPO on a tiny model of LineWorld."""
    from llm.lineworld import LineWorldText
    from llm.models import save, tiny
    from llm.rlvr import RLVRConfig
    from llm.rlvr import rlvr as run
    from ra3sim.envs.lineworld import LineWorld

    tokenizer = LineWorldText(LineWorld.preset("text")).tokenizer
    model = save(work.folder / "model", tiny(len(tokenizer), seed=0), tokenizer)
    start = time.perf_counter()
    out = run(
        RLVRConfig(
            model=str(model), problems="lineworld:20", held_out="lineworld-held-out:8", measured=8, prompts=4, group=4,
            steps=work.size.steps, max_new_tokens=37, rate=3e-4, dtype=work.dtype, out=work.folder / "run",
        )
    )  # fmt: skip
    seconds, last = time.perf_counter() - start, _records(out)[-1]
    return {"seconds": round(seconds, 3), "found": f"reward {last['reward']:.3f}"}


def midtraining(work: Work) -> Found:
    """Mid-training of the model on the standard library, with the posterior E-step."""
    from llm.config import MidtrainConfig
    from llm.midtrain import midtrain

    size, start = work.size, time.perf_counter()
    out = midtrain(
        MidtrainConfig(
            model=work.model, corpus="package:asyncio", program_tokens=120, max_lines=12, held_out=0.3,
            iterations=size.iterations, programs=4 * size.programs, estep_programs=size.programs, updates=2,
            batch=min(size.programs, 16), candidates=4, max_thought=8, measured=2, shown=1, dtype=work.dtype,
            out=work.folder,
        )
    )  # fmt: skip
    seconds, last = time.perf_counter() - start, _records(out)[-1]
    return {
        "seconds": round(seconds, 3), "tokens_per_second": round(last["tokens_per_second"], 3),
        "found": f"held out {last['held_out_loss']:.3f} nats a token, thinks {last['think']:.3f}",
    }  # fmt: skip


def humaneval(work: Work) -> Found:
    """The first problems of HumanEval, a sample each, judged in the sandbox."""
    from llm import evaluate
    from llm.evaluate_config import EvaluateConfig
    from llm.midtrain import Silent

    config = EvaluateConfig(
        model=work.model, problems="humaneval", strip_prompt=True, limit=work.size.problems,
        max_tokens=work.size.tokens, temperature=0.0, dtype=work.dtype, out=work.folder,
    )  # fmt: skip
    start = time.perf_counter()
    with evaluate.prepared(config, lambda _: None) as run:
        found = run.go(Silent())
    seconds = time.perf_counter() - start
    passed = {way: round(one["1"]["value"], 4) for way, one in found["pass_at_k"].items()}
    return {"seconds": round(seconds, 3), "found": f"pass@1 {passed['raw']} raw, {passed['sanitised']} sanitised"}


def _records(run: Path) -> list[Found]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


# Types that a task is done in, and the task.
TASKS: dict[str, tuple[tuple[str, ...], Callable[[Work], Found]]] = {
    "forward": (("float32", "bfloat16"), forward),
    "forward+backward": (("float32", "bfloat16"), update),
    "decode": (("float32", "bfloat16"), decode),
    "lineworld": (("float32",), lineworld),
    "rlvr": (("float32",), rlvr),
    "midtraining": (("bfloat16",), midtraining),
    "humaneval": (("float32",), humaneval),
}


def _peak(device: str) -> int | str:
    """Most bytes: that torch had allocated on the GPU, or that the process held in memory."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), "")


def main(given: str) -> int:
    task, dtype, device, model, size, folder = json.loads(given)
    try:
        found = TASKS[task][1](Work(dtype, device, model, SIZES[size], Path(folder)))
    except ImportError as error:
        print(json.dumps({"status": f"skipped: needs {error.name or error}"}))
        return 0
    print(json.dumps({"status": "done", **found, "peak_bytes": _peak(device)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
