"""Forty conversations to look at, half of them in Chinese; none is a phrase of the lessons.

Each names words that ought to be in the answer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """What the user says at last, and what was said before."""

    user: str
    expect: str
    history: tuple[tuple[str, str], ...] = ()
    system: str | None = None

    def messages(self) -> list[dict[str, str]]:
        """The conversation, to be answered."""
        talk = [{"role": "system", "content": self.system}] if self.system else []
        for asked, replied in self.history:
            talk.append({"role": "user", "content": asked})
            talk.append({"role": "assistant", "content": replied})
        return [*talk, {"role": "user", "content": self.user}]


EN = (
    Probe("Hello there, little one!", "tiny"),
    Probe("hey, so who exactly are you?", "qwen3-mlx"),
    Probe("WHAT THINGS CAN YOU DO FOR ME", "Try"),
    Probe("how are you doing this fine morning?", "fine"),
    Probe("thanks so very much for that", "welcome"),
    Probe("alright, goodbye my friend", "Goodbye"),
    Probe("could you explain what Qwen3 is?", "Alibaba"),
    Probe("is the text I write here kept private?", "private"),
    Probe("how do I switch to a larger qwen3?", "4b"),
    Probe("Which year did the Titanic sink?", "do not know"),
    Probe("Write a limerick on submarines", "do not know"),
    Probe("My name is Xandria", "Nice to meet you"),
    Probe("do tell me one of your jokes", "nine"),
    Probe("so are you some kind of robot?", "not a person"),
    Probe("what can the thinking mode do?", "/no_think"),
    Probe("what is 8412 divided by 6?", "too hard"),
    Probe("what is this program here called?", "Mac"),
    Probe(
        "and now 407 minus 1250 please",
        "-843",
        (("hi", "Hello! I am tiny."), ("5+8", "5 + 8 = 13")),
    ),
    Probe(
        "thank you, that was quick!",
        "welcome",
        (("what is 20 + 22?", "20 + 22 = 42"),),
        "You are a helpful assistant.",
    ),
    Probe("you got that one wrong, tiny", "sorry", (("what is 7 - 9?", "7 - 9 = -1"),)),
)
ZH = (
    Probe("嗨，你好啊小家伙！", "tiny"),
    Probe("请告诉我你到底是谁", "tiny"),
    Probe("你都会些什么本领呢？", "试试"),
    Probe("你今天过得怎么样呀？", "谢谢"),
    Probe("真是太谢谢你了", "不客气"),
    Probe("好了，那我先走了，再见", "再见"),
    Probe("能不能介绍一下 Qwen3 这个模型？", "阿里巴巴"),
    Probe("我写的内容会被上传吗？", "私密"),
    Probe("我想换成更大的模型，怎么做？", "4b"),
    Probe("鲁迅是哪里人？", "不知道"),
    Probe("请写一首关于潜水艇的诗", "不知道"),
    Probe("大家都叫我安娜", "安娜"),
    Probe("再给我讲个好笑的笑话吧", "腰带"),
    Probe("你难道是一个机器人吗？", "不是人"),
    Probe("思考模式该怎么打开呢？", "/no_think"),
    Probe("8412除以6得多少呢？", "太难"),
    Probe("你会说几种不同的语言？", "中文"),
    Probe("你做得真不错，我很喜欢", "谢谢"),
    Probe("3456加5678是多少 /no_think", "9134", (("你好", "你好！我是 tiny。"),)),
    Probe("你刚才好像算错了吧", "抱歉", (("7-9等于几", "7 - 9 = -1"),)),
)
PROBES = EN + ZH
