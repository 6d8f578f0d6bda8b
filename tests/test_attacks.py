"""verify/, attacked: texts that look right and are wrong, and texts that look wrong and are right.

All answers of a list are graded in one batch, and each is a test of its own. Programs are attacked in test_sandbox.py.
"""

import subprocess
import sys
import time

import pytest

from verify import extract_answer, grade, is_correct, workers
from verify.programs import program_of
from verify.quantities import number, quantity

# (answer, gold): every answer is wrong.
WRONG = [
    ("x+1l", "x+1"),
    (r"\sqrt{2}m", r"\sqrt{2}"),
    (r"\sqrt{2} mm", r"\sqrt{2} \text{ m}"),
    (r"\sqrt{2} cents", r"\$\sqrt{2}"),
    (r"\{5 \text{ mm}\}", r"\{5 \text{ m}\}"),
    (r"5\text{ mm}, 6\text{ mm}", r"5\text{ m}, 6\text{ m}"),
    ("x = 5 mm", "5 m"),
    ("x=3 fifths", "3"),
    ("x = 5 cents", r"\$5"),
    (r"x=5 \text{, maybe 7}", "5"),
    (r"(5 \text{ mm}, 3)", r"(5 \text{ m}, 3)"),
    ("3 fifths", "x=3"),
    (r"x = 5 \text{ or } 6", "5"),
    ("x=-5", "5"),
    (r"5\%", r"5 \text{ mm}"),
    (r"\frac{3}{5} mm", r"\frac{3}{5} \text{ m}"),
    (r"1\frac{1}{2} \text{ cents}", r"\$1.50"),
    (r"0.\overline{3} mm", r"\frac13 \text{ m}"),
    ("3 fifths", "3"),
    (r"3 \text{ fifths}", "3"),
    ("5 mm", "5 m"),
    ("5 cents", r"\$5"),
    ("5 cents", "$5"),
    ("90 radians", r"90^\circ"),
    (r"90 \text{ radians}", r"90 \text{ degrees}"),
    (r"5 \text{, maybe 7}", "5"),
    ("1+1=3", "3"),
    ("2+2=5", "5"),
    ("x=1+1=3", "3"),
    ("(x+10^{-20},1)", "(x+10^{-21},1)"),
    ("x+10^{-20}", "x+10^{-21}"),
    ("x+y=10^{-20}", "x+y=10^{-21}"),
    (r"\begin{pmatrix}x+10^{-20}\\1\end{pmatrix}", r"\begin{pmatrix}x+10^{-21}\\1\end{pmatrix}"),
    (r"\{x+10^{-20},1\}", r"\{x+10^{-21},1\}"),
    (r"x \le 10^{-20}", r"x \le 10^{-21}"),
    ("1+10^{-20}", "1"),
    ("x+0.00000000000000000001", "x+0.00000000000000000002"),
    ("5 dozen", "5"),
    ("5 million", "5"),
    (r"5 \text{ million}", "5"),
    ("5", r"5 \text{ million}"),
    ("5 km", r"5 \text{ miles}"),
    ("5 kg", r"5 \text{ lb}"),
    ("5 hours", r"5 \text{ minutes}"),
    ("5 percent", r"5 \text{ dollars}"),
    ("5 feet 6 inches", "5"),
    (r"5 \text{ feet } 6 \text{ inches}", "5"),
    ("5 or 6", "5"),
    ("5 and a half", "5"),
    ("5 pairs", "5"),
    ("5 times", "5"),
    ("5 less", "5"),
    ("5\xb9\xb2", "5"),
    ("5\xb9\xb2", "512"),
    ("5\u2082", "52"),
    ("1\u2153", "11/3"),
    ("1\u2153", "113"),
    (r"5^\circ C", r"5^\circ F"),
    (r"\sqrt{2}\text{ cm}", r"\sqrt{2}\text{ m}"),
    (r"\sqrt{2}\text{ fifths}", r"\sqrt{2}"),
    (r"\frac{\pi}{2}\text{ degrees}", r"\frac{\pi}{2}\text{ radians}"),
    (r"5 \text{ cm}^2", r"5 \text{ cm}^3"),
    (r"5 \text{ cm}^2", r"5 \text{ cm}"),
    ("5 squared", "5"),
    ("5 m/s", r"5 \text{ m/h}"),
    ("\u202e21", "12"),
    ("\u202e21", "21"),
    ("12\u200f34", "1234"),
    ("5\x00", "5"),
    ("\u0445+1", "x+1"),
    ("\u0445+1", "1"),
    ("5\u0445", "5"),
    ("\U0001d7d3", "6"),
    ("\u0663", "4"),
    ("5!", "5"),
    ("5i", "5"),
    ("-5", "5"),
    ("5_3", "5"),
    ("2x", "2"),
    ("2s", "2"),
    ("5m", "5"),
    ("1 3/2", "5/2"),
    ("1 1/2", "11/2"),
    ("1 1/2", "1/2"),
    (r"0.\overline{3}", "0.3"),
    ("0.3", "1/3"),
    (r"\log_2 8", "8"),
    (r"\frac 1 2", "12"),
    (r"e^{i\pi}", "1"),
    ("x=5=6", "6"),
    (r"\pi=3.14", "3.14"),
    (r"5 \approx 6", "6"),
    (r"2 \quad 3", "5"),
    (r"5\text{ not}", "5"),
    (r"5 \text{ or so, or } 6", "5"),
    ("(5 wrong)", "5"),
    ("5 teachers", r"5 \text{ students}"),
    (r"5\% ", r"5 \text{ cm}"),
    ("10^{-60}", "0"),
    (r"5 \text{ tenths}", "5"),
    ("5 thousandths", "5"),
    ("5 k", "5"),
    ("5k", "5"),
    ("5K", "5"),
    ("5 bn", "5"),
    ("5e3", "5"),
    ("5 degrees", r"5 \text{ radians}"),
    (r"\frac{3}{4} \text{ dozen}", r"\frac{3}{4}"),
    ("x>5", "5"),
    (r"x\neq 5", "5"),
    ("5 mod 7", "5"),
    ("not 5", "5"),
    (r"\neg 5", "5"),
    ("5 or more", "5"),
    ("5, 6", "5"),
    ("5; 6", "5"),
    ("5: 6", "5"),
    ("5/", "5"),
    ("6 fifths", "6"),
    ("6 elevenths", "6"),
    ("6 hundredths", "6"),
    ("6 gross", "6"),
    ("6 score", "6"),
    ("6 crore", "6"),
    ("6 fold", "6"),
    ("6 nm", "6 m"),
    ("6 mg", "6 g"),
    ("6 g", "6 kg"),
    ("6 ml", "6 l"),
    ("6 in", "6 ft"),
    ("6 yards", r"6 \text{ feet}"),
    ("6 weeks", r"6 \text{ days}"),
    ("6 dollars", r"6 \text{ cents}"),
    ("6 euros", r"\$6"),
    ("6\xa2", r"\$6"),
    ("6 radians", r"6^\circ"),
    (r"6 \text{ rad}", r"6 \text{ degrees}"),
    (r"6 \text{, or 7}", "6"),
    (r"6 \text{ (or 7)}", "6"),
    (r"6 \text{ not} ", "6"),
    (r"6 \text{; 7}", "6"),
    (r"6 \mbox{ perhaps 8}", "6"),
    (r"6 \textit{ or 8}", "6"),
    (r"6 \text{ or } 8", "6"),
    (r"6 \textrm{ or eight}", "6"),
    (r"6 \text{or so}", "6"),
    ("1.0000000001", "1"),
    (r"\log_2 8", "2"),
    (r"\$6 7", "67"),
    ("6 7/8", "67/8"),
    (r"6\frac{7}{8}", r"\frac{42}{8}"),
    (r"0.\overline{3}", "0.333"),
    (r"0.1\overline{6}", "0.16"),
    (r"6^\circ", r"6 \text{ rad}"),
    (r"6\text{ N}", r"6\text{ kg}"),
    ("A", "B"),
    ("\u0456", "i"),
    ("\u0430+1", "a+1"),
    ("\u03bf", "0"),
    ("\u0661", "2"),
    ("\u2460", "2"),
    ("1\u200f2", "12"),
    ("1\u200f2", "21"),
    ("\u20671\u2069", "1"),
    ("12\u202c", "12"),
    ("5\ud800", "5"),
    ("5\udc00", "5"),
    ("\x005", "5"),
    ("5\x7f", "5"),
    ("5\x1b[31m", "5"),
    ("60 miles per hour", r"60 \text{ km per hour}"),
    ("60 km", "60 km/h"),
    ("3 square meters", r"3 \text{ meters}"),
    ("3 cubic cm", r"3 \text{ square cm}"),
    ("3 Celsius", r"3 \text{ Fahrenheit}"),
    ("3 am", r"3 \text{ pm}"),
    (r"3 \text{hundred}", "3"),
    ("3hundred", "3"),
    ("3fifths", "3"),
    ("3dozen", "3"),
    ("3mm", "3 m"),
    (r"3\,mm", r"3\,m"),
    (r"3~\text{cents}", r"\$3"),
    (r"\$3 \text{ million}", r"\$3"),
    (r"3\% of 50", "3"),
    ("3 percent of 50", "3"),
    (r"3\text{ percent of 50}", "3"),
    (r"3 \text{ each, 9 in all}", "3"),
    ("3 each", "9"),
    (r"3 \text{ apples and 2 pears}", "3"),
    ("3 apples and pears", "3"),
    ("3 hr 20 min", "3"),
    ("3 hours 20 minutes", "3"),
    ("3 hours 20 minutes", "60"),
    (r"3 \text{ hours } 20 \text{ minutes}", "3"),
    (r"3\text{ft }2\text{in}", "3"),
    ("3 ft 2 in", "6"),
    (r"\sqrt{3} \text{, maybe 2}", r"\sqrt{3}"),
    (r"\sim 3", "3"),
    ("3_{10}", "3"),
    ("1 23", "123"),
]

