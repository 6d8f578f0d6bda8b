"""experiments.py: which runs show a finding of the papers, and what the papers found.

The table that study/reproduce.py works through, and docs/papers.md points into. An experiment has a name, and answers
to the figures and tables that it is about as well: `intuitor-figure-7`, `noisy-figure-3`, `limit-table-3` (of Intuitor
version 2, noisy rewards version 1, limit of RLVR version 5).

Numbers of the papers are for Qwen2.5 and other large models, on MATH-500 where nothing else is said; ≈ was read off a
figure. Ours are for models a thousandth of their size: compare directions, not values.
"""

from typing import NamedTuple

from algorithms import ALGORITHMS


class Experiment(NamedTuple):
    """What is trained, what is made of it, and what the paper found."""

    question: str
    paper: str  # what it found, in its numbers
    answers_to: tuple[str, ...]  # figures and tables
    base: str  # the model that all start from
    runs: dict[str, str]  # NAME -> the command that trains it, but for --seed and --run
    study: str = "--samples 256 --perplexity 0"  # flags of eval.py; or of `kind`'s program
    kind: str = "pass@k"  # or curves (of training: study/compare.py), certainty (study/certainty.py)
    checkpoints: tuple[int, ...] = ()  # steps at which the runs' checkpoints are studied too
    seeds: int = 3


def of_recipes(*names: str) -> dict[str, str]:
    """A run of each of the toys' recipes."""
    return {name: f"train.py --recipe {name} --eval-samples 0" for name in names}


def of_algorithms(prefix: str, flags_of_all: str, names) -> dict[str, str]:
    """A run of each algorithm."""
    return {f"{prefix}{name}": f"train.py {flags_of_all} --algorithm {name}" for name in names}


def of_values(prefix: str, command: str, values: dict) -> dict[str, str]:
    """A run for each value of a flag. values: {end of the run's name: its flags}."""
    return {f"{prefix}{end}": f"train.py {command} {flags} --eval-samples 0" for end, flags in values.items()}


def reward_models(recipe: str) -> dict[str, str]:
    """A run with each of the chain world's reward models, which rank 65, 75 and 85 % of pairs rightly."""
    return of_values(f"{recipe}-", f"--recipe {recipe}", {f"{p}": f"--reward-model toy-0.{p}" for p in (65, 75, 85)})


PLAIN = "--lr 2e-4 --eval-samples 0"  # what the search worlds' runs share
SEARCH = f"--model toy-search --steps 60 {PLAIN}"
# All alike but for what a rollout is compared with, and for what dapo samples again. Here gspo is grpo.
SHARED = "--kl 0 --loss-average token --clip 0.2 --clip-high 0.2 --overlong 0"
CERTAINTY = "--reward self_certainty --lr 3e-4"  # twice the rate of the recipe: differences come sooner
SEARCHED = of_recipes("toy-search-correct")
LONG = {"search-long": f"train.py --model toy-search --steps 200 {PLAIN} --kl 0 --eval-every 20 --keep-checkpoints"}

