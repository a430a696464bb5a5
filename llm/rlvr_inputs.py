"""Model and problems of a run of RLVR, as its configuration names them, and text between the two."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers.processors import TemplateProcessing

from llm import models, problems
from llm.problems import Judge, Problem
from llm.rlvr_config import RLVRConfig
from llm.sandbox import Verdict

# Verdicts on programs of problems, in the order they come.
Verdicts = Callable[[Sequence[tuple[Problem, str]]], list[Verdict]]

_SHOWN = 3


@dataclass(frozen=True)
class Inputs:
    """What a run begins with.

    Attributes:
        model: of transformers; it is trained in place.
        tokenizer: as it came with the model.
        problems, held_out: what is trained on, and what is measured (may be empty).
        verdicts: judges programs.
        report: a line for people each on what was read.
    """

    model: Any
    tokenizer: Any
    problems: list[Problem]
    held_out: list[Problem]
    verdicts: Verdicts
    report: tuple[str, ...] = ()
    reader: Any = field(init=False, repr=False)
    """The tokenizer as prompts are read with it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", reader(self.tokenizer, self.problems))

    def ends(self) -> list[int]:
        """The tokens that end a completion: the tokenizer's, then others that the model names."""
        named = self.model.generation_config.eos_token_id
        named = [named] if isinstance(named, int) else named or []
        return list(dict.fromkeys([self.tokenizer.eos_token_id, *named]))

    def digests(self) -> dict[str, str]:
        """What tells these inputs from others: hashes of the problems and of the weights ("model")."""
        weights = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.model.state_dict().items()):
            weights.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return {
            "problems": _digest(self.problems), "held_out": _digest(self.held_out), "model": weights.hexdigest(),
        }  # fmt: skip


def load(config: RLVRConfig, judge: Judge) -> Inputs:
    """Read model and problems; problems that fail their own reference solution are left out.

    Raises:
        ValueError, FileNotFoundError: naming what can't be had, and the remedy.
    """
    report: list[str] = []
    training = _problems("problems", config.problems, None, config, judge, report)
    held_out = []
    if config.held_out is not None:
        held_out = _problems("held_out", config.held_out, config.measured, config, judge, report)
    folder = model_folder(config.model)
    if config.kl and str(folder).endswith(".gguf"):
        raise ValueError(
            "kl: needs the first model a second time, which TRL can't read from a .gguf file; give a folder"
        )
    loaded = models.load(folder)
    if loaded.tokenizer is None:
        raise ValueError(f"model: {config.model} holds no tokenizer; save one with it")
    inputs = Inputs(loaded.model, loaded.tokenizer, training, held_out, judge.verdicts, tuple(report))
    check_lengths(config, inputs)
    return inputs


def model_folder(name: str) -> Any:
    """Where the model is: of a run of `ra3 midtrain` or `ra3 rlvr`, the model in its folder.

    Raises:
        ValueError: that run is not finished.
    """
    if name == "smollm2":
        return models.smollm2_folder()
    folder = Path(name)
    if (folder / "config.json").is_file() and (folder / "versions.json").is_file():
        if not (folder / "model").is_dir():
            raise ValueError(f"model: the run in {name} has no model yet; finish it with the command that began it")
        return folder / "model"
    return name


def _problems(
    option: str, name: str, limit: int | None, config: RLVRConfig, judge: Judge, report: list[str]
) -> list[Problem]:
    try:
        found, malformed = problems.load(name, limit=limit, seed=config.seed)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(str(error).replace("problems:", f"{option}:", 1)) from None
    ready = judge.prepare(found)
    for what, left_out in (("malformed", malformed), ("broken", ready.broken)):
        report.extend(f"{option}: left out, {what}: {one}" for one in left_out[:_SHOWN])
        if len(left_out) > _SHOWN:
            report.append(f"{option}: {len(left_out) - _SHOWN} more are left out, {what}")
    if not ready.problems:
        raise ValueError(f"{option}: {name} has no problem that can be used; see what was left out, or give another")
    report.append(f"{option}: {len(ready.problems)} of {name}")
    return ready.problems


def reader(tokenizer: Any, asked: Sequence[Problem]) -> Any:
    """A copy that reads prompts as the model knows them, pads on the left, and has a token to pad with.

    Padding is masked by its place, never by its id, so that the end of a text may serve and is learnt all the same.

    Raises:
        ValueError: there is no token for the end of a text.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("model: its tokenizer has no token for the end of a text (eos_token); set one and save it")
    found = copy.deepcopy(tokenizer)
    found.padding_side = "left"
    if found.pad_token_id is None:
        found.pad_token = found.eos_token
    if asked and asked[0].benchmark.startswith("lineworld"):
        # As `llm.lineworld`: the mark of the beginning, then the prompt; its tokenizer adds no marks by itself.
        begin = found.bos_token
        found.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, found.bos_token_id)]
        )
    return found


def written(tokenizer: Any, ids: Sequence[int], ends: Sequence[int]) -> str:
    """The text of a completion. Marks within it stay to be seen: whoever writes one did not write a program."""
    ids = ids[:-1] if len(ids) and ids[-1] in ends else ids
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def check_lengths(config: RLVRConfig, inputs: Inputs) -> None:
    """Refuse what this model can't read.

    Raises:
        ValueError: a prompt, with the longest completion, that the model has no positions or tokens for.
    """
    most = getattr(inputs.model.config, "max_position_embeddings", None) or 2**31
    size = inputs.model.config.vocab_size
    unknown = {inputs.reader.unk_token_id} - {inputs.reader.bos_token_id, inputs.reader.eos_token_id}
    for option, some in (("problems", inputs.problems), ("held_out", inputs.held_out)):
        for problem in some:
            ids = inputs.reader(problem.prompt)["input_ids"]
            if not ids or max(ids) >= size or unknown & set(ids):
                raise ValueError(
                    f"{option}: the model can't read the prompt of {problem.name}; give one that was trained on such"
                )
            if len(ids) + config.max_new_tokens > most:
                raise ValueError(
                    f"max_new_tokens: the prompt of {problem.name} has {len(ids)} tokens, the model reads {most}; "
                    f"give at most {most - len(ids)}, or other problems"
                )


def _digest(some: Sequence[Problem]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for problem in some:
        found.update(problem.digest().encode())
    return found.hexdigest()