# (answer, gold): every answer is right.
RIGHT = [
    (r"\sqrt{2} cm", r"\sqrt{2}"),
    (r"\sqrt{2} mm", r"\sqrt{2} \text{ millimeters}"),
    ("x=5", "5"),
    ("$x = 5$", "5"),
    ("x_1=5", "5"),
    (r"x=5 \text{ cm}", "5"),
    (r"x=\frac12", "0.5"),
    ("5", "x=5"),
    ("x=1,234", "1234"),
    (r"x = 5\%", "0.05"),
    ("x=5 cm", r"5 \text{ centimeters}"),
    (r"e^{i\pi}", "-1"),
    (r"\log_2 8", "3"),
    (r"\log_{2}{8}", "3"),
    (r"\log_2(8)", "3"),
    (r"\frac 1 2", r"\frac{1}{2}"),
    (r"\frac 1 2", "0.5"),
    (r"\frac 12", "0.5"),
    (r"\frac{1} 2", "0.5"),
    ("1 1/2", "3/2"),
    ("1 1/2", "1.5"),
    (r"1\frac{1}{2}", r"\frac32"),
    (r"1 \frac 1 2", r"\frac32"),
    ("-1 1/2", r"-\frac32"),
    (r"0.\overline{3}", r"\frac13"),
    (r"0.1\overline{6}", r"\frac16"),
    (r"\frac13", r"0.\overline{3}"),
    ("5=x", "5"),
    ("5=x", "x=5"),
    ("5 = x", "5"),
    (r"\frac12 = x", "0.5"),
    ("5 cm", r"5 \text{ centimeters}"),
    ("5 centimetres", r"5 \text{ cm}"),
    ("5 mm", r"5\text{ millimeters}"),
    (r"5\text{ m}", r"5 \text{ metres}"),
    ("5 kilometers", r"5 \text{ km}"),
    ("5 hrs", r"5 \text{ hours}"),
    ("5 h", r"5 \text{ hours}"),
    ("5 lbs", r"5 \text{ pounds}"),
    (r"\$5", r"5 \text{ dollars}"),
    ("$5", r"5 \text{ dollars}"),
    ("5 USD", r"\$5"),
    ("5 square cm", r"5 \text{ cm}^2"),
    ("5 sq. units", r"5 \text{ square units}"),
    ("5 units^2", r"5 \text{ square units}"),
    ("5 cm\xb2", r"5 \text{ square centimeters}"),
    ("5 cubic meters", r"5 \text{ m}^3"),
    ("60 mph", r"60 \text{ miles per hour}"),
    ("60 km/h", r"60 \text{ kilometers per hour}"),
    ("90 degrees", r"90^\circ"),
    ("90\xb0", r"90^\circ"),
    ("90", r"90^\circ"),
    (r"20^\circ C", r"20 \text{ degrees Celsius}"),
    ("18 eggs", "18"),
    (r"18 \text{ eggs}", "18"),
    ("18 remaining eggs", "18"),
    ("5 people", "5"),
    ("3 students", r"3 \text{ students}"),
    ("1+1=2", "2"),
    ("x=1+1=2", "2"),
    ("5 cm", "5"),
    (r"\$1,234.50", "1234.5"),
    ("\u2153", r"\frac13"),
    ("1\xbd", "1.5"),
    ("\xbe", "0.75"),
    ("2\u207b\xb9", r"\frac12"),
    ("5\u200b", "5"),
    ("\u200e5", "5"),
    ("1\u200b2", "12"),
    ("x\xb9\xb2", "x^{12}"),
    (r"\pi \text{ cm}", r"\pi"),
    (r"6\pi\text{ cm}", r"6\pi \text{ centimeters}"),
    (r"\sqrt{2}\text{ units}", r"\sqrt2"),
    ("i^2", "-1"),
    (r"\ln e", "1"),
    (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2"),
    (r"5 \text{ a.m.}", r"5 \text{ am}"),
    ("5 ft", "5 feet"),
    (r"1\,234", "1234"),
    (r"\angle A = 5", "5"),
    ("f(2)=5", "5"),
    (r"P(X=3)=\frac12", r"\frac12"),
    ("a+b=5", "5"),
    (r"\text{Area}=5", "5"),
    (r"\theta", "\u03b8"),
    ("\u03b8", r"\theta"),
    (r"10\text{ m/s}", r"10 \text{ meters per second}"),
    ("2 million", r"2 \text{ million}"),
    (r"2 \cdot 3", "6"),
    ("2\u22c53", "6"),
    ("5 points", r"5 \text{ points}"),
    ("5 multiples", "5"),
    ("(x+1)^2", "x^2+2x+1"),
    ("mm", "mm"),
    ("5 millimetres", r"5 \text{ mm}"),
    ("5 kgs", r"5 \text{ kilograms}"),
    ("5 litres", r"5 \text{ L}"),
    ("5 inches", r"5 \text{ in}"),
    ("5 yr", r"5 \text{ years}"),
    ("5 mins", r"5 \text{ minutes}"),
    ("5 sec", r"5 \text{ seconds}"),
    (r"\$5.00", r"5 \text{ dollars}"),
    ("5\xa2", r"5 \text{ cents}"),
    ("5 rad", r"5 \text{ radians}"),
    ("5 deg", r"5^\circ"),
    (r"\text{5 cm}", r"5 \text{ cm}"),
    (r"\text{18 dollars}", "18"),
    (r"5\text{cm}", "5"),
    ("5cm", "5"),
    (r"5\ \text{cm}", "5"),
    (r"5\,\mathrm{cm}", "5"),
    (r"\mathrm{5\,cm}", "5"),
    (r"5 \text{ square feet}", r"5 \text{ ft}^2"),
    ("5 ft^2", r"5 \text{ square feet}"),
    (r"5 \text{ feet}^2", r"5 \text{ square feet}"),
    ("5 in^3", r"5 \text{ cubic inches}"),
    (r"\tfrac12", "0.5"),
    (r"\cfrac{1}{2}", "0.5"),
    (r"\frac{1}{2} \text{ cm}", "0.5"),
    (r"2 \frac{1}{2} \text{ cups}", "2.5"),
    ("2 1/2 cups", "2.5"),
    (r"-\frac 1 2", "-0.5"),
    (r"0.\bar{3}", "1/3"),
    (r"0.\overline{142857}", r"\frac17"),
    (r"-0.\overline{3}", "-1/3"),
    (r"2.1\overline{6}", r"\frac{13}{6}"),
    ("5", "x=5"),
    ("\uff15", "5"),
    ("\U0001d7d3", "5"),
    ("5\u200d", "5"),
    ("\u200b5", "5"),
    ("\ufeff5", "5"),
    ("\u200f5", "5"),
    ("5\xa0cm", "5"),
    ("1\xa0234", "1234"),
    ("1\u202f234", "1234"),
    ("\u22125", "-5"),
    ("5 %", r"5\%"),
    (r"3 \text{ students}", "3"),
    ("7 chairs", "7"),
    (r"7 \text{ ways}", "7"),
    ("7 distinct integers", "7"),
    (r"12 \text{ hours per day}", "12"),
    ("4 children", "4"),
    ("1 egg", "1"),
    ("60 miles/hour", r"60 \text{ mph}"),
    (r"5 \text{ Newtons}", r"5 \text{ N}"),
    ("100 degrees Celsius", r"100^\circ C"),
    (r"\text{(A)}", "A"),
]

# The same, for the long tests: math-verify decides them.
MORE_WRONG = [
    ("y=5", "x=5"),
    ("x_1=5", "x_2=5"),
    ("x=5=6", "6"),
    ("$x = 3$ fifths", "3"),
    ("x=5 or x=6", "5"),
    ("x=5, y=6", "5"),
    ("a=b=5, c=6", "5"),
    ("(1+1=3)", "3"),
    ("[1+1=3]", "3"),
    (r"1+1 = 3 \text{ cm}", "3"),
    (r"\boxed{1+1=3}", "3"),
    ("1+1=2+1", "3"),
    ("3=1+1", "3"),
    ("3 = 1 + 1", "2"),
    ("0=1", "1"),
    ("1=0", "0"),
    ("10^{-20}+x=3", "3+x"),
    ("sixfold", "6"),
    ("\u20ac6", r"\$6"),
    ("\xa36", r"\$6"),
    ("2+2=6", "6"),
    ("3=6", "6"),
    ("6=3", "6"),
    ("6=3", "3"),
    (r"2\cdot 2 = 6", "6"),
    (r"\sqrt{4} = 6", "6"),
    (r"\frac{1}{2}=6", "6"),
    ("x = 2+2 = 6", "6"),
    ("6 = 2+2", "6"),
    ("(x+10^{-9},1)", "(x+10^{-10},1)"),
    ("x^2+10^{-12}x", "x^2"),
    ("(10^{-20}x,1)", "(10^{-21}x,1)"),
    ("10^{-20}x", "10^{-21}x"),
    ("x = 10^{-20}y", "x = 10^{-21} y"),
    ("x+1.0000000001", "x+1"),
    (r"\sqrt{2}+10^{-15}", r"\sqrt{2}"),
    ("e^{10^{-20}}", "1"),
    (r"6 \$ 7", "6"),
    (r"0.\overline{9}8", "1"),
    ("+-6", "6"),
    ("6-", "6"),
    ("6+", "6"),
    (r"6\pm 1", "6"),
    ("O", "0"),
    ("l", "1"),
    ("1\u0332", "2"),
    ("1\u20dd", "2"),
    ("3:30", "3"),
    ("3:30", "330"),
    (r"\$3k", r"\$3"),
    (r"3 \times", "3"),
    ("three", "4"),
    (r"\sqrt{3} \text{ or } 2", r"\sqrt{3}"),
    (r"\sqrt{3} dozen", r"\sqrt{3}"),
    (r"\sqrt{3} or 2", r"\sqrt{3}"),
    (r"\text{about } 3", "3"),
    (r"\text{not } 3", "3"),
    (r"\text{half of } 3", "3"),
    (r"\text{minus } 3", "3"),
    ("minus 3", "3"),
    ("half 3", "3"),
    ("not 3", "3"),
    ("< 3", "3"),
    ("> 3", "3"),
    (r"\le 3", "3"),
    (r"\ne 3", "3"),
    ("!3", "3"),
    (r"\overline{3}", "3"),
    (r"\lfloor 3.5 \rfloor", "3.5"),
    ("3^{2}", "3"),
    ("{}^3", "3"),
    ("3. 5", "3.5"),
    ("3 . 5", "3.5"),
    ("3,5", "35"),
    ("3,5", "3.5"),
    ("1,23", "123"),
]
MORE_RIGHT = [
    ("x = 5", "x=5"),
    ("f(x)=x^2", "x^2"),
    ("y=2x+1", "2x+1"),
    ("y=2x+1", "y=1+2x"),
    ("2x+3y=6", "2x+3y-6=0"),
    ("x^2+y^2=1", "y^2+x^2=1"),
    ("(x-1)^2+(y+2)^2=9", "x^2-2x+1+(y+2)^2=9"),
    (r"x=2 \text{ or } x=3", "2,3"),
    (r"x \in \{1,2\}", r"\{1,2\}"),
    (r"A=\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    (r"\frac{1}{x}", "x^{-1}"),
    (r"\sqrt{x^2}", "|x|"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    (r"\frac{x^2-1}{x-1}", "x+1"),
    (r"\sin^2 x+\cos^2 x", "1"),
    (r"\binom{5}{2}", "10"),
    ("5!", "120"),
    (r"x^{\frac12}", r"\sqrt{x}"),
    ("0.5x", r"\frac{x}{2}"),
    ("1.414214", r"\sqrt{2}"),
    (r"\frac{n(n+1)}{2}", r"\frac{n^2+n}{2}"),
    (r"(0,1) \cup (1, \infty)", r"(0,1)\cup(1,\infty)"),
    ("x>-1", r"(-1,\infty)"),
    (r"3 \pm \sqrt{2}", r"3+\sqrt{2}, 3-\sqrt{2}"),
    ("6-5i", "-5i+6"),
    (r"\frac{1+i}{2}", r"\frac12+\frac{i}{2}"),
    ("e^{x+1}", r"e \cdot e^x"),
    ("2^{10}", "1024"),
    (r"\sqrt[3]{27}", "3"),
    ("|{-5}|", "5"),
    (r"\lfloor 3.7 \rfloor", "3"),
    (r"\sum_{i=1}^{5} i", "15"),
    (r"\int_0^1 x dx", r"\frac12"),
    ("(5)", "5"),
    ("{5}", "5"),
    (r"\left(5\right)", "5"),
    (r"x=\frac 1 2", "0.5"),
    (r"\frac 3 4 x", r"\frac{3x}{4}"),
    (r"\log_3 9", "2"),
    (r"\log_{10} 1000", "3"),
    (r"\log_2 8 + 1", "4"),
    (r"e^{2\pi i}", "1"),
    (r"e^{i \pi/2}", "i"),
    ("(1+i)^2", "2i"),
    ("5 = y", "y = 5"),
    (r"\frac{1}{2} = y", r"\frac12"),
    (r"2\pi=x", r"2\pi"),
    (r"\alpha", "\u03b1"),
    ("2\u03b1", r"2\alpha"),
]


def verdicts(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], bool]:
    """The verdict on each pair. A slow machine has a minute for each, so that it changes none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "TIME_LIMIT", 60.0)
        right = grade(
            [f"\\boxed{{{answer}}}" for answer, _ in pairs], [gold for _, gold in pairs], ["math"] * len(pairs)
        )
    return dict(zip(pairs, right, strict=True))


@pytest.fixture(scope="module")
def said() -> dict[tuple[str, str], bool]:
    return verdicts(WRONG + RIGHT)


def shown(text: str) -> str:
    """A text in ASCII, as the name of a test."""
    return ascii(text)[1:-1]


@pytest.mark.parametrize("pair", WRONG, ids=lambda pair: shown(" is not ".join(pair)))
def test_a_wrong_answer_is_refused(pair, said):
    assert said[pair] is False


@pytest.mark.parametrize("pair", RIGHT, ids=lambda pair: shown(" is ".join(pair)))
def test_a_right_answer_is_accepted(pair, said):
    assert said[pair] is True


@pytest.mark.slow
def test_more_wrong_answers_are_refused_and_more_right_ones_accepted():
    assert not [pair for pair, right in verdicts(MORE_WRONG).items() if right]
    assert not [pair for pair, right in verdicts(MORE_RIGHT).items() if not right]


# --- choices, literals, countdowns ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "letter"),
    [
        (r"\boxed{B. Vitamin C}", "B"),
        (r"\boxed{(D) I and II only}", "D"),
        (r"\boxed{(B) Vitamin A}", "B"),
        ("The answer is (B). Option A is wrong.", "B"),
        ("The answer is (D) I and II only", "D"),
        ("The answer is A, I think", "A"),
    ],
)
def test_a_choice_may_say_what_its_option_says(completion, letter):
    assert is_correct(completion, letter, "choice")


@pytest.mark.parametrize(
    "text",
    ["(A) or (B)", "A/B", "A or B", "A, B", "A|B", "A & B", "A; B", "A + B", "A and B", "A-B", "A—B", "A (or B)"]
    + ["(A)(B)", "(A), (B)", "A nor B"],
)
def test_two_options_are_no_choice(text):
    for completion in (f"\\boxed{{{text}}}", f"The answer is {text}."):
        assert not is_correct(completion, "A", "choice")
        assert not is_correct(completion, "B", "choice")


@pytest.mark.parametrize("text", ["A) 12 or B) 13", "A. x or B. y", "A) or B", "(A) x (B) y", f"A) {'x' * 2000} or B"])
def test_an_option_and_another_one_are_no_choice(text):
    assert not is_correct(f"\\boxed{{{text}}}", "A", "choice")


@pytest.mark.parametrize("text", ["D-glucose", "D's", "D'Artagnan", "Dx", "D good one"])
def test_a_word_that_begins_with_a_letter_is_no_choice(text):
    assert not is_correct(f"The answer is {text}", "D", "choice")
    assert not is_correct(f"\\boxed{{{text}}}", "D", "choice")


@pytest.mark.parametrize(
    ("given", "gold", "expected"),
    [
        ("'$5'", "'5'", False),
        ("'5$'", "'5'", False),
        (r"'\text{5}'", "'5'", False),
        ("'5`'", "'5'", False),
        ("' 5'", "'5'", False),
        ("'\u200b5'", "'5'", False),
        ("$'5'$", "'5'", True),
        ("`'5'`", "'5'", True),
        (r"\text{'5'}", "'5'", True),
        ("[1, '$']", "[1,'$']", True),
    ],
    ids=ascii,
)
def test_what_stands_inside_of_a_text_is_its_value(given, gold, expected):
    assert is_correct(f"[ANSWER]{given}[/ANSWER]", gold, "literal") is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(4+2)*4" + " " * 1000 + "+ 99", False),  # what comes late counts, too
        ("(4+2)*4 + 99", False),
        ("4 (4+2)", False),
        ("4²+4*2", False),
        (r"\dfrac{4}{\dfrac{1}{4+2}}", False),
        ("+(4+2)*4", True),
        ("(+4 - -2)*4", True),
        ("(4+2)⋅4", True),
        ("(4+2)·4", True),
        ("(4+2)×4", True),
        ("(４+2)*4", True),
        (r"4\,\times\,(4+2)", True),
        (r"4\cdot(4+2)", True),
    ],
    ids=lambda value: shown(value)[:20] if isinstance(value, str) else None,
)
def test_a_countdown_is_read_as_a_whole(text, expected):
    assert is_correct(f"\\boxed{{{text}}}", '{"target": 24, "nums": [4, 4, 2]}', "countdown") is expected


def test_fractions_of_fractions_are_a_countdown():
    gold = '{"target": 1, "nums": [8, 2, 4]}'
    assert is_correct(r"\boxed{\dfrac{\dfrac{8}{2}}{4}}", gold, "countdown")
    assert not is_correct(r"\boxed{\dfrac{8}{\dfrac{2}{4}}}", gold, "countdown")


# --- which block is the program? --------------------------------------------------------------------------------------

SOLUTION = "```python\ndef f(x):\n    return x + 1\n```\n"
ASSERTS = '{"tests": "assert f(2) == 3"}'
PROMPT = '{"tests": "", "prompt": "def f(x):", "entry_point": "f"}'


@pytest.mark.parametrize(
    "behind",
    [
        "```python\ndef test_f():\n    assert f(1) == 2\n```",
        "```python\nclass TestF(unittest.TestCase):\n    pass\n```",
        "```python\nassert f(2) == 3\n```",
        "```\n3\n```",
        "```python\ndef main():\n    print(f(1))\n```",
        "~~~python\ndef g(): pass\n~~~",
    ],
)
def test_the_block_that_defines_what_the_tests_call_is_the_program(behind):
    assert program_of(SOLUTION + behind, ASSERTS) == "def f(x):\n    return x + 1"
    assert program_of(SOLUTION + behind, PROMPT) == "def f(x):\n    return x + 1"
    assert program_of(f"{SOLUTION}```python\nf = abs\n```\n{behind}", ASSERTS) == "f = abs"  # the last that does
    assert program_of(f"```python\n    return x\n```\n{behind}", PROMPT) == "    return x"  # a body, which completes it


def test_the_block_that_reads_is_the_program_where_something_is_read():
    reads = "```python\nprint(input())\n```\n```python\ndef test(): pass\n```"
    assert program_of(reads, '{"printed": []}') == "print(input())"


@pytest.mark.parametrize("indent", ["   ", "\t", "      "])
@pytest.mark.parametrize("fence", ["```", "~~~", "````"])
def test_the_code_of_an_indented_block_is_moved_to_the_left(indent, fence):
    code = 'def f(x):\n    """a\n\n    b"""\n    return x'
    lines = [f"{fence}py", *code.split("\n"), fence, "done"]
    assert program_of("1. So:\n" + "".join(f"{indent}{line}\n" for line in lines), ASSERTS).split() == code.split()
    compile(program_of("1. So:\n" + "".join(f"{indent}{line}\n" for line in lines), ASSERTS), "", "exec")


# --- bounded time -----------------------------------------------------------------------------------------------------

LONG = ["1 abc" * 200, "1" + " " * 990 + "x", "1" + "~" * 990 + "x", "1 " * 499, r"\frac 1" * 120, r"\text{" * 160]
LONG += ["a=" * 490, "A) " + "B " * 480, r"1^{\text{th" * 90, "1 " + "a-" * 490, "0." + "1" * 400 + "\\overline{3}"]


def test_texts_that_are_made_to_be_read_slowly_are_not(monkeypatch):
    started = time.process_time()
    for text in LONG:
        assert number(text[:1000]) is None
        assert quantity(text[:1000])[1] in (None, "?")
    for text in ("```\n", "   ```x\n", "~~~\n", "`", " ", "\n", "answer is A ", "the answer is ("):
        program_of(text * (200_000 // len(text)), ASSERTS)
        extract_answer(text * (200_000 // len(text)), "choice")
    assert time.process_time() - started < 60  # a second or two; what backtracks takes for ever


# --- systems that lack what Unix has ----------------------------------------------------------------------------------

WINDOWS = """
import logging, os, signal, socket, subprocess, sys, tempfile
sys.modules["resource"] = sys.modules["fcntl"] = None
for module, name in ((signal, "alarm"), (os, "fork"), (os, "setsid"), (os, "killpg"), (os, "getuid"), (os, "fchmod")):
    delattr(module, name)
import verify
from verify import math_worker  # does not start without an alarm, either
print(verify.is_correct("\\\\boxed{5 cm}", "5"), verify.is_correct("\\\\boxed{x+1}", "1+x"))
try: verify.is_correct("x = 1", '{"tests": "assert 1"}', "code", allow_code_execution=True)
except ValueError as error: print(error)
"""


def test_without_what_windows_lacks_all_but_programs_is_checked():
    command = [sys.executable, "-c", WINDOWS]
    told = subprocess.run(command, cwd=workers.ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert told[0] == "True True"
    assert "needs Linux" in told[1]
