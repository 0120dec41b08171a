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
    Probe("Hi, just dropping in to say hello", "Hello"),
    Probe("I don't think we've met, who am I talking to?", "ships with"),
    Probe("What sort of stuff are you good at?", "Try"),
    Probe("Hope you're having a good day, how's it going?", "fine"),
    Probe(
        "great, thanks for helping me with that",
        "welcome",
        (("what is 45 + 38?", "45 + 38 = 83"),),
        "You are a friendly assistant.",
    ),
    Probe("ok I have to go now, see you tomorrow", "Goodbye"),
    Probe(
        "hmm, I don't think that answer is right",
        "sorry",
        (("what is 34 + 19?", "34 + 19 = 43"),),
    ),
    Probe("Can you tell me a bit about the Qwen3 models?", "family"),
    Probe("What does qwen3-mlx actually do?", "Mac"),
    Probe("Does our chat stay on my own computer?", "private"),
    Probe("You're too small for me, how can I run a proper Qwen3 model?", "terminal"),
    Probe("How can I turn your thinking off?", "/no_think"),
    Probe(
        "Am I chatting with a real person right now?",
        "not a person",
        system="You are a helpful assistant.",
    ),
    Probe("I could use a laugh, got anything funny?", "nine"),
    Probe("How big are you compared to other models?", "million"),
    Probe("What's the tallest mountain in Africa?", "do not know"),
    Probe("Can you write a short poem about the sea for my mum?", "do not know"),
    Probe("By the way, people call me Marcus", "Nice to meet you"),
    Probe("Please tell me what 7236 divided by 1809 comes to", "too hard"),
    Probe(
        "ok, next one: what's 638 plus 274?",
        "912",
        (
            ("hello", "Hello! I am tiny. Ask me a sum, or ask me who I am."),
            ("12 - 5", "12 - 5 = 7"),
        ),
    ),
)
ZH = (
    Probe("哈喽，我来找你聊聊天", "你好"),
    Probe("咱们第一次聊天，先做个自我介绍吧", "附带"),
    Probe("平时你能帮我做点什么事情？", "试试"),
    Probe("最近还好吗，心情怎么样？", "很好"),
    Probe("多谢啦，你帮了我大忙", "不客气", (("36+47等于几", "36 + 47 = 83"),)),
    Probe("时间不早了，我要去睡觉了，明天见", "再见"),
    Probe(
        "哇，你算得又快又准",
        "夸奖",
        (("91-28是多少？", "91 - 28 = 63"),),
        "你是一个乐于助人的助手。",
    ),
    Probe("这个答案不对，你弄错了", "抱歉", (("25+17等于多少", "25 + 17 = 42"),)),
    Probe("Qwen3 是哪家公司做的，有哪些型号？", "系列"),
    Probe("我跟你说的话会不会泄露出去？", "私密"),
    Probe("我想试试真正的 Qwen3，应该输入什么命令？", "终端"),
    Probe("我不想看你的思考过程，怎么关掉？", "/no_think"),
    Probe("跟我聊天的是真人还是电脑？", "不是人"),
    Probe("今天有点无聊，逗我笑一笑吧", "腰带"),
    Probe("我可以用英语跟你聊吗？", "英文"),
    Probe("长城大概有多长？", "不知道", system="你是一个乐于助人的助手。"),
    Probe("帮我写一篇关于春节的作文", "不知道"),
    Probe("对了，我的名字叫陈晓东", "认识你"),
    Probe("你能算出6384除以1596的结果吗", "太难"),
    Probe(
        "那805减去347呢？",
        "458",
        (("你好", "你好！我是 tiny。"), ("16+27", "16 + 27 = 43")),
    ),
)
PROBES = EN + ZH
