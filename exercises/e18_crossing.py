"""18. Where do the curves cross? * (15 minutes, most of them the machine's)

"Does Reinforcement Learning Really Incentivize Reasoning Capacity in LLMs Beyond the Base Model?" (2504.13837),
Figure 2: the trained model is ahead at k = 1, and the base model at large k.

First write down what you expect in the search world: pass@1 and pass@256 of both models, and the k from which the
base is ahead (found between the k measured, so 11.3 may come out). A blind search has .035 and .968.

    python train.py --recipe toy-search-correct --eval-samples 256

`python -m exercises 18` shows your prediction beside what happened. Open report.html in the run folder: which puzzles
can only the base solve? Would a higher temperature give them back?"""

PREDICTION = {
    "base pass@1": None,
    "base pass@256": None,
    "trained pass@1": None,
    "trained pass@256": None,
    "the base is ahead from k =": None,
}
