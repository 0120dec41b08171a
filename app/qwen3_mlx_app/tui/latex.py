"""LaTeX as readable Unicode: Greek, signs, fractions, roots, powers. What is unknown stays.

The source is one key away (m on the block shows it), so this need not be perfect, only kind.
"""

from __future__ import annotations

import re

__all__ = ["readable"]

_SIGNS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε",
    "zeta": "ζ", "eta": "η", "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ",
    "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ",
    "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ",
    "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ",
    "Omega": "Ω", "times": "×", "cdot": "·", "div": "÷", "pm": "±", "mp": "∓", "leq": "≤",
    "le": "≤", "geq": "≥", "ge": "≥", "neq": "≠", "ne": "≠", "approx": "≈", "equiv": "≡",
    "sim": "∼", "propto": "∝", "infty": "∞", "sum": "∑", "prod": "∏", "int": "∫",
    "partial": "∂", "nabla": "∇", "in": "∈", "notin": "∉", "subset": "⊂", "subseteq": "⊆",
    "cup": "∪", "cap": "∩", "emptyset": "∅", "forall": "∀", "exists": "∃", "neg": "¬",
    "land": "∧", "wedge": "∧", "lor": "∨", "vee": "∨", "to": "→", "rightarrow": "→",
    "leftarrow": "←", "Rightarrow": "⇒", "implies": "⇒", "iff": "⇔", "mapsto": "↦",
    "ldots": "…", "cdots": "⋯", "dots": "…", "degree": "°", "circ": "∘", "ell": "ℓ",
    "langle": "⟨", "rangle": "⟩", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉",
    "mid": "|", "quad": "  ", "qquad": "    ", "angle": "∠", "perp": "⊥", "parallel": "∥",
}  # fmt: skip
_RAISED = str.maketrans("0123456789+-=()nixyabcdekmt", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣʸᵃᵇᶜᵈᵉᵏᵐᵗ")
_LOWERED = str.maketrans("0123456789+-=()aeijkmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑᵢⱼₖₘₙₒₚᵣₛₜᵤᵥₓ")
_BLACKBOARD = str.maketrans("RNZQCPE", "ℝℕℤℚℂℙ𝔼")

_GROUP = r"\{([^{}]*)\}"
_TEXT = re.compile(rf"\\(?:text|mathrm|mathbf|mathit|operatorname|boxed|mathcal)\s*{_GROUP}")
_BOARD = re.compile(rf"\\mathbb\s*(?:{_GROUP}|([A-Z]))")
_FRACTION = re.compile(rf"\\[dt]?frac\s*{_GROUP}\s*{_GROUP}")
_ROOT = re.compile(rf"\\sqrt\s*(?:\[([^\]]*)\])?\s*{_GROUP}")
_SCRIPT = re.compile(rf"([\^_])(?:{_GROUP}|([^\s(){{}}\\^_]))")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_LAYOUT = re.compile(r"\\(?:left|right|bigl?|bigr|Bigl?|Bigr|displaystyle|limits)(?![A-Za-z])\.?")
_SPACES = re.compile(r"\\[,;:! ]")
#: Between columns of a matrix; an equation that is aligned at = needs one space only.
_COLUMN = re.compile(r"[ \t]*&[ \t]*(=|≤|≥|<|>|≈|≠)?")


def readable(source: str) -> str:
    r"""The formula without its commands, as far as Unicode goes.

    >>> readable(r"\frac{a+b}{2} \leq \sqrt{x^2 + y_{10}}")
    '(a+b)/2 ≤ √(x² + y₁₀)'
    >>> readable(r"x \in \mathbb{R}, \unknown{z}, e^{\alpha w}")
    'x ∈ ℝ, \\unknown{z}, e^(α w)'
    """
    text = _SPACES.sub(" ", _LAYOUT.sub("", source.strip()))
    text = text.replace("\\\\", "\n").replace("\\{", "\ue000").replace("\\}", "\ue001")
    text = _COMMAND.sub(lambda match: _SIGNS.get(match[1], match[0]), text)
    for _ in range(8):  # from the inside out; deeper nesting stays as it is
        before = text
        text = _SCRIPT.sub(_script, text)
        text = _TEXT.sub(r"\1", text)
        text = _BOARD.sub(lambda match: (match[1] or match[2]).translate(_BLACKBOARD), text)
        text = _FRACTION.sub(lambda match: f"{_round(match[1])}/{_round(match[2])}", text)
        text = _ROOT.sub(_root, text)
        if text == before:
            break
    text = _COLUMN.sub(lambda match: f" {match[1]}" if match[1] else "  ", text)
    return text.replace("\ue000", "{").replace("\ue001", "}")


def _script(match: re.Match[str]) -> str:
    """x² where every character has a small form, x^(…) where not."""
    inner = match[2] if match[2] is not None else match[3]
    if "\\" in inner or "^" in inner or "_" in inner:
        return match[0] if match[2] is None else f"{match[1]}({inner})"
    small = inner.replace(" ", "").translate(_RAISED if match[1] == "^" else _LOWERED)
    if inner and not set(small) & set(inner.replace(" ", "")):
        return small
    return f"{match[1]}{_round(inner)}"


def _root(match: re.Match[str]) -> str:
    degree = (match[1] or "").translate(_RAISED)
    return f"{degree}√{_round(match[2])}"


def _round(inner: str) -> str:
    """Brackets around what is more than one name or number."""
    inner = inner.strip()
    return inner if re.fullmatch(r"[\w.]*", inner) else f"({inner})"
