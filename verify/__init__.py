"""verify: is this answer right? You may skip this folder if you believe a grader.

verify.extract_answer(completion)       the text of the answer, or None
verify.is_correct(completion, answer)   is it the gold answer?
verify.grade(completions, answers, kinds)        the same for a batch
"""

from verify.grading import CHECKERS, boxed, classes, extract_answer, grade, is_correct, usable

__all__ = ["CHECKERS", "boxed", "classes", "extract_answer", "grade", "is_correct", "usable"]
