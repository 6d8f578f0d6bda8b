"""verify: is this answer right? You may skip this folder if you trust a grader.

extract_answer(completion, kind, gold)            the text of the answer, or None; the gold helps to find a program
is_correct(completion, answer, kind)              is it the gold answer?
grade(completions, answers, kinds)                the same for a batch
classes(answers, kind)                            which answers say the same? (for a vote)
boxed(text)                                       what stands in the last \\boxed{}
usable(gold, kind)                                could any answer meet this gold?

Workers and sandboxes start often, so nothing here imports torch.
"""

from verify.grading import CHECKERS, boxed, classes, extract_answer, grade, is_correct, usable

__all__ = ["CHECKERS", "boxed", "classes", "extract_answer", "grade", "is_correct", "usable"]
