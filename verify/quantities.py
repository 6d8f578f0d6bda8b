"""quantities.py: which number does a text write down, and in which unit?

Numbers are read exactly, and no expression is worked out. A unit is known by its name (UNITS), or it is what was
counted (18 eggs). Anything else behind a number, such as "fifths", "or 7" or "squared", may change it.
"""

import re
import unicodedata
from fractions import Fraction

LONGEST_ANSWER = 1000  # characters. The longest gold of MATH and GSM8K has 160; a longer text is no answer.


# --- how people write numbers -----------------------------------------------------------------------------------------

# Symbols that people and models write, and what LaTeX writes for them; a command needs the space behind it.
COMMANDS = "∞ \\infty|π \\pi|∅ \\emptyset|· \\cdot|⋅ \\cdot|∙ \\cdot|× \\times|÷ \\div|≤ \\le|≥ \\ge|∪ \\cup|"
COMMANDS += "α \\alpha|β \\beta|γ \\gamma|δ \\delta|θ \\theta|λ \\lambda|μ \\mu|φ \\phi|ω \\omega"
SYMBOLS = str.maketrans(
    {
        **{command[0]: f"{command[2:]} " for command in COMMANDS.split("|")},
        **dict.fromkeys("°º", "^\\circ "),  # the degree sign, and the ordinal that is typed for it
        **dict.fromkeys("\u2212\u2013", "-"),  # the minus sign, and the dash that is typed for it
        **dict.fromkeys("\u2044\u2215", "/"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),  # no width: 1\u200b2 is seen, and meant, as 12
    }
)
RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻"
LOWERED = "₀₁₂₃₄₅₆₇₈₉"
VULGAR = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"


def plain(answer: str) -> str:
    """An answer in ASCII and LaTeX, without punctuation at its end."""
    text = answer.strip("\u200e\u200f\u061c")  # marks of direction say nothing at the ends
    text = re.sub("√\\s*(\\w+|\\([^()]*\\))", r"\\sqrt{\1}", text)
    # NFKC mends full-width digits. It comes last, because it would turn what is raised or lowered into plain digits.
    text = re.sub(f"[{RAISED}]+", lambda m: f"^{{{''.join('0123456789+-'[RAISED.index(c)] for c in m[0])}}}", text)
    text = re.sub(f"[{LOWERED}]+", lambda m: f"_{{{''.join(str(LOWERED.index(c)) for c in m[0])}}}", text)
    text = re.sub(f"[{VULGAR}]", fraction_sign, text)
    return re.sub(r"(?:\s|[.,;]|\\\\)+$", "", unicodedata.normalize("NFKC", text.translate(SYMBOLS)))


def fraction_sign(match: re.Match) -> str:
    """LaTeX for ½: `\\frac12 `."""
    top, _, bottom = unicodedata.normalize("NFKC", match[0]).partition("\u2044")
    return f"\\frac{top}{bottom} " if len(bottom) == 1 else f"\\frac{{{top}}}{{{bottom}}}"


THOUSANDS = r"\d{1,3}(?:,\d{3})+(?![\d,])|\d{1,3}(?: \d{3})+(?! ?\d)"  # 1,234 and 1 234
NUMBER = re.compile(
    r"(?P<sign>[-+]?)\s*(?:"
    # \frac{3}{4}, \frac34, \frac 3 4, and behind a whole number 1\frac34
    r"(?P<mixed>\d*)\s*\\[dtc]?frac\s*(?:\{\s*(?P<t1>\d+)\s*\}|(?P<t2>\d))\s*(?:\{\s*(?P<b1>\d+)\s*\}|(?P<b2>\d))"
    r"|(?:(?P<whole>\d+)\s+)?(?P<t3>\d+)/(?P<b3>\d+)"  # 3/4, 1 3/4
    r"|(?P<before>\d*)\.(?P<behind>\d*)\\(?:overline|bar|dot)\s*(?:\{(?P<p1>\d+)\}|(?P<p2>\d))"  # 0.1\overline{6}
    rf"|(?P<plain>{THOUSANDS}|\d+)?(?P<decimals>\.\d+)?)"
)
STYLE = r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf)|mbox|operatorname)(?![a-z])"
SPACE = r"(?:\s|~|\\[,;:! ])"
PERCENT = re.compile(rf"{SPACE}*(?:\\?%|\\text\{{\s*percent\s*\}}|percent)")
ORDINAL = r"\^\s*\{?\s*\\(?:text|mathrm|textrm)\s*\{(?:st|nd|rd|th)\}\s*\}?"  # the "th" of 12^{\text{th}}
DOLLAR = re.compile(rf"^(?:\\text\{{\s*\\\$\s*\}}|\\\$)|(?:\\text\{{\s*\\\$\s*\}}|\\\$){SPACE}*$")
LONGEST_NUMBER = 100  # characters: nobody means it, and exact arithmetic on long numbers is slow


