"""The two looks of the app: ink with a violet accent, and paper with the same."""

from __future__ import annotations

from textual.theme import Theme

__all__ = ["DARK", "LIGHT"]

DARK = Theme(
    name="qwen3-dark",
    primary="#9a8cff",
    secondary="#6fb7c9",
    accent="#e0a96d",
    warning="#e5b567",
    error="#f2778a",
    success="#86c98f",
    foreground="#dcdcea",
    background="#15151d",
    surface="#1c1c27",
    panel="#252533",
    dark=True,
    variables={
        "border": "#9a8cff",
        "border-blurred": "#3a3a4f",
        "text-muted": "#8e8ea6",
        "scrollbar": "#34344a",
        "scrollbar-background": "#15151d",
        "scrollbar-background-hover": "#15151d",
        "scrollbar-background-active": "#15151d",
        "scrollbar-hover": "#4a4a68",
        "scrollbar-active": "#9a8cff",
        "input-cursor-background": "#9a8cff",
    },
)

LIGHT = Theme(
    name="qwen3-light",
    primary="#5b4fd1",
    secondary="#1d7389",
    accent="#a8641a",
    warning="#9a6500",
    error="#c02c45",
    success="#2c7a45",
    foreground="#2a2a38",
    background="#fbfaf7",
    surface="#f3f1ec",
    panel="#e8e5de",
    dark=False,
    variables={
        "border": "#5b4fd1",
        "border-blurred": "#cdc9c0",
        "text-muted": "#6d6a78",
        "scrollbar": "#d3cfc6",
        "scrollbar-background": "#fbfaf7",
        "scrollbar-background-hover": "#fbfaf7",
        "scrollbar-background-active": "#fbfaf7",
        "scrollbar-hover": "#b9b4aa",
        "scrollbar-active": "#5b4fd1",
        "input-cursor-background": "#5b4fd1",
    },
)
