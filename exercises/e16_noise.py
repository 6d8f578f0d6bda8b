"""16. How wrong may an answer key be? (20 minutes, most of them the machine's)

"The Climb Carves Wisdom Deeper Than the Summit" (2505.22653), section 2 and Figure 3: the key inverts its verdict on a
prompt with probability p. Exercise 13 says that 1 - 2p of the mean signal is left.

First write down what you expect: the accuracy on training problems at the end (the mean of the last five steps), for
each p. It begins at about .4. There is no wrong prediction, only none. Then run (each takes a few minutes):

    python train.py --recipe toy-flip-0 --eval-samples 0
    python train.py --recipe toy-flip-40 --eval-samples 0
    python train.py --recipe toy-flip-50 --eval-samples 0

`python -m exercises 16` shows your prediction beside what happened. Then explain: at p = .5 the mean signal is 0; why
does the accuracy not simply stay where it was?"""

PREDICTION = {"0": None, "0.4": None, "0.5": None}  # accuracy at the end, 0 .. 1