def leading(text: str) -> tuple[Fraction | None, str]:
    """(the number that a text begins with, the rest): (3/2, " cm") of "1 1/2 cm". (None, text) if there is none."""
    match = NUMBER.match(text)
    if len(match[0]) > LONGEST_NUMBER or not any(char.isdecimal() for char in match[0]):
        return None, text
    part = match.groupdict()
    if bottom := part["b1"] or part["b2"] or part["b3"]:
        top, whole = part["t1"] or part["t2"] or part["t3"], part["mixed"] or part["whole"]
        if int(bottom) == 0 or (whole and int(top) >= int(bottom)):  # 1 3/2 is no mixed number
            return None, text
        value = int(whole or 0) + Fraction(int(top), int(bottom))
    elif period := part["p1"] or part["p2"]:
        before, behind = part["before"] or "0", part["behind"]
        value = Fraction(int(before + behind)) + Fraction(int(period), 10 ** len(period) - 1)
        value /= 10 ** len(behind)
    else:
        value = Fraction(re.sub("[, ]", "", part["plain"] or "0") + (part["decimals"] or ""))
    return (-value if part["sign"] == "-" else value), text[match.end() :]


def bare(answer: str) -> str:
    """An answer without what says nothing about its value: the $ of LaTeX, small spaces, {,} for a comma."""
    text = plain(answer.strip("* \n\t")).replace("{,}", ",").strip()
    if (whole := re.fullmatch(rf"{STYLE}\s*\{{([^{{}}]*)\}}", text)) is not None:  # \text{18 dollars}
        text = whole[1].strip()
    if text.startswith("$"):  # $5$, or a dollar sign
        text = text.strip("$ ") if text.endswith("$") else f"\\{text}"
    # 32,\!348 and 1\,234
    return re.sub(r"\\!\s*|(?<=\d)\\[,;: ]\s*(?=\d{3}(?!\d))", "", text)


def number(answer: str) -> Fraction | None:
    """The exact value of a plain number or fraction (`-1,234.50`, `3/4`, `\\frac{3}{4}`, `\\$5`), else None."""
    if len(answer) > LONGEST_ANSWER:
        return None
    value, rest = leading(DOLLAR.sub("", bare(answer)).strip())
    return value if re.fullmatch(rf"{SPACE}*(?:{ORDINAL})?[\s.]*", rest) else None


# --- units ------------------------------------------------------------------------------------------------------------

# Between strokes: a unit and its other names. Plurals need none. Symbols of one or two letters keep their case.
UNITS = """
mm millimeter millimetre|cm centimeter centimetre|dm decimeter decimetre|m meter metre|km kilometer kilometre
in inch inche|ft foot feet|yd yard|mi mile|nm nanometer|mg milligram|g gm gram gramme|kg kilogram kilo
t ton tonne|oz ounce|lb lbs pound|ml mL milliliter millilitre|cl centiliter|dl deciliter|l L liter litre
gal gallon|qt quart|pt pint|s sec second|ms millisecond|min minute|h hr hrs hour|day|week wk|month|yr year
dollar usd USD buck|cent ¢|euro € eur EUR|sterling £ gbp|¥ yen|rupee ₹|degree deg °|rad radian|mi/h mph|km/h kph kmph
Hz hertz|W watt|kW kilowatt|V volt|J joule|kJ kilojoule|N newton|Pa pascal|A ampere amp|K kelvin
celsius C|fahrenheit F|unit|acre|ha hectare|byte|bit|am|pm
"""
KNOWN = {name: line.split()[0] for line in re.split(r"[|\n]", UNITS) for name in line.split()}
STYLED = re.compile(rf"{STYLE}\s*\{{([^{{}}]*)\}}|[$]")  # \text{No}: the No
# Words behind a number that change it, or leave it open
CHANGING = re.compile(
    r"""(?<![a-z])(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty(?=-|\s|$)|ones|twos
    |tens|half|halves|thirds?|fourths?|quarters?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|elevenths?|twelfths?
    |\w+teenths?|\w+tieths?|hundred\w*|thousand\w*|\w*illion(?:th)?s?|dozens?|scores?|gross|pairs?|couples?|myriads?
    |lakhs?|crores?|bn|mn|mil|k|percent\w*|per\s*cent|permille|point|and|or|nor|not|non|no|but|maybe|perhaps|possibly
    |probably|either|plus|minus|times|over|by|divided?|multipl(?:y|ied)|into|mod|modul\w+|remainder|squared?|cubed?|root
    |power|factorials?|choose|base|negative|positive|than|more|less|fewer|under|above|below|between|to|through|until|up
    |down|off|doubled?|twice|thrice|tripled?|quadrupled?|\w*fold|inf|infinity|infinite|pi|e|i|x|sqrt|exp|log|ln|sin|cos
    |tan|if|when|mixed|approx\w*|about|roughly|almost|nearly|opposite|inverse|reciprocal|equals?|is|was)(?![a-z])""",
    re.IGNORECASE | re.VERBOSE,
)
COUNTED = re.compile(r"people|children|men|women|geese|mice|fish|sheep|deer|[a-z]+(?<![sui])s")
# Words behind a number; where a function is meant, math-verify may say
WORDED = re.compile(rf"{SPACE}*(?:[,(-]\s*)?(?:{STYLE}|(?!sqrt|log|ln|pi\b|sin|cos|tan)[a-zA-Z]{{2}})")


