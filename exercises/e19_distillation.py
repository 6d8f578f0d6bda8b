"""19. Does distillation cross the boundary? (20 minutes, most of them the machine's)

The same paper, Figure 7: reinforcement learning makes frequent what the model says by itself; a teacher
says what it would not.

First write down what you expect in the world of five numbers, with 256 tries at each of 180 new puzzles: how many
puzzles that the base never solves does each model solve (it never solves about 20), and how many does it lose?

    python train.py --model toy-search-5 --steps 60 --lr 2e-4 --kl 0 --eval-samples 0 --run runs/exercise-19-rl
    python distill.py --model toy-search-5 --teacher solver --run runs/exercise-19-distilled
    python eval.py toy-search-5 runs/exercise-19-rl runs/exercise-19-distilled --samples 256 --out runs/exercise-19

`python -m exercises 19` shows your prediction beside what happened. What would you have to change in reinforcement
learning to get the same?
"""

PREDICTION = {"RL: gained": None, "RL: lost": None, "distilled: gained": None, "distilled: lost": None}
