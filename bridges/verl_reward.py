"""verl_reward.py: an answer key, its noise, and RPR as a custom reward function of verl.

    PYTHONPATH=. python3 -m verl.trainer.main_ppo ... custom_reward_function.path=bridges/verl_reward.py \\
        +custom_reward_function.reward_kwargs.reward=correct +custom_reward_function.reward_kwargs.flip=0.4

**Checked against the documented signature, not run**: verl's documentation of June 2025 says that such a function has
the parameters data_source, solution_str, ground_truth and extra_info, and that the one named compute_score is taken.
reward_kwargs, and a dictionary with "score" as the result, are as in verl 0.4. (Later versions may have these settings
under `reward.`; see `reward.custom_reward_function` there.)

verl asks about one completion at a time, and tells neither its group nor its step. So plurality, which is a vote of
the group, and self-certainty, which is the policy's, cannot be had here; Intuitor's own fork of verl takes
self-certainty in the place of the advantage. And a flip falls alike in every epoch: a key with wrong answers, where
`rewards.flip` and the paper draw anew in each step.
"""

import random

import verify
from rewards import reasoning_pattern


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict | None = None,
    reward: str = "correct",
    kind: str = "math",
    flip: float = 0.0,
    seed: int = 0,
    **others,
) -> dict[str, float]:
    """{"score": what is paid, "acc": 1 if the answer is right, whatever is paid}.

    solution_str: the completion without its prompt; ground_truth: the answer; extra_info: with "index", the problem's
    number, which verl's own preprocessing writes. reward: correct or rpr. kind: of the answers, one of verify.CHECKERS.
    flip: the probability that the key errs about a problem, for all of its completions alike; one without an answer
    stays wrong, as in rewards.flip. Raises ValueError for another reward, and for flips without an index.
    """
    [right] = verify.grade([solution_str], [ground_truth], [kind])
    if reward == "rpr":  # 0 without a box, as in rewards.rpr_reward
        paid = reasoning_pattern(solution_str) if verify.boxed(solution_str) is not None else 0.0
    elif reward == "correct":
        paid = float(right)
        if flip and verify.extract_answer(solution_str, kind) is not None:
            number = (extra_info or {}).get("index")
            if number is None:
                raise ValueError("flip needs extra_info['index'], the number of the problem: its group shares a coin")
            # The workers that ask share no generator, so the coin depends on the problem alone.
            if random.Random(f"{seed}-{data_source}-{number}").random() < flip:
                paid = 1 - paid
    else:
        raise ValueError(f"no reward {reward!r} for verl; choose correct or rpr")
    return {"score": paid, "acc": float(right)}