def unit_of(text: str) -> str | None:
    """The unit that a text names, "" if there is no text, None if it names none: "cm^2" of "\\text{ square cm}"."""
    if len(text) > LONGEST_NUMBER:
        return None
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degree", " degree ", STYLED.sub(r" \1 ", text))
    text = " ".join(re.sub(rf"{SPACE}+", " ", text).replace(".", "").split())
    parts = [one_unit(part) for part in re.split(r" ?/ ?| per ", text)] if text else []
    return None if None in parts else "/".join(parts)


def one_unit(text: str) -> str | None:
    """unit_of for a unit without a stroke."""
    match = re.fullmatch(r"(?:(square|sq|cubic|cu) )?(.+?)(?: ?\^ ?\{? ?([23]) ?\}?| (squared|cubed))?", text.strip())
    if match is None:
        return None
    before, name, power, behind = match.groups()
    if before and (power or behind):
        return None
    power = power or {"s": "2", "c": "3"}.get((before or behind or " ")[0])
    name = re.sub(r"^degrees? (?=C|F|celsius|fahrenheit)", "", name)
    if len(name) > 2 or name.isupper() and len(name) == 2:
        name = name.lower()
    unit = KNOWN.get(name) or KNOWN.get(name.removesuffix("s") if len(name) > 2 else name)
    if unit is not None:
        return unit if power is None else f"{unit}^{power}"
    # What was counted: words of which one is a plural
    words = name.lower().split(" ")
    counted = re.fullmatch(r"[a-z]{2,}(?:-[a-z]+)*(?: [a-z]+(?:-[a-z]+)*){0,5}", name.lower())
    if power or not counted or CHANGING.search(name) or not any(map(COUNTED.fullmatch, words)):
        return None
    return " ".join(word.removesuffix("s") for word in words)


def quantity(answer: str) -> tuple[set[Fraction], str | None]:
    """(the numbers that an answer may mean, its unit). 28 % is 0.28, or 28 where percent are asked for.

    There are no numbers if the answer does not begin with one. The unit is "?" if the words behind the number name
    none, "m?" if it may be a factor, too, and None if what follows the number is more mathematics.
    """
    if len(answer) > LONGEST_ANSWER:
        return set(), None
    text = bare(answer)
    value, rest = leading(DOLLAR.sub("", text).strip())
    if value is None:
        return set(), None
    found, unknown = {value}, "?" if WORDED.match(rest) else None
    if (percent := PERCENT.match(rest)) is not None:
        found, rest = {value, value / 100}, rest[percent.end() :]
        return found, "%" if not rest.strip(" .$") else "?"
    if re.match(rf"{ORDINAL}{SPACE}*(?:\\text\{{)?\s*[a-z]*\s*\}}?$", rest):
        return found, "?" if CHANGING.search(rest[rest.rfind("}", 0, -1) :]) else ""  # 12^{th}, 12^{th} grade
    if re.fullmatch(r"[a-zA-Z]", rest):  # 5m: five times m, and not five metres, as math-verify has it
        return found, f"{rest}?" if rest in KNOWN else None
    unit = unit_of(rest.rstrip(" $"))
    if unit is None and value == 1 and re.search("[a-z]{3}", rest):  # 1 egg
        unit = unit_of(STYLED.sub(r"\1", rest).strip() + "s")
    if unit == "" and DOLLAR.search(text):
        unit = "dollar"
    return found, unknown if unit is None else unit


def values(answer: str) -> set[Fraction]:
    """The numbers that an answer may mean, none if it is no plain number, with a unit or without."""
    found, unit = quantity(answer)
    return set() if unit is None or unit.endswith("?") else found


TAIL = re.compile(rf"({STYLE}\s*\{{[^{{}}]*\}}|(?<=[\d}})\s])[a-zA-Z]{{2,}})(?:\s*\^\s*\{{?\s*[23]\s*\}}?)?[\s.$]*$")


def tail(answer: str) -> str:
    """The words at the end of an answer that are not all of it: `\\text{ cm}` of `6\\pi\\text{ cm}`, else "".

    Bare words count only if they are a unit, for they may be factors.
    """
    if len(answer) > LONGEST_ANSWER:
        return ""
    found = TAIL.search(answer)
    if found is not None and found.start() > 0 and (found[1][0] == "\\" or unit_of(found[0]) in KNOWN.values()):
        return found[0]
    return "dollars" if DOLLAR.search(bare(answer)) else ""


def factor(answer: str) -> str:
    """The letter at the end that math-verify takes for a unit, though it may be a factor: m of `\\sqrt{2}m`."""
    found = re.search(r"[\d})]([a-zA-Z])[\s.$]*$", answer[-LONGEST_ANSWER:])
    return found[1] if found is not None and found[1] in KNOWN else ""
