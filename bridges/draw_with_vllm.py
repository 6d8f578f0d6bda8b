"""draw_with_vllm.py: draw the samples of a study with vLLM, for eval.py --samples-file. **Not run: it needs a GPU.**

    python -m bridges.draw_with_vllm Qwen/Qwen2.5-7B math500 qwen-boxed 128 samples-base.jsonl
    python eval.py Qwen/Qwen2.5-7B --data math500 --recipe limit-of-rlvr --samples-file samples-base.jsonl

The arguments: MODEL DATA TEMPLATE N FILE. Sampling is the third paper's: temperature 0.6, top-p 0.95, 16,384 tokens.
Written after vLLM's documentation of LLM.generate and SamplingParams, by which `logprobs` are those of temperature 1;
`pip install vllm` in an environment of its own, with this folder's requirements besides.
"""

import json
import sys

from data import encode_prompts, load_problems

if __name__ == "__main__":
    from vllm import LLM, SamplingParams

    model, name, template, number, file = sys.argv[1:]
    llm = LLM(model, seed=0)
    prompts = encode_prompts(load_problems(name, "test"), llm.get_tokenizer(), template, room=10**6)
    # top_k: a model may bring one of its own. No seed here: each prompt would get the same random numbers.
    sampling = SamplingParams(n=int(number), temperature=0.6, top_p=0.95, top_k=-1, max_tokens=16_384, logprobs=0)
    with open(file, "w", encoding="utf-8") as lines:
        for i, found in enumerate(llm.generate([{"prompt_token_ids": ids} for ids in prompts], sampling)):
            for j, one in enumerate(found.outputs):
                row = {"model": model, "problem": i, "sample": j, "text": one.text, "tokens": list(one.token_ids)}
                row["logprobs"] = [at[token].logprob for at, token in zip(one.logprobs, one.token_ids, strict=True)]
                lines.write(json.dumps({**row, "truncated": one.finish_reason == "length"}) + "\n")
