"""rivals.py: what bench.py compares with: sampling by transformers, and GRPO steps by TRL's trainer."""

import importlib.metadata
import tempfile
import time
from collections.abc import Callable

import torch
import transformers

import verify


@torch.no_grad()
def transformers_generate(policy, prompts: list, group: int, counts: list[int], cache: str | None, device: str) -> None:
    """Sample with model.generate, set up as by a user who knows its defaults; row i gets counts[i] tokens."""
    width, limits = max(map(len, prompts)), torch.tensor(counts, device=device)
    padded = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)

    class Full(transformers.StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            return input_ids.shape[1] - width >= limits

    policy.generate(
        input_ids=padded,
        attention_mask=seen,
        num_return_sequences=group,
        do_sample=True,
        top_k=0,  # 50, if nothing is said
        max_new_tokens=max(counts),
        eos_token_id=None,  # the lengths are forced
        pad_token_id=0,
        cache_implementation=cache,
        stopping_criteria=transformers.StoppingCriteriaList([Full()]),
    )


def trl_version() -> str | None:
    """The version of TRL, or None where it is not installed."""
    try:
        return importlib.metadata.version("trl")
    except importlib.metadata.PackageNotFoundError:
        return None


def trl_steps(
    policy, tokenizer, problems, prompts, group: int, new_tokens: int, steps: int, device: str, after: Callable
) -> None:
    """Take GRPO steps of these problems (and their prompts, as tokens) by TRL's GRPOTrainer, without a KL penalty and
    with a learning rate of 0; call after(seconds) behind each."""
    import trl
    from datasets import Dataset

    def reward(completions, answer, **kwargs):
        return [float(right) for right in verify.grade(completions, answer, ["number"] * len(answer))]

    class Timed(transformers.TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            self.begin = time.perf_counter()

        def on_step_end(self, *args, **kwargs):
            after(time.perf_counter() - self.begin)

    rows = [{"prompt": tokenizer.decode(ids), "answer": p.answer} for ids, p in zip(prompts, problems, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        config = trl.GRPOConfig(
            output_dir=folder,
            use_cpu=device == "cpu",
            per_device_train_batch_size=len(prompts) * group,
            num_generations=group,
            max_completion_length=new_tokens,
            temperature=1.0,
            top_k=0,
            beta=0.0,
            learning_rate=0.0,
            lr_scheduler_type="constant",
            max_steps=steps,
            bf16=policy.dtype == torch.bfloat16,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trl.GRPOTrainer(
            model=policy,
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_list(rows * steps),
            processing_class=tokenizer,
            callbacks=[Timed()],
        ).train()
