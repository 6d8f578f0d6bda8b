"""reward_models.py: models with a scalar head, and the scores that they give."""

import torch
import transformers

from running import toy_reward_model
from running.files import BadInput
from running.models import from_saved


def load_reward_model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32):
    """(model, tokenizer) of a reward model: a folder, a hub id or `toy-0.75`. Raises BadInput.

    The model is any AutoModelForSequenceClassification with one output, in eval mode.
    """
    flag = f"--reward-model {name}"
    if name.startswith("toy-"):
        try:
            name = str(toy_reward_model.reward_model(float(name.removeprefix("toy-"))))
        except ValueError as error:
            raise BadInput(f"{flag}: {error}; give toy-0.75, say") from None
    kind = transformers.AutoModelForSequenceClassification
    model, tokenizer = from_saved(kind, name, "--reward-model", dtype)
    if model.config.num_labels != 1:
        raise BadInput(f"{flag}: has {model.config.num_labels} outputs; a reward model has one")
    return model.to(device), tokenizer


@torch.no_grad()
def reward_model_scores(
    model, tokenizer, prompts: list[str | list[dict]], completions: list[str], tokens: int = 8192
) -> torch.Tensor:
    """The scores that a model with a scalar head gives to the completions of prompts, [N] float32.

    Both are texts: a reward model has a tokenizer of its own. With a chat template they are a user's and an assistant's
    turn, else one text; a prompt may also be the messages of a chat. The score is the raw output if the model was
    trained on squared errors (config.problem_type "regression", as the paper's), else its sigmoid, as pairwise losses
    mean it. tokens: in one pass, with padding.
    """
    chat = bool(getattr(tokenizer, "chat_template", None))
    if chat:
        turns = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
        answers = [{"role": "assistant", "content": completion} for completion in completions]
        texts = [tokenizer.apply_chat_template([*t, a], tokenize=False) for t, a in zip(turns, answers, strict=True)]
    else:
        asked = [p if isinstance(p, str) else "\n\n".join(message["content"] for message in p) for p in prompts]
        texts = [prompt + completion for prompt, completion in zip(asked, completions, strict=True)]
    longest = getattr(model.config, "max_position_embeddings", 10**9)  # of a longer text the end is scored
    ids = [row[-longest:] for row in tokenizer(texts, add_special_tokens=not chat)["input_ids"]]
    scores = torch.zeros(len(ids))
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # rows of like length together: little padding
    while order:
        # The longest rows left: as many as fit `tokens` with their padding, and at least one.
        width = max(1, len(ids[order[-1]]))
        number = max(1, tokens // width)
        order, chosen = order[:-number], order[-number:]
        # The score is read at the last token that is not padding; so padding must be no row's last token.
        pad = next(token for token in range(len(chosen) + 1) if all(ids[i][-1:] != [token] for i in chosen))
        model.config.pad_token_id = pad
        token_ids = torch.tensor([ids[i] + [pad] * (width - len(ids[i])) for i in chosen], device=model.device)
        seen = torch.tensor([[1] * len(ids[i]) + [0] * (width - len(ids[i])) for i in chosen], device=model.device)
        scores[chosen] = model(input_ids=token_ids, attention_mask=seen).logits[:, 0].float().cpu()
    return scores if model.config.problem_type == "regression" else scores.sigmoid()
