"""The chat screen's keys and commands, on top of its picture and of the actions on turns.

The cards that lie over the chat are imported when they are asked for: the first frame is sooner.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType

from qwen3_mlx_app.tui.attachments import AttachmentError, missing_files, with_attachments
from qwen3_mlx_app.tui.budgets import budget_name, next_budget
from qwen3_mlx_app.tui.commands import Command, Unknown, parse
from qwen3_mlx_app.tui.describe import describe
from qwen3_mlx_app.tui.keymap import DEFAULTS, label, say
from qwen3_mlx_app.tui.language import t
from qwen3_mlx_app.tui.screens.choices import Choices
from qwen3_mlx_app.tui.screens.drawn import FOOTER
from qwen3_mlx_app.tui.state import VIEWS, Phase, View
from qwen3_mlx_app.tui.text import clean
from qwen3_mlx_app.tui.widgets.approval import Approval
from qwen3_mlx_app.tui.widgets.composer import Composer
from qwen3_mlx_app.tui.widgets.header import HeaderBar
from qwen3_mlx_app.tui.widgets.note import NoticeLine
from qwen3_mlx_app.tui.widgets.thought import Thought
from qwen3_mlx_app.tui.widgets.transcript import Transcript

__all__ = ["ChatScreen"]


def _key(which: str, action: str, name: str, tooltip: str) -> Binding:
    """A binding whose keys are in keymap.py, where the settings can change them."""
    return Binding(DEFAULTS[which], action, name, priority=True, tooltip=tooltip, id=which)


class ChatScreen(Choices):
    """Everything the composer's keys and the slash commands ask for (commands.CommandTarget)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", key_display="esc",
                tooltip="Stop the answer, keep its text; un-queue first"),
        _key("think", "think", "Think", "Think before answering"),
        _key("answer_now", "answer_now", "Answer now", "End the thought and answer from it"),
        _key("more_thought", "budget(1)", "More thought", "Think longer: 512 … 8k … ∞"),
        _key("less_thought", "budget(-1)", "Less thought", "Think less"),
        _key("retry", "retry", "Retry", "Answer the last question anew, beside the old answer"),
        _key("go_on", "go_on", "Continue", "Go on with an answer that was cut off"),
        _key("chats", "chats", "Chats", "Find, open, rename and delete chats"),
        _key("models", "models", "Models", "Change the model, and see which ones fit"),
        _key("settings", "settings", "Settings", "Language, theme, sampling, memory, keys"),
        _key("new", "new", "New", "Start a new chat"),
        _key("copy", "copy", "Copy", "Copy the last answer"),
        _key("view", "view", "Fold", "Show thoughts folded, open, or as a line"),
        _key("help", "help", "Help", "Show this help"),
        _key("blocks", "block(-1)", "Blocks", "Go over the blocks of the chat"),
    ]  # fmt: skip

    @on(Composer.Submitted)
    async def submit(self, event: Composer.Submitted) -> None:
        """Run a command, or send the message."""
        parsed = parse(event.text)
        if isinstance(parsed, Unknown):
            self.notice(parsed.message)
            self.composer.put(event.text)
        elif parsed is not None:
            self.obey(*parsed)
        elif event.text or self.pasted:
            self._send(clean(event.text).strip())
        await self.sync()

    def obey(self, command: Command, argument: str = "") -> None:
        """Run a command; one that means nothing alone waits in the composer for the rest."""
        if command.lacks and not argument:
            self.composer.put(f"/{command.name} ")
            self.composer.focus()
            self.notify(f"{command.usage}  {t(command.help)}", timeout=4)
        else:
            command.run(self, argument)

    def _send(self, text: str, thinks: bool | None = None) -> None:
        """Send it with what goes along, as a new message or as another version of an old one."""
        try:
            message = with_attachments(text, self.attachments(text))
        except AttachmentError as error:
            self.notice(str(error))
            self.composer.put(text)
            return
        for name in missing_files(text):
            self.notify(
                t("There is no file {name}: its name alone was sent.", name=name), timeout=6
            )
        self.pasted.clear()
        self.sync_chips("")
        if self.editing is not None:
            turn = self.editing
            self.stop_editing()
            if turn in self.state.turns and not self.state.generating:
                self.session.retry(turn, message)
                return
        self.session.send(message, thinks)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing now are dim, or not there."""
        if action == "stop":
            busy = self.state.generating or self.state.queued is not None
            return True if busy or self.editing is not None or self.pasted else None
        if action == "answer_now":
            turn = self.state.current
            return turn is not None and turn.phase is Phase.THINKING
        return True

    async def action_stop(self) -> None:
        """Leave the editing first, then un-queue, so that the text can be changed, then stop."""
        if self.editing is not None:
            self.stop_editing()
        elif self.pasted and not self.state.generating:
            self.pasted.pop()
            self.sync_chips(self.composer.text)
        else:
            queued = self.session.stop()
            if queued is not None:
                self.take_back(queued)
        await self.sync()

    def action_think(self) -> None:
        """Switch the mode of the next message."""
        self.set_thinking(not self.state.thinking)

    def action_answer_now(self) -> None:
        """End the thought."""
        self.answer_now()

    def action_budget(self, step: int) -> None:
        """The next longer or shorter thinking budget."""
        self.set_budget(next_budget(self.state.budget, step))

    async def action_retry(self) -> None:
        """Answer the last question anew."""
        self.retry()
        await self.sync()

    async def action_go_on(self) -> None:
        """Continue."""
        self.go_on()
        await self.sync()

    async def action_new(self) -> None:
        """Start a new chat."""
        self.new_chat()
        await self.sync()

    def action_copy(self) -> None:
        """Copy the last answer."""
        self.copy_answer()

    async def action_view(self) -> None:
        """Fold, open, line."""
        await self._show_view(self.state.next_view())

    def action_help(self) -> None:
        """Show the help."""
        self.show_help()

    def action_chats(self) -> None:
        """Show the list of chats."""
        self.show_chats()

    def action_models(self) -> None:
        """Show the models."""
        self.show_models()

    def action_settings(self) -> None:
        """Show the settings."""
        self.show_settings()

    def action_block(self, step: int) -> None:
        """Put the block cursor on the last block."""
        if self.state.turns:
            self.transcript.focus()
            self.transcript.action_cursor(step)

    def action_page(self, direction: int) -> None:
        """Scroll the transcript by a page; the bottom holds on to the newest text again."""
        box = self.transcript
        page = direction * box.scrollable_content_region.height
        # At once: put off to the next frame, it would undo what follows a message sent by then.
        box.scroll_to(y=box.scroll_target_y + page, immediate=True)

    # What the commands ask for (see commands.CommandTarget)

    def show_help(self) -> None:
        """A card with every key and command."""
        from qwen3_mlx_app.tui.screens.help import HelpScreen

        calls = (Approval,) if self.state.tools else ()
        widgets = (Composer, Transcript, HeaderBar, Thought, *calls)
        self.app.push_screen(HelpScreen(self._help_keys(), [say(w.HELP or "") for w in widgets]))

    def show_chats(self, search: str = "") -> None:
        """The list of chats."""
        keeper = self.session.keeper
        if keeper.store is None:
            self.notify(t("Chats are not saved: {why}.", why=keeper.trouble), timeout=4)
            return
        from qwen3_mlx_app.tui.screens.chats import ChatsScreen

        self.app.push_screen(ChatsScreen(keeper.store, keeper.chat, search), self._open_chat)

    def _open_chat(self, chosen: int | None) -> None:
        """The list is closed; it may have renamed or deleted the chat on show."""
        self.run_worker(self._show_chat(chosen), group="open", exclusive=True)

    async def _show_chat(self, chosen: int | None) -> None:
        keeper = self.session.keeper
        if chosen is not None and chosen != keeper.chat:
            self._leave_chat()
            if not self.session.open(chosen):
                self.notify(t("This chat cannot be opened."), timeout=4)
            self._clear_notes()
            self.transcript.anchor()
        keeper.refresh()
        await self.sync()
        if keeper.elsewhere:
            self.notice(t("This chat is open in another window: what you say here makes a copy."))

    def new_chat(self) -> None:
        """Leave this chat, keep the model and the settings."""
        self._leave_chat()
        self.session.new()
        self._clear_notes()

    def set_title(self, title: str) -> None:
        """Name this chat."""
        self.session.keeper.rename(clean(title)[:80])

    def set_thinking(self, on: bool) -> None:
        """Set the mode of the messages to come."""
        reason = self.session.set_thinking(on)
        self._tell(reason)
        if reason is None:  # what a model cannot do is no wish of the person's
            self.keep(thinking=on)

    def set_budget(self, budget: int | None) -> None:
        """How long the thoughts to come may be."""
        self.state.budget = budget
        self.keep(budget=budget or 0)
        reason = self.session.set_thinking(True)
        if reason is None:
            self.keep(thinking=True)
        self._tell(reason or t("Thinking budget: {name}", name=budget_name(budget)))

    def answer_now(self) -> None:
        """End the thought that is going on."""
        if not self.session.answer_now():
            self.notify(t("There is no thought to end."), timeout=2)

    def ask(self, text: str, thinks: bool) -> None:
        """Send a message with a mode of its own."""
        self._send(clean(text), thinks)

    def set_system(self, text: str) -> None:
        """The system prompt of the messages to come."""
        self.state.system = text or None
        self.session.keeper.system_changed()
        removed = t("The system prompt is removed.")
        self.notice(t("System prompt: {text}", text=text) if text else removed)

    def show_prompt(self, text: str) -> None:
        """What the model reads, to the letter: for a message, or for the last one."""
        self._fetch_prompt(text)

    @work(exclusive=True, group="prompt")
    async def _fetch_prompt(self, text: str) -> None:
        """A long prompt takes a moment. A thread that calls back would hang when the app ends."""
        try:
            prompt, tokens = await asyncio.to_thread(self.session.prompt, text)
        except Exception as error:
            self.notice(describe(error))
            return
        from qwen3_mlx_app.tui.screens.block import BlockScreen

        async with self.drawing() as may:
            if may:
                title = t("The prompt · {n:,} tokens", n=tokens)
                await self.app.push_screen(BlockScreen(prompt, title))

    def set_view(self, view: str) -> None:
        """How thoughts are shown; without a name, the next way."""
        if view and view not in VIEWS:
            self.notice(t("/thoughts takes one of: {views}", views=", ".join(VIEWS)))
            return
        self.state.view = _as_view(view) if view else self.state.next_view()
        self._redraw_view()

    @work(exclusive=True, group="view")
    async def _redraw_view(self) -> None:
        await self._show_view(self.state.view)

    def quit(self) -> None:
        """Leave the app."""
        self.app.exit()

    # Helpers

    def _clear_notes(self) -> None:
        self.transcript.turns.remove_children(NoticeLine)
        self.transcript.turns.remove_children(".unloaded")

    def _tell(self, reason: str | None) -> None:
        """The new mode in the header, and a word about it if there is one."""
        if reason is not None:
            self.notify(reason, timeout=3)
        self.query_one(HeaderBar).sync(self.state)

    async def _show_view(self, view: View) -> None:
        self.keep(thoughts=view)
        async with self.drawing() as may:
            if may:
                await self.transcript.show_view(self.state, self.session.clock())
        self.notify(t("Thoughts: {view}", view=t(view)), timeout=1.5)

    def _help_keys(self) -> list[tuple[str, str]]:
        """Every binding here that says what it is for, the footer's first."""
        bindings = [active.binding for active in self.active_bindings.values()]
        bindings += [b for key, b in self._bindings if b.action == "answer_now"]
        bindings.sort(key=lambda b: FOOTER.index(b.action) if b.action in FOOTER else len(FOOTER))
        rows: dict[str, str] = {}
        for binding in bindings:
            if binding.tooltip:
                key = label(binding.id, every=True) if binding.id else ""
                key = key or self.app.get_key_display(binding)
                rows.setdefault(t(binding.tooltip), key)
        return [(key, tooltip) for tooltip, key in rows.items()]


def _as_view(name: str) -> View:
    return next(view for view in VIEWS if view == name)
