"""17. Hack a reward, and mend it * (20 minutes, most of them the machine's)

Self-certainty (Intuitor, 2505.19590) stands in for being right. What happens if it is pushed?

First write down what you expect at the end of 60 steps, without a KL penalty and with a strong one and half the
learning rate: the accuracy on training problems (mean of the last five steps; it begins at about .4), and whether the
reward rises.

    python train.py --recipe toy-self-certainty-hacked --eval-samples 0
    python train.py --recipe toy-self-certainty --eval-samples 0

`python -m exercises 17` shows your prediction beside what happened. Read the last lines of samples.jsonl in both run
folders: what does a model say that is sure of itself and wrong? What would you have noticed first, without an answer
key?"""

PREDICTION = {  # accuracy at the end, 0 .. 1; does the reward rise? True or False
    "hacked: accuracy": None,
    "hacked: reward rises": None,
    "with the penalty: accuracy": None,
    "with the penalty: reward rises": None,
}
