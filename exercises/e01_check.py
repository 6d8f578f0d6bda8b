"""The check of exercise 1: three problems worked by hand."""

from exercises.checking import Wrong


def check(exercise) -> None:
    """Raise Wrong with words about what is wrong."""
    for expression, expected in {
        "7+8*3-4=": [(7, "+", 8, 15), (15, "*", 3, 45), (45, "-", 4, 41)],
        "5-2=": [(5, "-", 2, 3)],
        "2*3*4+1=": [(2, "*", 3, 6), (6, "*", 4, 24), (24, "+", 1, 25)],
    }.items():
        found = exercise.worked_steps(expression)
        if found is None:
            raise Wrong(f"{expression} returns None; is a return missing?")
        if not isinstance(found, list) or not all(isinstance(step, (list, tuple)) and len(step) == 4 for step in found):
            raise Wrong(f"{expression}: return a list of (left, operator, right, result), not {found}")
        found = [tuple(step) for step in found]
        if len(found) != len(expected):
            raise Wrong(f"{expression} has {len(expected)} operators and so many steps, not {len(found)}")
        for step, wanted in zip(found, expected, strict=True):
            if step == wanted:
                continue
            if step == tuple(map(str, wanted)):
                raise Wrong(f"{expression}: {step} holds texts: make whole numbers of the digits, with int")
            if step[1:3] == wanted[1:3] and step[0] != wanted[0]:
                raise Wrong(f"{expression}: {step} should begin with {wanted[0]}, the result of the step before it")
            if step[:3] == wanted[:3]:
                raise Wrong(f"{expression}: {step[0]}{step[1]}{step[2]} is not {step[3]}")
            raise Wrong(f"{expression}: {step} should be {wanted}; from left to right, there is no precedence here")
