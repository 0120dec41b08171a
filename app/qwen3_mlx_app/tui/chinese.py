"""The interface in Simplified Chinese. A test compares the keys with the sources."""

from __future__ import annotations

__all__ = ["WORDS"]

WORDS: dict[str, str] = {
    # Header, welcome, gauges
    "THINK": "思考",
    "NO THINK": "不思考",
    "saved": "已保存",
    "not saved": "未保存",
    "not loaded": "未加载",
    "loading…": "加载中…",
    "loading {done} of {total}": "加载中 {done} / {total}",
    "The model is loading. You can type already.": "模型正在加载，可以先输入。",
    "Everything you write stays on this computer.": "你写的一切都留在这台电脑上。",
    "What would you like to know?": "想了解什么？",
    "This is tiny, a demonstration model. qwen3-mlx chat -m 4b gets a real one.": (
        "这是演示用的小模型 tiny。要用真正的模型：qwen3-mlx chat -m 4b"
    ),
    # Composer
    "Message Qwen3…   / commands   @ file   ⏎ send   ⇧⏎ or ^j new line": (
        "给 Qwen3 发消息…   / 命令   @ 文件   ⏎ 发送   ⇧⏎ 或 ^j 换行"
    ),
    "queued": "排队中",
    "esc takes it back": "esc 收回",
    "pasted {n}": "粘贴 {n}",
    "another version of this message · esc leaves it as it was": "这条消息的另一个版本 · esc 放弃",
    # Turns
    "Thinking": "思考中",
    "Thought": "思考过程",
    "{answer_now} answer now": "{answer_now} 立即回答",
    "1 token": "1 个 token",
    "thought {time}": "思考 {time}",
    "{n:,} tokens": "{n:,} 个 token",
    "{n:,} / {total:,} tokens": "{n:,} / {total:,} 个 token",
    "budget used up": "预算用完",
    "ended by you": "由你结束",
    "ended: it went round in circles": "已结束：内容在重复",
    "ended: the context is full": "已结束：上下文已满",
    "ended: the rest is for the answer": "已结束：其余篇幅留给回答",
    "Waiting for the model…": "等待模型…",
    "Reading…": "阅读中…",
    "Reading {done:,} / {total:,} tokens…": "阅读中 {done:,} / {total:,} 个 token…",
    "think": "思考",
    "answer": "回答",
    "no tokens": "没有 token",
    "first token {s:.2f} s": "首个 token {s:.2f} 秒",
    "stopped": "已停止",
    "out of time": "超时",
    "cut: out of tokens": "被截断：token 用完",
    "{go_on} continues": "{go_on} 继续",
    "interrupted: the program ended while it answered · {go_on} continues": (
        "已中断：回答时程序退出了 · {go_on} 继续"
    ),
    "▲ {n} earlier turns: scroll up": "▲ 之前还有 {n} 轮：向上滚动",
    # Errors
    "The answer broke off": "回答中断了",
    "The model could not be loaded": "模型无法加载",
    "Kept: your message.": "已保留：你的消息。",
    "Kept: the answer so far, {n:,} tokens, and your message.": (
        "已保留：已有的回答（{n:,} 个 token）和你的消息。"
    ),
    "Kept: the thought so far, {n:,} tokens, and your message.": (
        "已保留：已有的思考（{n:,} 个 token）和你的消息。"
    ),
    "it is read-only": "数据库只读",
    "another program holds it locked": "数据库被其他程序锁定",
    "the disk is full": "磁盘已满",
    "a newer version of this program wrote it ({why})": "由更新版本的程序写入（{why}）",
    "its format is {n}, and {known} is known": "其格式为 {n}，可识别 {known}",
    "this chat is gone": "此对话已不存在",
    "it is damaged or no database": "文件已损坏或不是数据库",
    "--private was given": "使用了 --private",
    "Chats are not saved: {why}.": "对话没有保存：{why}。",
    "This chat is open in another window: what you say here makes a copy.": (
        "此对话已在另一个窗口打开：在这里继续会生成副本。"
    ),
    "This chat cannot be opened.": "无法打开此对话。",
    "The terminal is too small: {width}×{height}, and {w}×{h} is the least.": (
        "终端太小：{width}×{height}，至少需要 {w}×{h}。"
    ),
    # Keys
    "Send": "发送",
    "Send; while an answer comes, queue": "发送；回答进行中则排队",
    "New line": "换行",
    "Start a new line": "换行",
    "Complete": "补全",
    "Complete a /command": "补全 /命令",
    "Scroll up": "向上滚动",
    "Scroll back": "向上翻页",
    "Scroll down": "向下滚动",
    "Scroll on": "向下翻页",
    "Stop": "停止",
    "Stop the answer, keep its text; un-queue first": "停止回答并保留文字；有排队的先收回",
    "Think": "思考",
    "Think before answering": "回答前先思考",
    "Answer now": "立即回答",
    "End the thought and answer from it": "结束思考，立即回答",
    "More thought": "多思考",
    "Think longer: 512 … 8k … ∞": "思考更久：512 … 8k … ∞",
    "Less thought": "少思考",
    "Think less": "少思考一些",
    "Retry": "重答",
    "Answer the last question anew, beside the old answer": "重新回答上一个问题，旧回答保留",
    "Continue": "继续",
    "Go on with an answer that was cut off": "继续被打断的回答",
    "Chats": "对话",
    "Find, open, rename and delete chats": "查找、打开、重命名和删除对话",
    "Models": "模型",
    "Change the model, and see which ones fit": "更换模型，查看哪些放得下",
    "Settings": "设置",
    "Language, theme, sampling, memory, keys": "语言、主题、采样、内存、按键",
    "New": "新建",
    "Start a new chat": "开始新对话",
    "Copy": "复制",
    "Copy the last answer": "复制上一个回答",
    "Fold": "折叠",
    "Show thoughts folded, open, or as a line": "思考过程：折叠、展开或一行",
    "Help": "帮助",
    "Show this help": "显示此帮助",
    "Blocks": "内容块",
    "Go over the blocks of the chat": "在内容块之间移动",
    "Block up": "上一块",
    "Block down": "下一块",
    "Write": "写入",
    "Full": "全屏",
    "Edit": "编辑",
    "Fork": "分叉",
    "Before": "前一个",
    "After": "后一个",
    "Next": "后一个",
    "Back": "返回",
    "Close": "关闭",
    "Quit": "退出",
    "Leave the chat": "离开对话",
    "Palette": "命令面板",
    "Search for commands…": "搜索命令…",
    "Change the current theme": "更换当前主题",
    "Screenshot": "截图",
    "Save an SVG 'screenshot' of the current screen": "把当前屏幕存为 SVG 图片",
    "Keys": "按键",
    "Commands": "命令",
    "Keys and commands": "按键和命令",
    # Commands
    "Find a chat; with TEXT, search for it": "查找对话；加 TEXT 则搜索",
    "Think first; 2k sets a budget, off removes it; TEXT: just for it": (
        "先思考；2k 设预算，off 取消；TEXT：仅此一次"
    ),
    "Answer at once, or just for TEXT": "直接回答，或仅对 TEXT 如此",
    "Go on in a copy of this chat": "在此对话的副本中继续",
    "Name this chat": "给对话命名",
    "Set the system prompt; alone, remove it": "设置系统提示词；不带文字则删除",
    "How thoughts are shown: fold, open, line": "思考过程的显示：fold、open、line",
    "Write the chat to FILE: .md to read, .json with every branch": (
        "把对话写入 FILE：.md 供阅读，.json 含全部分支"
    ),
    "Read a chat from a .json FILE": "从 .json 文件读入对话",
    "There is no command /{name}. /help lists them; a space before / sends it as text": (
        "没有命令 /{name}。/help 列出命令；在 / 前加空格可作为文字发送"
    ),
    "… and {count} more: type on, or /help": "…还有 {count} 个：继续输入，或 /help",
    "/thoughts takes one of: {views}": "/thoughts 可用：{views}",
    "this needs the full screen: a terminal, without --plain": (
        "此功能需要全屏界面：在终端中运行，不加 --plain"
    ),
    "There is no file {name}: its name alone was sent.": "没有文件 {name}：只发送了它的名字。",
    "{quit} leaves the chat.": "{quit} 离开对话。",
    # Messages
    "Copied.": "已复制。",
    "Written: {name}": "已写入：{name}",
    "{name} was not written: {why}": "{name} 未能写入：{why}",
    "{name} was not imported: {why}": "{name} 未能导入：{why}",
    "it is no JSON ({why})": "不是 JSON（{why}）",
    "it is no chat that /export wrote": "不是 /export 写出的对话",
    "its version is {n}, and {known} is known": "其版本为 {n}，可识别 {known}",
    "it has no list of turns": "没有轮次列表",
    "a turn has no question": "有一轮没有问题",
    "a turn has no id of its own": "有一轮没有自己的编号",
    "turn {n} follows a turn that does not come before it": "第 {n} 轮接在不在它之前的一轮后面",
    "There is nothing to export yet.": "还没有可导出的内容。",
    "There is no answer to copy yet.": "还没有可复制的回答。",
    "There is no thought to end.": "没有正在进行的思考。",
    "There is no other version on that side.": "那一侧没有其他版本。",
    "The last answer is whole: there is nothing to continue.": "上一个回答是完整的，无需继续。",
    "No answer was begun: {retry} asks again.": "还没有开始回答：{retry} 可重新提问。",
    "Nothing to retry: nothing was asked yet.": "还没有提问，无法重答。",
    "Stop the answer first, with esc.": "请先用 esc 停止回答。",
    "You go on in a copy; the old chat stays in {chats}.": "已在副本中继续；原对话在 {chats} 中。",
    "System prompt: {text}": "系统提示词：{text}",
    "The system prompt is removed.": "系统提示词已删除。",
    "Thinking budget: {name}": "思考预算：{name}",
    "Thoughts: {view}": "思考过程：{view}",
    "{name} cannot be read: {reason}": "{name} 无法读取：{reason}",
    "{name} has {size:,} bytes, and {limit:,} may go along": (
        "{name} 有 {size:,} 字节，最多可附 {limit:,}"
    ),
    "{name} is no file": "{name} 不是文件",
    "{name} is no text file": "{name} 不是文本文件",
    # Chats
    "Search all chats…": "搜索全部对话…",
    "Open": "打开",
    "Rename": "重命名",
    "Delete": "删除",
    "Undo": "撤销",
    "Up": "上",
    "Down": "下",
    "New title": "新标题",
    "(no title)": "（无标题）",
    "{n} turns": "{n} 轮",
    "Nothing is found.": "没有找到。",
    "The last {n}; typing finds the others.": "最近 {n} 个；输入文字可找到其他的。",
    "There are no chats yet.": "还没有对话。",
    "Deleted. ^z brings it back.": "已删除。^z 恢复。",
    "Open in another window: leave it there first.": "在另一个窗口中打开：请先在那里离开。",
    "This chat is on show: start another one first, with {new}.": (
        "正在显示此对话：请先用 {new} 新建。"
    ),
    "Not done: {why}": "未完成：{why}",
    # Models
    "Models · {usable} can be used": "模型 · 可用内存 {usable}",
    "Load": "加载",
    "fits": "放得下",
    "tight": "很紧",
    "too big": "太大",
    "download": "需下载",
    "built in": "内置",
    "weights {weights} + KV cache {kv} + work {work} = {needed} of {usable}": (
        "权重 {weights} + KV 缓存 {kv} + 运行 {work} = {needed}，可用 {usable}"
    ),
    "It needs more memory than there is. ⏎ loads it anyway.": "需要的内存超过可用。⏎ 仍然加载。",
    "⏎ downloads {size} from Hugging Face.": "⏎ 从 Hugging Face 下载 {size}。",
    "This chat has one model only.": "此对话只有一个模型。",
    "{name} has no thinking mode.": "{name} 没有思考模式。",
    "{name} always thinks; {view} folds its thoughts away.": "{name} 总是思考；{view} 可折叠。",
    # Settings
    "Language": "语言",
    "Theme": "主题",
    "Thoughts are shown": "思考过程的显示",
    "Think first": "先思考",
    "Thinking budget": "思考预算",
    "Sampling": "采样",
    "Temperature": "温度",
    "Longest answer": "最长回答",
    "System prompt": "系统提示词",
    "as the system says": "随系统",
    "English": "English",
    "简体中文": "简体中文",
    "dark": "深色",
    "light": "浅色",
    "fold": "折叠",
    "open": "展开",
    "line": "一行",
    "the model's own": "模型自带",
    "Qwen thinking": "Qwen 思考模式",
    "Qwen non-thinking": "Qwen 非思考模式",
    "greedy": "贪心",
    "yes": "是",
    "no": "否",
    "as the preset says": "随预设",
    "what the context leaves": "上下文所余",
    "(none)": "（无）",
    "Kept in {path}": "保存在 {path}",
    "For new chats; /system changes this one.": "用于新对话；/system 更改当前对话。",
    "Settings are not kept: {why}": "设置未能保存：{why}",
    "Kept until you leave.": "离开前有效。",
    # Help
    "The pill at the right is the mode of your next message; {think} switches it.": (
        "右上角是下一条消息的模式，{think} 切换。"
    ),
    "{view} goes round: fold (live lines, folded when done), open, line.": (
        "{view} 轮换：折叠（进行时显示，结束后折叠）、展开、一行。"
    ),
    "{blocks} goes to the blocks of the chat, ↑ and ↓ over them: c copies, w writes to a file, "
    "m shows it full screen, space folds a thought, e edits, r answers anew, f forks, [ and ] "
    "flip versions, esc goes back.": (
        "{blocks} 进入内容块，↑ 和 ↓ 移动：c 复制，w 写入文件，m 全屏，空格折叠思考，"
        "e 编辑，r 重答，f 分叉，[ 和 ] 切换版本，esc 返回。"
    ),
    "⏎ sends. ⇧⏎ or ^j starts a new line. / begins a command, Tab completes it. @file sends a "
    "text file along. ↑ in an empty composer edits the last message.": (
        "⏎ 发送。⇧⏎ 或 ^j 换行。/ 开始命令，Tab 补全。@文件 附上文本文件。"
        "输入框为空时 ↑ 编辑上一条消息。"
    ),
    # Errors
    "The engine met a fault": "引擎出错了",
    "/restart loads the model anew and asks again": "/restart 重新加载模型并再次提问",
    "The context is full": "上下文已满",
    "{new} starts a new chat; this one stays": "{new} 开始新对话；此对话会保留",
    "The message was not understood": "无法理解这条消息",
    "↑ edits it": "↑ 编辑它",
    "{go_on} continues, {retry} asks again": "{go_on} 继续，{retry} 重新提问",
    "{retry} asks again": "{retry} 重新提问",
    "Kept: this chat, and what you type.": "已保留：此对话和你输入的内容。",
    "{models}: choose another model, or send a message to try again": (
        "{models}：选择其他模型；或发送消息重试"
    ),
    "The model does not fit": "模型放不下",
    "{models}: choose a model that fits": "{models}：选择放得下的模型",
    "{settings}: set the memory limit to {size} or more": (
        "{settings}：把内存上限设为 {size} 或更大"
    ),
    "The download broke off": "下载中断了",
    "Kept: what was downloaded.": "已保留：已下载的部分。",
    "{models}: ⏎ goes on with the download": "{models}：⏎ 继续下载",
    "This chat is not being saved": "此对话没有保存",
    "/export FILE keeps it": "/export FILE 可导出",
    "Kept: all of it, in this window. It is saved as soon as that can be done.": (
        "已保留：全部内容，在此窗口中。一旦可行就会保存。"
    ),
    "The database of chats cannot be written: {why}.": "无法写入对话数据库：{why}。",
    "Details: {path}": "详情：{path}",
    "Kept: the chat; an answer goes on.": "已保留：对话；回答仍在继续。",
    "Make the window larger, or its letters smaller.": "请放大窗口或缩小字体。",
    "The model is not loaded yet.": "模型尚未加载。",
    "Nothing was asked yet: /prompt TEXT shows it for a message.": (
        "还没有提问：/prompt TEXT 可查看某条消息的提示词。"
    ),
    # Plain mode
    "this input is a pipe": "输入来自管道",
    "you: ": "你：",
    "tool: ": "工具：",
    "thought: ": "思考：",
    "qwen3: ": "qwen3：",
    "note: ": "提示：",
    "a new chat": "新对话",
    "thinking on": "已开启思考",
    "thinking off": "已关闭思考",
    "Ctrl-C stops an answer; at the prompt, it ends the chat like Ctrl-D": (
        "Ctrl-C 停止回答；在提示符处则和 Ctrl-D 一样结束对话"
    ),
    # Gauges
    "mem": "内存",
    "experts": "专家",
    "ctx": "上下文",
    # Downloads
    "streams experts": "专家在磁盘",
    "It needs more memory than there is.": "需要的内存超过可用。",
    "All of it needs {needed}; all but {share:.0%} of the experts stay on disk.": (
        "全部需要 {needed}；{share:.0%} 的专家在内存中，其余留在磁盘上。"
    ),
    "It is on its way; ␣ pauses it.": "正在下载；␣ 暂停。",
    "You can go on chatting; ␣ pauses it.": "可以继续聊天；␣ 暂停。",
    "Paused; what came is kept. ⏎ goes on.": "已暂停，已下载的部分会保留。⏎ 继续。",
    "Pause": "暂停",
    "paused": "已暂停",
    "paused, {share:.0%}": "已暂停 {share:.0%}",
    "broke off": "中断",
    "goes on": "继续",
    "connecting…": "连接中…",
    "checking": "校验中",
    "waiting for the network": "等待网络",
    "done": "完成",
    "and {n} more files": "还有 {n} 个文件",
    "{name} is here: {models} loads it.": "{name} 已下载：{models} 可加载。",
    "The download of {name} broke off: {models} says why.": (
        "{name} 的下载中断：{models} 可查看原因。"
    ),
    # Keys and memory
    "Another key": "换键",
    "As it came": "恢复默认",
    "Press the new key; esc leaves it as it is.": "请按新的键；esc 保持不变。",
    "{key} cannot be used": "{key} 不能用",
    "{key} is the key of {name}": "{key} 已用于 {name}",
    "no such action": "没有这个操作",
    "{n} changed": "已改 {n} 个",
    "as they came": "默认",
    "Context": "上下文",
    "Memory limit": "内存上限",
    "For the next load: /restart loads the model anew.": "下次加载时生效：/restart 重新加载模型。",
    "Load the model anew, and ask again what failed": "重新加载模型，并重问失败的问题",
    "Show what the model reads, to the letter; with TEXT, for that message": (
        "逐字显示模型读到的提示词；加 TEXT 则针对该消息"
    ),
    "The prompt · {n:,} tokens": "提示词 · {n:,} 个 token",
    # Tools
    "May this tool run?": "允许运行这个工具吗？",
    "May this tool run? y/n: ": "允许运行这个工具吗？y/n：",
    "y once · a always in this chat · n no · esc stop": (
        "y 仅此一次 · a 此对话中总是 · n 不允许 · esc 停止"
    ),
    "⇥ to answer: yes, always, no": "⇥ 回答：允许、总是、不允许",
    "Yes": "允许",
    "Always": "总是",
    "No": "不允许",
    "Message": "消息",
    "Before a tool runs you are asked: y runs it once, a always in this chat, n does not and "
    "tells the model, esc stops the answer. Tab goes from the composer to the question. Space "
    "on a call opens its result, m shows all of it.": (
        "工具运行前会先问你：y 运行一次，a 在此对话中总是运行，n 不运行并告诉模型，esc 停止回答。"
        "Tab 从输入框回到问题。在调用上按空格展开结果，m 显示全文。"
    ),
    "Stopped: the model went on calling tools.": "已停止：模型一直在调用工具。",
    "{name} cannot call tools: it answers without them.": "{name} 不能调用工具，将直接回答。",
    "⚙ this model cannot call tools": "⚙ 此模型不能调用工具",
    "not run: the input is no terminal, so nobody can be asked": ("未运行：输入不是终端，无人可问"),
}
