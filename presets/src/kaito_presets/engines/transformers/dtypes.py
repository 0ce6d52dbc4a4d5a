"""Which number format the model is computed in: a rule without torch, so that it is tested everywhere.

GPUs below compute capability 8.0 (V100, T4) have no bfloat16 units. Libraries then emulate it, slowly, or fail in the
middle of an answer; float16 has the same size and runs on them, so it is taken instead and the user is told.
"""

from __future__ import annotations

#: Lowest compute capability (major, minor) with bfloat16 arithmetic.
BFLOAT16_CAPABILITY = (8, 0)


def choose(asked: str, weights: str | None, capability: tuple[int, int] | None) -> tuple[str, str | None]:
    """The format's name, and a sentence when it isn't what was asked for.

    `asked` is auto, float32, float16 or bfloat16; `weights` is what config.json says the weights are in (None: it
    doesn't); `capability` is the weakest GPU's compute capability, None on a CPU.
    """
    if capability is None:
        return ("float32" if asked == "auto" else asked), None
    can = capability >= BFLOAT16_CAPABILITY
    if asked == "auto":
        if weights in ("float16", "bfloat16"):
            return (weights if can else "float16"), None
        return ("bfloat16" if can else "float16"), None
    if asked == "bfloat16" and not can:
        return "float16", (
            f"dtype bfloat16 was asked for, but this GPU has compute capability {capability[0]}.{capability[1]}, and "
            "bfloat16 needs 8.0 or higher: float16 is used. Ask for float16, or choose a newer GPU."
        )
    return asked, None
