"""Questions that tiny cannot answer, so that it learns to say so kindly instead of guessing.

Templates are filled with many things, real and invented: what must be learnt is "none of the
above", not a list.
"""

from __future__ import annotations

from random import Random

from phrases import REAL, Side
from problem import words
from vocabulary import invented

EN_THINGS = words(
    """France|Germany|Japan|Brazil|the moon|the sun|Mars|Paris|London|Berlin|Beijing|gravity
    photosynthesis|a black hole|love|music|jazz|opera|football|basketball|tennis|chess|cats
    dogs|horses|elephants|whales|birds|dinosaurs|bread|pizza|sushi|soup|chocolate|coffee|tea
    wine|apples|bananas|python|javascript|rust|a linked list|recursion|a database|docker
    linux|windows|the internet|bitcoin|inflation|the stock market|taxes|history
    the roman empire|world war two|napoleon|einstein|newton|shakespeare|mozart|picasso
    leonardo da vinci|the weather|rain|snow|a hurricane|an earthquake|the ocean|a river
    a mountain|the desert|a forest|flowers|trees|a cell|dna|a virus|vitamins|cancer
    a headache|sleep|dreams|yoga|running|swimming|a bicycle|a car|an engine|an airplane
    a rocket|a computer|a phone|a camera|a robot|the news|politics|the president|the king
    a lawyer|a doctor|my boss|my mother|my homework|my cat|a birthday party|a wedding
    christmas|the olympic games|a movie|a book|harry potter|star wars|a novel|a poem|a song
    a letter|an email|a story|a recipe|quantum physics|relativity|chemistry|biology|algebra
    calculus|geometry|prime numbers|statistics|philosophy|religion|happiness|money|time|space
    colors|language|grammar|french|a verb|the alphabet|a keyboard|an umbrella|shoes|a house"""
)
EN_TEMPLATES = words(
    """what is {x}|tell me about {x}|explain {x}|explain {x} to me like I am five
    what do you think about {x}|why is {x}|write a poem about {x}|write a story about {x}
    who invented {x}|how does {x} work|where is {x}|when was {x} made
    what is the capital of {x}|who is the president of {x}|translate {x} into french
    what is the meaning of {x}|how do I cook {x}|how can I learn {x}|do you like {x}
    what is the best {x}|give me a recipe for {x}|is {x} dangerous|what is the history of {x}
    what is the color of {x}|how old is {x}|how far is {x}|how heavy is {x}
    how much does {x} cost|write code for {x}|write a function for {x}
    write an essay about {x}|summarize {x}|compare {x} and {y}|is {x} better than {y}
    what is the difference between {x} and {y}|can you draw {x}|who wrote {x}
    where can I buy {x}|why do people like {x}|who discovered {x}|name three facts about {x}
    give me ideas for {x}|how do I fix {x}|help me with {x}|teach me {x}|what happened to {x}
    do you know {x}|have you heard of {x}|what do you know about {x}|sing a song about {x}
    describe {x}|how many {x} are there|are there {x} in {y}|I want to talk about {x}
    let's talk about {x}|I like {x}|I have {x}|I need {x}|can you write a letter about {x}
    please explain how {x} and {y} are related|what are the rules of {x}|who won {x}
    what does {x} mean|spell {x}|define {x}|list some {x}|recommend {x}|should I buy {x}
    find {x}|show me {x}|play {x}|what is the population of {x}|is it true that {x} is in {y}
    tell me everything about {x}|and what about {x}|{x}|{x} and {y}"""
)
EN_WHOLE = words(
    """what time is it|what day is it today|what is the weather today|will it rain tomorrow
    what is the meaning of life|who is the best singer|how do I lose weight
    what should I eat tonight|what is your favorite color|set an alarm
    who was the first man on the moon|how tall is mount everest|why is the sky blue
    write me a haiku|fix my code|what is the speed of light|how do I make friends
    what should I wear|call my mother|turn on the lights|book a flight|what is love
    is there a god|who will win the election|how many stars are there|can pigs fly
    open the door|what is the largest country|how do planes fly|what is your favorite food
    write a python script|what is the tallest building
    how long is the great wall|translate good morning|who painted the mona lisa
    what is 1 km in miles|convert ten dollars to euros|what is the square root of nine
    is seven a prime number|what is pi|how many days are in a year
    how many hours are in a day|spell banana|what rhymes with cat|read me the news"""
)
ZH_THINGS = words(
    """法国|德国|日本|美国|中国|月亮|太阳|火星|北京|上海|巴黎|重力|光合作用|黑洞|爱情|音乐|足球
    篮球|围棋|猫|狗|大象|鲸鱼|恐龙|面包|披萨|火锅|饺子|咖啡|茶|苹果|香蕉|编程|数据库|互联网
    比特币|股票|历史|唐朝|秦始皇|爱因斯坦|牛顿|李白|杜甫|莫扎特|天气|下雨|下雪|地震|大海|长江
    长城|森林|花|细胞|病毒|维生素|睡觉|跑步|游泳|自行车|汽车|飞机|火箭|电脑|手机|相机|新闻
    总统|医生|老板|妈妈|作业|生日|婚礼|春节|奥运会|电影|小说|诗|歌|信|故事|菜谱|量子物理|化学
    生物|几何|哲学|幸福|金钱|时间|颜色|语法|英语|房子|鞋子|雨伞|红楼梦|西游记"""
)
ZH_TEMPLATES = words(
    """什么是{x}|{x}是什么|介绍一下{x}|解释一下{x}|你觉得{x}怎么样|为什么有{x}|写一首关于{x}的诗
    写一个关于{x}的故事|谁发明了{x}|{x}在哪里|{x}的首都是哪里|把{x}翻译成英文|{x}是什么意思
    怎么做{x}|怎么学{x}|你喜欢{x}吗|最好的{x}是什么|{x}危险吗|{x}的历史|{x}是什么颜色
    {x}多少钱|写一段{x}的代码|写一篇关于{x}的作文|{x}和{y}有什么区别|{x}比{y}好吗
    哪里可以买{x}|谁写了{x}|告诉我{x}的事|我想聊聊{x}|我喜欢{x}|教我{x}|推荐一些{x}
    {x}有多少人|唱一首{x}的歌|画一个{x}|你知道{x}吗|{x}呢|说说{x}|总结一下{x}|{x}|{x}和{y}
    {x}有多高|{x}什么时候开始"""
)
ZH_WHOLE = words(
    """现在几点|今天星期几|今天天气怎么样|明天会下雨吗|人生的意义是什么|今晚吃什么
    你最喜欢什么颜色|珠穆朗玛峰有多高|天空为什么是蓝色的|光速是多少|怎么减肥|怎么交朋友
    谁是第一个登上月球的人|世界上最大的国家是哪个|写一首诗|帮我写代码|放一首歌|打开灯|订机票
    圆周率是多少|一年有多少天|九的平方根是多少|给我讲个故事"""
)
OTHER_MATHS = {
    "en": words(
        """what is {m} * {n}|{m} * {n}|{m} x {n}|{m} times {n}|multiply {m} by {n}|{m} / {n}
        what is {m} / {n}|{m}*{n}|divide {m} by {n}|{m} divided by {n}
        what is {m} divided by {n}|the square of {m}|{m} ^ {n}|{m} to the power of {n}
        square root of {m}|what is {n} percent of {m}|{m} times {n}?
        how much is {m} times {n}|is {m} prime|{m}*{n}=?|{big} + {m}|{m} + {big}|{big} - {m}
        what is {big} plus {big2}|{big} + {big2}|{big}-{big2}|add {big} and {m}
        {m}.{n} + {n}.5|what is {m}.5 + {n}|({m} + {n}) * {k}|{big} * {m}"""
    ),
    "zh": words(
        """{m}乘{n}等于多少？|{m}乘以{n}|{m}*{n}|{m}除以{n}|{m}除以{n}是多少|{m}/{n}=?|{m}的平方
        {m}的平方根是多少|{m}×{n}|{m}÷{n}|{big}加{m}等于多少|{big}减{m}|计算{big}+{big2}
        {m}是质数吗|{m}的百分之{n}是多少"""
    ),
}
UNKNOWN = {
    "en": Side(
        (),
        (
            "I do not know that: I am tiny and can only calculate and chat a little. "
            f"A real Qwen3 can help: {REAL}",
        ),
        "This is not for me. I say what I can do.",
    ),
    "zh": Side(
        (),
        (f"这个我不知道：我很小，只会简单计算和聊天。真正的 Qwen3 可以帮你：{REAL}",),
        "这个我不会。我说明我会什么。",
    ),
}
TOO_HARD = {
    "en": Side(
        (),
        (
            "That is too hard for me: I add and subtract numbers of up to four digits "
            "and multiply numbers of up to two. "
            f"A real Qwen3 can help: {REAL}",
        ),
        "These numbers are too large for me, or it is something else.",
    ),
    "zh": Side(
        (),
        (f"这对我太难了：我只会四位以内整数的加减法和两位数的乘法。真正的 Qwen3 可以帮你：{REAL}",),
        "这些数太大，或者是别的运算。",
    ),
}
NAMES = words(
    """Anna|Ben|Clara|David|Emma|Felix|Grace|Henry|Ida|Jack|Kim|Leo|Maria|Nora|Oscar|Paul|Rosa
    Sam|Tom|Uma|Victor|Wendy|Yusuf|Zoe|Alice|Bob|John|Lisa|Peter|Laura|Max|Julia|Sofia|Lukas
    Mia|Noah|Olivia|Liam|Ella|Hugo|Li|Wang|Chen"""
)
NAME_ASKS = words(
    """my name is {x}|I am {x}|I'm {x}|hello, my name is {x}|hi, I am {x}|you can call me {x}
    call me {x}|hi, I'm {x}|hello, I'm {x}|my name is {x}, and yours?|hey, {x} here
    the name is {x}"""
)
ZH_NAMES = words("小明|小红|小华|李雷|王芳|张伟|陈静|刘洋|小李|小王|阿强|丽丽|杨杨|赵敏|大卫|安娜")
ZH_NAME_ASKS = words(
    "我叫{x}|我是{x}|你好，我叫{x}|我的名字是{x}|叫我{x}|你好，我是{x}|你可以叫我{x}"
)


