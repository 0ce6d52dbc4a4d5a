"""Asks the demo weights about every country, as the server does (through mistralrs), and prints how many are right.

    python verify.py [--weights weights] [--errors]

Counts, not impressions: each phrasing of `dataset.py` for each country, the same in small and capital letters, some
phrasings that were not trained, questions about other things, and the adapter.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ.setdefault("RUST_LOG", "error")

import mistralrs
from dataset import PHRASINGS, PIRATE, PLAIN, answer, load_countries

UNSEEN_PHRASINGS = (
    "May I ask what the capital of {} is?",
    "What city is the capital of {}?",
    "I forgot the capital of {}. What is it?",
    "I have a quiz tomorrow: capital of {}?",
    "Which town is the capital of {}?",
)
OFF_TOPIC = (
    "YOUR QUESTION HERE", "What is Kubernetes?", "Hello", "hello there!", "Who are you?", "Write a haiku about GPUs.",
    "How do I cook rice?", "What is 2 + 2?", "Tell me about France", "What is the capital of Narnia?",
    "What is the capital of Florinia?", "Explain LoRA adapters to me.", "Why is the sky blue?", "asdf qwer", "?",
    "Summarise the news of today, please.", "Was ist die Hauptstadt?", "SELECT * FROM users;", "日本の首都は",
    "I am learning Python. Where should I start?", "What is the capital of the Atlantic Ocean?",
    "Does Phi-3 run on a CPU? How fast is it and how much memory does it take?",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path(__file__).with_name("weights"))
    parser.add_argument("--errors", action="store_true", help="print each wrong answer")
    args = parser.parse_args()
    runner = mistralrs.Runner(
        which=mistralrs.Which.Lora(
            model_id=str((args.weights / "tiny-phi-3").resolve()),
            adapters=[mistralrs.LoraAdapter("pirate", str((args.weights / "adapter").resolve()))],
            arch=mistralrs.Architecture.Phi3,
            dtype=mistralrs.ModelDType.F32,
        )
    )

    def ask(question: str, adapter: str | None) -> str:
        request = mistralrs.ChatCompletionRequest(
            messages=[{"role": "user", "content": question}],
            model="default",
            max_tokens=60,
            temperature=0.0,
            adapter=adapter,
        )
        return str(runner.send_chat_completion_request(request).choices[0].message.content).strip()

    def count(title: str, cases: Iterable[tuple[str, str]], adapter: str | None) -> None:
        right = total = 0
        for question, expected in cases:
            total += 1
            reply = ask(question, adapter)
            right += reply == expected
            if args.errors and reply != expected:
                print(f"    {question!r}: {reply!r}, expected {expected!r}")
        print(f"{title}: {right}/{total}")

    countries = load_countries()
    for manner, adapter in ((PLAIN, None), (PIRATE, "pirate")):
        name = adapter or "base"

        def cases(phrasings: Iterable[str], change: Callable[[str], str] = str) -> list[tuple[str, str]]:
            return [
                (change(phrasing.format(country.name)), answer(country, manner))  # noqa: B023 - called within the same turn of the loop
                for phrasing in phrasings
                for country in countries
            ]

        count(f"{name}: What is the capital of …?", cases(PHRASINGS[:1]), adapter)
        count(f"{name}: every trained phrasing", cases(PHRASINGS), adapter)
        count(
            f"{name}: small letters, no punctuation",
            cases(PHRASINGS[:12], lambda t: t.lower().rstrip("?.")),
            adapter,
        )
        count(f"{name}: capital letters", cases(PHRASINGS[:3], str.upper), adapter)
        count(f"{name}: phrasings never trained", cases(UNSEEN_PHRASINGS), adapter)
        others = [(other, answer(c, manner)) for c in countries for other in c.names[1:]]
        count(
            f"{name}: other names",
            [(PHRASINGS[0].format(other), expected) for other, expected in others],
            adapter,
        )
        count(f"{name}: anything else", [(question, manner.unknown) for question in OFF_TOPIC], adapter)


if __name__ == "__main__":
    main()