EXPERIMENTS = {
    # --- Intuitor
    "rewards": Experiment(
        "what does each reward teach, in the chain world?",
        "3B: base .544, answer key .636, vote .636, self-certainty .612. 7B: at best, with the key .759, with phrases "
        "alone .702. A coin and low entropy ruin the models.",
        ("intuitor-table-1", "intuitor-figure-12", "intuitor-v3-figure-13", "intuitor-v3-figure-14", "noisy-figure-1"),
        "toy",
        of_recipes(*(f"toy-{name}" for name in ["correct", "plurality", "rpr", "self-certainty", "rpr-hacked"]))
        | of_recipes("toy-self-certainty-hacked", "toy-random")
        | of_values("toy-", "", {name: f"--reward {name}" for name in ("entropy", "likelihood")}),
        "--panel 'an answer key, a vote, a coin' toy-correct toy-plurality toy-random "
        "--panel 'careful: half the rate, KL 0.5' toy-rpr toy-self-certainty "
        "--panel 'pushed hard: accuracy and reward' toy-rpr-hacked toy-self-certainty-hacked "
        "--panel 'low entropy, likely tokens: accuracy and reward' toy-entropy toy-likelihood",
        "curves",
    ),
    "controls": Experiment(
        "how much of the difference between rewards is one of settings?",
        "as `rewards`: Intuitor trains all of its rewards with the same settings.",
        (),
        "toy",
        of_recipes("toy-rpr", "toy-self-certainty", "toy-correct", "toy-plurality")
        | of_values("toy-careful-", "--lr 1.5e-4 --kl 0.5", {
            name: f"--reward {name}" for name in ("correct", "plurality")
        })
        | of_values("toy-certainty-kl-", CERTAINTY, {"0.005": "--kl 0.005"})
        | of_values("toy-eager-", "--recipe toy-rpr --lr 3e-4", {"rpr": "--kl 0.005"}),
        "--panel 'all alike: rate 1.5e-4, KL 0.5' toy-careful-correct toy-careful-plurality toy-rpr toy-self-certainty "
        "--panel 'all alike: rate 3e-4, KL 0.005' toy-correct toy-plurality toy-eager-rpr toy-certainty-kl-0.005",
        "curves",
        seeds=2,
    ),
    "search-rewards": Experiment(
        "and in the search world, where one try in eight is right?",
        "as `rewards`, `flips`.",
        (),
        "toy-search",
        of_recipes(*(f"toy-search-{name}" for name in ["correct", "flip-0", "flip-40", "flip-50", "random"]))
        | of_recipes("toy-search-plurality", "toy-search-self-certainty"),
        "--panel 'an answer key, and noise' toy-search-correct toy-search-flip-0 toy-search-flip-40 toy-search-flip-50 "
        "--panel 'no labels, and a coin' toy-search-plurality toy-search-self-certainty toy-search-random",
        "curves",
        seeds=1,
    ),
    "smollm2": Experiment(
        "and a real language model, of 135 M parameters? Twenty minutes a run",
        "as `rewards`.",
        ("noisy-figure-15",),
        "smollm2-warm",
        of_recipes(*(f"smollm2-{name}" for name in ["correct", "flip-40", "plurality", "rpr", "self-certainty"]))
        | of_values("smollm2-", "--recipe smollm2-self-certainty", {"format": "--reward format"}),
        "--panel 'an answer key, without and with noise' smollm2-correct smollm2-flip-40 "
        "--panel 'no labels' smollm2-self-certainty smollm2-plurality smollm2-rpr smollm2-format "
        "--panel 'self-certainty: accuracy, reward' smollm2-self-certainty",
        "curves",
        seeds=2,
    ),
    "weaker-base": Experiment(
        "and from a base model with half of the pretraining?",
        "Llama-3.2-3B-Base stays near 0 with self-certainty (version 3, appendix B.10).",
        ("intuitor-v3-appendix-b10",),
        "toy-weak",
        {
            f"toy-weak-{name}": f"train.py --recipe toy-{name} --model toy-weak --eval-samples 0"
            for name in ("correct", "plurality", "rpr", "self-certainty")
        },
        "--panel 'a weaker base model' toy-weak-correct toy-weak-plurality toy-weak-rpr toy-weak-self-certainty",
        "curves",
        seeds=2,
    ),
    "lengths": Experiment(
        "how long do the completions get?",
        "3B: longer, from 600 tokens to 850 at most (≈), most with self-certainty, least with the vote. 1.5B: shorter.",
        ("intuitor-figure-3",),
        "toy",
        of_recipes("toy-correct", "toy-plurality", "toy-self-certainty", "toy-self-certainty-hacked"),
        "--of tokens --panel 'tokens of a completion' toy-correct toy-plurality toy-self-certainty "
        "toy-self-certainty-hacked",
        "curves",
    ),
    "annotators": Experiment(
        "whose certainty: the policy's own (online) or the starting model's (offline)?",
        "offline is hacked near step 100: completions get long and the accuracy falls. Online is stable to step 150.",
        ("intuitor-figure-7",),
        "toy",
        of_values("toy-certainty-", f"{CERTAINTY} --steps 120 --kl 0.05", {
            "online": "--annotator online", "offline": "--annotator offline",
        }),
        "--panel 'certainty: accuracy and reward' toy-certainty-online toy-certainty-offline",
        "curves",
        seeds=2,
    ),  # fmt: skip
    "certainty": Experiment(
        "is certainty higher on right answers, and does the most certain of n answers win?",
        "Mann-Whitney r: base .00 (p = .52), after GRPO .35, after Intuitor .45; the base's responses, graded by the "
        "Intuitor model, .27.",
        ("intuitor-figure-8",),
        "toy",
        of_recipes("toy-correct", "toy-self-certainty", "toy-self-certainty-hacked"),
        "--samples 32",
        "certainty",
        seeds=2,
    ),
    "certainty-kl": Experiment(
        "the weight of the KL penalty under self-certainty",
        "3B, KL weight 0, .0001, .005, .01: .598, .616, .612, .618; LiveCodeBench .081, .090, .153, .130.",
        ("intuitor-table-3",),
        "toy",
        of_values("toy-certainty-kl-", CERTAINTY, {kl: f"--kl {kl}" for kl in ("0", "0.005", "0.05", "0.5")}),
        "--panel 'self-certainty: accuracy and reward' toy-certainty-kl-0 toy-certainty-kl-0.005 "
        "toy-certainty-kl-0.05 toy-certainty-kl-0.5",
        "curves",
        seeds=2,
    ),
    "group-size": Experiment(
        "rollouts per prompt under self-certainty, 256 rollouts in all",
        "14 rollouts are better than 7 (version 3; its values are not known to us).",
        ("intuitor-v3-table-7",),
        "toy",
        of_values("toy-certainty-rollouts-", "--recipe toy-self-certainty", {
            f"{G}": f"--rollouts-per-prompt {G} --prompts-per-step {256 // G}" for G in (4, 8, 16, 32)
        }),
        "--panel 'rollouts per prompt' toy-certainty-rollouts-4 toy-certainty-rollouts-8 toy-certainty-rollouts-16 "
        "toy-certainty-rollouts-32",
        "curves",
        seeds=2,
    ),  # fmt: skip
    # --- noisy rewards
    "flips": Experiment(
        "how many inverted verdicts does learning survive? 128 prompts of 4 rollouts",
        "up to 40 % nearly nothing is lost (.759 and .720 at best); 50 % collapses.",
        ("noisy-figure-3",),
        "toy",
        of_recipes("toy-flip-0")
        | of_values("toy-flip-", "--recipe toy-flip-0", {f"{p}": f"--flip {p / 100}" for p in (10, 20, 30)})
        | of_recipes("toy-flip-40", "toy-flip-50"),
        "--panel 'verdicts inverted, in %' toy-flip-0 toy-flip-10 toy-flip-20 "
        "--panel 'verdicts inverted, in %' toy-flip-30 toy-flip-40 toy-flip-50",
        "curves",
        seeds=2,
    ),
    "reward-models": Experiment(
        "how good must a reward model be, and does calibration by phrases mend it?",
        "net wins in points: 85 % over 75 % 4, 85 % over 65 % 25; calibrated over original 23 (85 %) and 30 (65 %).",
        ("noisy-figure-5", "noisy-figure-7", "noisy-figure-8", "noisy-figure-12"),
        "toy",
        reward_models("toy-reward-model") | reward_models("toy-calibrate"),
        "--panel 'reward models' toy-reward-model-65 toy-reward-model-75 toy-reward-model-85 "
        "--panel 'the same, calibrated' toy-calibrate-65 toy-calibrate-75 toy-calibrate-85",
        "curves",
        seeds=2,
    ),
    "calibration-weight": Experiment(
        "how much of the phrases should calibration add? The 65 % model",
        "85 % model: a weight of 1 is as without, 0.1 makes responses longer and is chosen.",
        ("noisy-figure-18", "noisy-appendix-e"),
        "toy",
        of_values("toy-calibrate-weight-", "--recipe toy-calibrate --reward-model toy-0.65", {
            f"{weight}": f"--calibrate-weight {weight}" for weight in (0.0, 0.1, 0.2, 1.0)
        }),
        "--panel 'weight of the calibration' toy-calibrate-weight-0.0 toy-calibrate-weight-0.1 "
        "toy-calibrate-weight-0.2 toy-calibrate-weight-1.0",
        "curves",
        seeds=1,
    ),  # fmt: skip
    # --- limit of RLVR
    "pass-at-k": Experiment(
        "does training lose at many tries what it gains at one? And at equal entropy? With coverage and perplexity",
        "7B, from k = 1 to 128: base .61 to .96, trained .78 to .93 (≈); they cross at 8 to 16. Of 272 problems of "
        "Minerva never solved 93 before and 113 after (≈). Equal entropy helps a little; the base stays ahead.",
        (*(f"limit-figure-{i}" for i in (2, 5, 6, 14, 18)), *(f"limit-table-{i}" for i in (2, 5, 6)), "entropy"),
        "toy-search",
        SEARCHED,
        "--samples 256 --match-entropy",
    ),
    "guessable": Experiment(
        "and where answers can be guessed? The chain world, with and without lucky guesses",
        "on 18 AIME24 problems that cannot be guessed the curves cross as on all 30.",
        ("limit-figure-13", "limit-appendix-c2"),
        "toy",
        of_recipes("toy-correct"),
        "--samples 256",
    ),
    "temperature": Experiment(
        "and at a lower temperature, the paper's 0.6 with top-p 0.95?",
        "from 0.6 to 1.2 the base stays ahead at large k, but for AIME24 at 1.2 (≈, version 2).",
        ("limit-figure-17",),
        "toy-search",
        SEARCHED,
        "--samples 256 --perplexity 0 --temperature 0.6 --top-p 0.95",
    ),
    "algorithms": Experiment(
        "eight algorithms, each with its paper's settings, in the search world",
        "gaps of six algorithms 41.0 to 45.3 points: hardly any difference.",
        ("limit-figure-8", "limit-table-3"),
        "toy-search",
        of_algorithms("search-", SEARCH, ALGORITHMS),
    ),
    "algorithms-shared": Experiment(
        "the same with settings shared by all: they differ in the advantages, and dapo in its sampling",
        "as `algorithms`.",
        (),
        "toy-search",
        of_algorithms("search-shared-", f"{SEARCH} {SHARED}", [name for name in ALGORITHMS if name != "gspo"]),
    ),
    "algorithms-chain": Experiment(
        "eight algorithms, each with its paper's settings, in the chain world",
        "as `algorithms`.",
        (),
        "toy",
        of_algorithms("chain-", "--model toy --eval-samples 0", ALGORITHMS),
    ),
    "distillation": Experiment(
        "reinforcement learning, a model's own right answers, and a teacher's",
        "Minerva, k = 1 and 128 (≈): base .16, .64; RL .36, .61; distilled .42, .68.",
        ("limit-figure-7",),
        "toy-search-5",
        {
            "search-5-grpo": f"train.py --model toy-search-5 --steps 60 {PLAIN} --kl 0",
            "search-5-rejection": "distill.py --teacher self --epochs 2",
            "search-5-expert": "distill.py --teacher self --epochs 2 --rounds 3",
            "search-5-taught": "distill.py --teacher toy-search-5-strong --epochs 4",
            "search-5-solver": "distill.py --teacher solver",
        },
    ),
    "distillation-4": Experiment(
        "the same with four numbers, where the base model solves everything in 256 tries",
        "as `distillation`.",
        (),
        "toy-search",
        {
            "search-kl-0": f"train.py {SEARCH} --kl 0",
            "search-expert": "distill.py --model toy-search --teacher self --epochs 2 --rounds 3",
            "search-solver": "distill.py --model toy-search --teacher solver",
        },
    ),
    "steps": Experiment(
        "pass@1 rises and pass@256 falls as training goes on",
        "GRPO to step 450, training problems: pass@1 .099 to .425, pass@256 .672 to .643.",
        ("limit-figure-1", "limit-table-4"),
        "toy-search",
        LONG,
        checkpoints=(20, 60, 120),
    ),
    "perplexity": Experiment(
        "how likely does the base find what the model says, as training goes on?",
        "the base's perplexity on the trained model's responses falls (its values are not known to us).",
        ("limit-figure-15", "limit-appendix-c4"),
        "toy-search",
        LONG,
        "--samples 32 --perplexity 32",
        checkpoints=(20, 60, 120),
        seeds=1,
    ),
    "rollouts": Experiment(
        "rollouts per prompt, with equal rollouts in all",
        "32 instead of 8: a lower pass@1 and a slightly higher pass@128.",
        ("limit-section-4.4",),
        "toy-search",
        {
            f"search-{G}-rollouts": f"train.py {SEARCH} --kl 0 --rollouts-per-prompt {G} --prompts-per-step {256 // G}"
            for G in (4, 8, 16, 32, 64)
        },
        "--samples 256 --perplexity 0 --limit 90",
        seeds=1,
    ),
    "kl": Experiment(
        "the weight of the KL penalty",
        "0.001 instead of none: a similar pass@1 and a much lower pass@128.",
        ("limit-figure-16",),
        "toy-search",
        {f"search-kl-{kl}": f"train.py {SEARCH} --kl {kl}" for kl in ("0", "0.005", "0.05", "0.5")},
        "--samples 256 --perplexity 0 --limit 90",
        seeds=1,
    ),
}  # fmt: skip
NAMES = {alias: name for name, one in EXPERIMENTS.items() for alias in (name, *one.answers_to)}
