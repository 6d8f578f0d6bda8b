"""words.py: what do the words on the page mean? Each table of report.py names those that it uses."""

WORDS = {
    "pass@k": "The probability that at least one of k tries solves a problem, averaged over the problems. It is "
    "estimated from all samples of a problem, whatever their order.",
    "base, trained": "The base is the model named first. The others are compared with it, and are called trained.",
    "valid chain": "A right answer that was worked out: the response writes all steps of the problem, in order, and no "
    "other (with one operation it may also answer at once). A right answer without it may be a lucky guess.",
    "blind guess": "What guessing at every try would solve, each possible answer equally often. Computed, not sampled.",
    "random search": "What a random legal chain at every try would solve. Computed, not sampled.",
    "95 % interval": "Other problems of this kind would give another number. Such a range holds the one of all of them "
    "in about 95 of 100 studies. If the range of a difference holds 0, chance may explain the difference.",
    "overtakes": "The k from which one model stays ahead of the other. It may lie between two that were measured.",
    "lost, gained": "Problems solved at least once: lost by the base alone, gained by the trained model alone.",
    "coverage": "The problems solved in at least one of all tries. What is solved once in many tries is luck, and may "
    "be on the other side the next time.",
    "sampling-efficiency gap": "What the base solves in many tries minus what the trained model solves in one, in "
    "points. At 0, one try of the trained model is worth many of the base.",
    "majority vote": "Of k samples, the most frequent answer is taken. It needs nobody who knows the right one.",
    "perplexity": "How surprised a model is by a response, per token: 1 if it was sure of every token, 2 if each was "
    "like a coin. It is exp of the mean negative log-probability.",
    "A under B": "The responses that A wrote, and how likely B finds them.",
    "word for word": "The probability that a model writes exactly this response: the product over all of its tokens.",
    "teacher": "Worked solutions that no model of this study wrote.",
    "entropy": "How open the next token is, in nats: 0 if one is certain, 0.69 if two are equally likely.",
    "temperature": "How boldly tokens are sampled: 1 is as the model says, below 1 favours likely tokens, 0 takes the "
    "likeliest.",
    "answered": "The share of the samples that hold an answer, right or wrong.",
    "truncated": "The share of the samples that were cut off at the limit of tokens.",
    "template": "The text around a problem that makes it a prompt.",
    "reward": "What training makes larger: one number for each response. It need not be the same as being right.",
    "loss": "What training makes smaller: here the negative log-probability of given responses, nats per token.",
    "self-certainty": "How far the model's guess at the next token is from no idea at all, in nats: KL(uniform, "
    "model). Large where it is sure.",
    "log-probability": "Of the token that was sampled, in nats: 0 where it was certain, -0.69 if it was like a coin.",
}
