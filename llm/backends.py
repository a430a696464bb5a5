"""Engines beside the one in process. Their packages are imported when an engine is made, not before."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm.engine import InProcess, Sample, check_requests
from llm.models import save

_SEEDS = 2**63


class VLLM:
    """`llm.engine.Engine` on vLLM. It has no session: rollouts on it are `llm.remote.SampledRollouts`.

    It was written against the source of vLLM 0.33 and has **not been run** by this project's tests where vLLM is not
    installed; `tests/test_llm_backends.py` runs on it where it is, and is the first thing to do there. What is drawn
    depends on the seed alone as far as its kernels give the same numbers in any batch (``VLLM_BATCH_INVARIANT=1``).

    Args:
        model: transformers model to begin with.
        options: of ``vllm.LLM``, such as ``tensor_parallel_size`` or ``gpu_memory_utilization``. Weights are float32,
            because bfloat16 blurs scores of lines by more than a thought costs.

    Raises:
        ImportError: vLLM is not installed.
    """

    def __init__(self, model: Any, version: int = 0, **options: Any) -> None:
        try:
            import vllm
        except ImportError as error:
            raise ImportError(
                f"vllm: can't be imported ({error}); install it with `pip install vllm` on a machine it supports, or "
                "use llm.engine.InProcess, which needs nothing more"
            ) from error
        self._vllm, self.version = vllm, version
        with tempfile.TemporaryDirectory() as folder:
            # Log-probabilities after the temperature are those of what is drawn from. Ids only, so no tokenizer.
            fixed = {"skip_tokenizer_init": True, "logprobs_mode": "processed_logprobs", "dtype": "float32"}
            self._llm = vllm.LLM(model=str(save(Path(folder) / "model", model)), **fixed, **options)

    def sync(self, model: Any, version: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = str(save(Path(folder) / "model", model))
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": path})
        # Keys and values of the old weights.
        if not self._llm.reset_prefix_cache():
            raise RuntimeError(f"version: vLLM kept its cache of version {self.version}; finish its requests first")
        self.version = version

    def sample(
        self, prefixes: Sequence[Sequence[int]], *, stop: np.ndarray, max_new_tokens: int, seeds: Sequence[int],
        temperature: float = 1.0,
    ) -> list[Sample]:  # fmt: skip
        check_requests(prefixes, seeds, max_new_tokens, temperature)
        ends = np.flatnonzero(stop).tolist()
        parameters = [
            self._vllm.SamplingParams(
                temperature=temperature, seed=_number(seed), max_tokens=max_new_tokens, stop_token_ids=ends,
                ignore_eos=True, logprobs=0, detokenize=False,
            )
            for seed in seeds
        ]  # fmt: skip
        found = []
        for request in self._generate(prefixes, parameters):
            output = request.outputs[0]
            ids = [int(token) for token in output.token_ids]
            values = [float(at[token].logprob) for token, at in zip(ids, output.logprobs, strict=True)]
            if temperature == 0:
                values = [0.0] * len(ids)
            stopped = bool(ids) and bool(stop[ids[-1]])
            last = values.pop() if stopped else None
            found.append(Sample(tuple(ids[: len(values)]), tuple(values), last))
        return found

    def score(self, prefixes: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]) -> list[np.ndarray]:
        check_requests(prefixes, continuations)
        rows = [[*prefix, *continuation] for prefix, continuation in zip(prefixes, continuations, strict=True)]
        # vLLM draws one token at least.
        asked = self._vllm.SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        found = []
        for row, prefix, request in zip(rows, prefixes, self._generate(rows, [asked] * len(rows)), strict=True):
            pairs = list(zip(row, request.prompt_logprobs, strict=True))[len(prefix) :]
            found.append(np.array([at[int(token)].logprob for token, at in pairs], np.float32))
        return found

    def _generate(self, rows: Sequence[Sequence[int]], parameters: list[Any]) -> list[Any]:
        prompts = [{"prompt_token_ids": [int(token) for token in row]} for row in rows]
        return self._llm.generate(prompts, parameters, use_tqdm=False)


def _number(seed: Any) -> int:
    """A seed as vLLM takes it."""
    if isinstance(seed, np.random.SeedSequence):
        return int(seed.generate_state(1, np.uint64)[0]) % _SEEDS
    return int(seed) % _SEEDS


BACKENDS: dict[str, Any] = {"in process": InProcess, "vllm": VLLM}
