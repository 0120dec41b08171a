"""Questions that tiny cannot answer, so that it learns to say so kindly instead of guessing.

Templates are filled with many things, real and invented: what must be learnt is "none of the
above", not a list. Templates, things and whole questions are in `asks/`.
"""

from __future__ import annotations

from random import Random

from asks import ASKS
from phrases import REAL, Said
from problem import words
from vocabulary import invented, something

OTHER_MATHS = {
    "en": words(
        """what is {m} * {n}|{m} * {n}|{m} x {n}|{m} times {n}|multiply {m} by {n}|{m} / {n}
        what is {m} / {n}|{m}*{n}|divide {m} by {n}|{m} divided by {n}|the product of {m} and {n}
        what is {m} divided by {n}|the square of {m}|{m} ^ {n}|{m} to the power of {n}
        square root of {m}|what is {n} percent of {m}|{m} times {n}?|{m} over {n}|{m} / {k}
        how much is {m} times {n}|is {m} prime|{m}*{n}=?|{big} + {m}|{m} + {big}|{big} - {m}
        what is {big} plus {big2}|{big} + {big2}|{big}-{big2}|add {big} and {m}|{m} divided by {d}
        {m}.{n} + {n}.5|what is {m}.5 + {n}|({m} + {n}) * {k}|{big} * {m}|{m} / {d}|{m} by {d}
        how many times does {d} go into {m}|split {m} into {d} equal parts|can you divide {m} by {d}
        share {m} among {d} people|half of {m}|a third of {m}|{m} mod {n}|remainder of {m} by {d}
        what do I get when I divide {m} by {d}|{m} multiplied by {n}|calculate {m} / {d} for me
        factor {m}|the logarithm of {m}|{m} squared|the cube of {n}|solve x + {m} = {n} / {d}
        what is {m} over {d}|work out {m} times {n}|average of {m}, {n} and {k}|{m} ÷ {d}"""
    ),
    "zh": words(
        """{m}乘{n}等于多少？|{m}乘以{n}|{m}*{n}|{m}除以{n}|{m}除以{n}是多少|{m}/{n}=?|{m}的平方
        {m}的平方根是多少|{m}×{n}|{m}÷{n}|{big}加{m}等于多少|{big}减{m}|计算{big}+{big2}
        {m}是质数吗|{m}的百分之{n}是多少|{m}除以{d}|{m}除以{d}等于几|请算{m}除以{d}|{m}÷{d}=?
        把{m}平均分成{d}份|{m}的一半是多少|{m}的三分之一|{m}乘以{n}是多少|帮我算{m}乘{n}
        {m}被{d}除|{m}里面有几个{d}|{m}和{n}的积|{m}的{d}次方|{m}开平方|用{m}除以{d}
        {m}除{d}的余数|{m}、{n}和{k}的平均数|分解{m}|{m}的立方|算一下{m}/{d}|{big}乘以{m}"""
    ),
}
UNKNOWN = {
    "en": Said(
        "I do not know that: I am tiny and can only calculate and chat a little. "
        f"A real Qwen3 can help: {REAL}",
        "This is not for me. I say what I can do.",
    ),
    "zh": Said(
        f"这个我不知道：我很小，只会简单计算和聊天。真正的 Qwen3 可以帮你：{REAL}",
        "这个我不会。我说明我会什么。",
    ),
}
TOO_HARD = {
    "en": Said(
        "That is too hard for me: I add and subtract numbers of up to four digits "
        "and multiply numbers of up to two. "
        f"A real Qwen3 can help: {REAL}",
        "These numbers are too large for me, or it is something else.",
    ),
    "zh": Said(
        f"这对我太难了：我只会四位以内整数的加减法和两位数的乘法。真正的 Qwen3 可以帮你：{REAL}",
        "这些数太大，或者是别的运算。",
    ),
}
NAMES = words(
    """Anna|Ben|Clara|David|Emma|Felix|Grace|Henry|Ida|Jack|Kim|Leo|Maria|Nora|Oscar|Paul|Rosa
    Sam|Tom|Uma|Victor|Wendy|Yusuf|Zoe|Alice|Bob|John|Lisa|Peter|Laura|Max|Julia|Sofia|Lukas
    Mia|Noah|Olivia|Liam|Ella|Hugo|Li|Wang|Chen"""
)
ZH_NAMES = words("小明|小红|小华|李雷|王芳|张伟|陈静|刘洋|小李|小王|阿强|丽丽|杨杨|赵敏|大卫|安娜")


def _thing(lang: str, rng: Random) -> str:
    choice = rng.random()
    if lang == "zh" or choice < 0.6:
        return rng.choice(ASKS[lang]["unknown-things"])
    if choice < 0.8:
        return invented(rng)
    return f"{invented(rng)} {invented(rng)}"


def unknown_question(lang: str, rng: Random) -> str:
    """A question about anything at all."""
    choice = rng.random()
    if choice < 0.35:
        return rng.choice(ASKS[lang]["unknown"])
    if choice < 0.39 and lang == "en":
        return " ".join(invented(rng) for _ in range(rng.randint(1, 6)))
    template = rng.choice(ASKS[lang]["unknown-templates"])
    return template.format(x=_thing(lang, rng), y=_thing(lang, rng))


def too_hard_question(lang: str, rng: Random) -> str:
    """Arithmetic beyond tiny: products of long numbers, quotients, roots, parts."""
    m, n, k = (rng.randrange(101, 10 ** rng.randint(3, 4)) for _ in range(3))
    big, big2 = (rng.randrange(10_000, 10 ** rng.randint(5, 8)) for _ in range(2))
    d = rng.randrange(2, 10 ** rng.randint(1, 2))
    return rng.choice(OTHER_MATHS[lang]).format(m=m, n=n, k=k, d=d, big=big, big2=big2)


def introduction(lang: str, rng: Random) -> tuple[str, str, str]:
    """The user tells a name: question, reply, thought.

    The reply does not repeat the name: tiny would get unusual ones wrong.
    """
    if lang == "zh":
        name = rng.choice(ZH_NAMES) if rng.random() < 0.5 else something("zh", rng)
        asked = rng.choice(ASKS[lang]["name-templates"]).format(x=name)
        return asked, "很高兴认识你！我是 tiny。", "用户告诉我名字。"
    strange = rng.choice((invented(rng), something("en", rng))).capitalize()
    name = rng.choice(NAMES) if rng.random() < 0.5 else strange
    asked = rng.choice(ASKS[lang]["name-templates"]).format(x=name)
    return asked, "Nice to meet you! I am tiny.", "The user tells me a name."