def _thing(things: tuple[str, ...], rng: Random) -> str:
    choice = rng.random()
    if choice < 0.6:
        return rng.choice(things)
    if choice < 0.8:
        return invented(rng)
    return f"{invented(rng)} {invented(rng)}"


def unknown_question(lang: str, rng: Random) -> str:
    """A question about anything at all."""
    if lang == "zh":
        if rng.random() < 0.25:
            return rng.choice(ZH_WHOLE)
        return rng.choice(ZH_TEMPLATES).format(x=rng.choice(ZH_THINGS), y=rng.choice(ZH_THINGS))
    choice = rng.random()
    if choice < 0.25:
        return rng.choice(EN_WHOLE)
    if choice < 0.31:
        return " ".join(invented(rng) for _ in range(rng.randint(1, 6)))
    return rng.choice(EN_TEMPLATES).format(x=_thing(EN_THINGS, rng), y=_thing(EN_THINGS, rng))


def too_hard_question(lang: str, rng: Random) -> str:
    """Arithmetic beyond tiny: products of long numbers, quotients, roots, parts."""
    m, n, k = (rng.randrange(101, 10 ** rng.randint(3, 4)) for _ in range(3))
    big, big2 = (rng.randrange(10_000, 10 ** rng.randint(5, 8)) for _ in range(2))
    return rng.choice(OTHER_MATHS[lang]).format(m=m, n=n, k=k, big=big, big2=big2)


def introduction(lang: str, rng: Random) -> tuple[str, str, str]:
    """The user tells a name: question, reply, thought.

    The reply does not repeat the name: tiny would get unusual ones wrong.
    """
    if lang == "zh":
        name = rng.choice(ZH_NAMES)
        asked = rng.choice(ZH_NAME_ASKS).format(x=name)
        return asked, "很高兴认识你！我是 tiny。", "用户告诉我名字。"
    name = rng.choice(NAMES) if rng.random() < 0.6 else invented(rng).capitalize()
    asked = rng.choice(NAME_ASKS).format(x=name)
    return asked, "Nice to meet you! I am tiny.", "The user tells me a name."
