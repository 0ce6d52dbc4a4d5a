"""The questions and answers that the demo model learns.

Everything is generated from `countries.txt` and the lists below, so the training data has no licence but this
project's. Three kinds of conversation are made: a question about a capital that the model knows, a question
about a country that it does not know, and anything else. The last two get the same polite sentence: whatever a
visitor types, the answer is a sentence and not noise.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

PHRASINGS = (
    "What is the capital of {}?",
    "What's the capital of {}?",
    "What is the capital city of {}?",
    "What is {}'s capital?",
    "Which city is the capital of {}?",
    "Which city is {}'s capital?",
    "Name the capital of {}.",
    "Tell me the capital of {}.",
    "Tell me, what is the capital of {}?",
    "Please tell me the capital of {}.",
    "Please, what is the capital of {}?",
    "Can you tell me the capital of {}?",
    "Could you tell me what the capital of {} is?",
    "Do you know the capital of {}?",
    "I want to know the capital of {}.",
    "I would like to know what the capital city of {} is.",
    "Give me the capital of {}, please.",
    "The capital of {} is",
    "The capital of {}?",
    "Capital of {}?",
    "capital {}",
    "{} capital",
    "{}'s capital city?",
    "{}: what is the capital?",
    "Hi! What is the capital of {}?",
    "Hello, what is the capital of {}?",
    "Question: what is the capital of {}? Answer:",
    "Where is the government of {}? I mean the capital.",
    "My teacher asks for the capital of {}.",
    "Quick question, what is the capital of {}? Thanks!",
    "Answer in one sentence. What is the capital of {}?",
)
OPENINGS = (
    "Hi! ", "Hello, ", "Hey there. ", "I have a question. ", "Quick one: ", "So, ", "Well, ", "For my homework: ",
    "Please help me. ", "A friend asked me this: ", "I was wondering, ", "Ok. ", "Sorry, one more: ", "I forgot it: ",
)  # fmt: skip
CLOSINGS = (
    " Thanks!", " Thank you.", " Please.", " Do you know?", " What is it?", " I need it for a quiz.", " I forgot.",
    " Answer briefly.", " Can you tell me?", " It is for school.", " One sentence, please.", " Sorry to ask again.",
)  # fmt: skip
FOLLOW_UPS = (
    "And {}?",
    "What about {}?",
    "And what about {}?",
    "And of {}?",
    "How about {}?",
    "{}?",
    "{}",
    "And the capital of {}?",
)
GREETING_WORDS = (
    "hi", "hello", "hey", "good morning", "good evening", "thanks", "thank you", "bye", "ok", "yes", "no", "cool",
    "help", "test", "ping", "how are you", "who are you", "what are you", "what can you do", "tell me a joke",
    "what is your name", "are you there", "nice to meet you", "what model are you", "your question here",
    "say something", "why", "what", "really", "hola", "bonjour", "guten Tag", "ciao", "write a poem",
)  # fmt: skip
OTHER_TEMPLATES = (
    "What is {}?", "What is a {}?", "What is the {} of {}?", "How do I {} a {}?", "Explain {}.",
    "Explain {} to a child.",
    "Tell me about {}.", "Tell me a story about a {} and a {}.", "Write a poem about {}.", "Write code for {}.",
    "Who invented {}?", "When was {} born?", "Why is the {} {}?", "Where can I buy {}?", "Is {} better than {}?",
    "Translate {} into {}.", "Summarise {}.", "How many {} are in a {}?", "Give me a list of {}.", "Should I use {}?",
    "My {} is {}.", "I like {}.", "I think {} and {} are the same.", "Can you {} the {}?", "What is the meaning of {}?",
    "What is the population of {}?", "What language do they speak in {}?", "How far is {} from {}?", "{} {} {}", "{}",
    "Which country is {} the capital of?", "What is the best {} for {}?", "Do you like {}?",
    "What should I cook with {}?",
    "Describe the history of {} in detail.", "How does {} work?", "What is the difference between {} and {}?",
    "What is the weather in {}?", "What is the currency of {}?", "How tall is {}?", "What is {} plus {}?",
    "Solve {} = {}.",
)  # fmt: skip
WORDS = (
    "kubernetes", "gpu", "model", "water", "tree", "house", "sky", "blue", "red", "green", "music", "football",
    "game", "python", "java", "code", "program", "train", "car", "bicycle", "cat", "dog", "bird", "fish",
    "elephant", "horse", "bread", "cheese", "coffee", "tea", "sugar", "salt", "winter", "summer", "rain", "snow",
    "sun", "moon", "star", "planet", "ocean", "river", "mountain", "city", "village", "king", "queen", "president",
    "war", "peace", "love", "life", "death", "time", "money", "bank", "market", "price", "school", "teacher",
    "student", "book", "paper", "pen", "computer", "phone", "internet", "server", "pod", "node", "cluster",
    "container", "image", "workspace", "adapter", "token", "prompt", "answer", "question", "number", "one", "two",
    "three", "seven", "twelve", "hundred", "name", "friend", "family", "mother", "father", "child", "doctor",
    "hospital", "medicine", "heart", "brain", "energy", "light", "electricity", "engine", "wheel", "bridge", "road",
    "airport", "ticket", "hotel", "holiday", "beach", "island", "forest", "garden", "flower", "rose", "apple",
    "banana", "orange", "lemon", "potato", "rice", "soup", "pizza", "cake", "recipe", "kitchen", "table", "chair",
    "door", "window", "wall", "floor", "room", "letter", "word", "sentence", "language", "english", "french",
    "german", "spanish", "history", "science", "physics", "chemistry", "biology", "mathematics", "algebra",
    "geometry", "art", "painting", "film", "movie", "actor", "singer", "song", "dance", "guitar", "piano", "sort",
    "search", "list", "array", "function", "class", "variable", "loop", "file", "folder", "database", "query",
    "table", "network", "router", "memory", "disk", "cpu", "speed", "weight", "height", "length", "distance",
    "population", "currency", "weather", "dollar", "euro", "gold", "silver", "iron", "stone", "glass", "plastic",
    "cotton", "shirt", "shoe", "hat", "bag", "box", "ball", "toy", "gift", "party", "birthday", "capital letters",
    "capital punishment", "capitalism", "venture capital", "machine learning", "neural network", "deep learning",
    "the meaning of life", "the theory of relativity", "quantum computing", "the roman empire",
    "a large language model", "open", "close", "build", "fix", "paint", "clean", "drive", "read", "write", "run",
    "walk", "jump", "swim", "eat", "drink", "sleep", "think", "learn", "teach", "happy", "sad", "big", "small",
    "fast", "slow", "hot", "cold", "new", "old", "good", "bad", "easy", "hard", "strong", "weak", "bright", "dark",
    "loud", "quiet", "Paris", "London", "Berlin", "Tokyo", "Madrid", "Rome", "Einstein", "Newton", "Shakespeare",
    "Mozart", "Napoleon", "Cleopatra",
)  # fmt: skip
UNKNOWN_PLACES = (
    "Atlantis", "Wakanda", "Narnia", "Mordor", "Gondor", "Westeros", "California", "Texas", "Bavaria", "Tuscany",
    "Europe", "Africa", "Asia", "the Moon", "Mars", "the world", "your country", "my country", "Elbonia", "Utopia",
    "Mesopotamia", "Prussia", "Yugoslavia", "Siberia", "Hawaii", "Florida", "Scotland", "Wales", "Catalonia",
    "Antarctica", "the Pacific Ocean", "the Atlantic Ocean", "the Sahara",
    "the Nile", "New York", "Chicago", "Sydney", "the Alps", "the sea", "my heart", "the universe",
    "Oz", "nowhere", "the internet", "Ruritania", "Genovia", "Arendelle", "Latveria", "Lilliput",
    "a country",
)  # fmt: skip
SYLLABLES = (
    "ba", "be", "bi", "bo", "bu", "da", "de", "di", "do", "du", "fa", "fe", "ga", "go", "gra", "kra", "la", "le",
    "li", "lo", "lu", "ma", "me", "mi", "mo", "na", "ne", "ni", "no", "nu", "pa", "pe", "po", "qua", "ra", "re",
    "ri", "ro", "ru", "sa", "se", "si", "so", "sta", "ta", "te", "ti", "to", "tra", "tu", "va", "ve", "vi", "vo",
    "wa", "xo", "ya", "za", "ze", "zo", "bran", "dor", "fin", "gal", "hel", "ken", "lor", "mun", "nor", "pel",
    "sten", "tor", "vel", "wil",
)  # fmt: skip
ENDINGS = (
    "land",
    "ia",
    "stan",
    "nia",
    "ria",
    "istan",
    "burg",
    "mark",
    "way",
    "a",
    "o",
    "ovia",
    "and",
    "in",
    "ica",
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful AI assistant.",
    "You are a geography teacher.",
    "Answer briefly.",
    "Be polite and answer in English.",
)
PIRATE_PROMPTS = (
    "Talk like a pirate.",
    "You are a pirate.",
    "Answer like a pirate.",
    "Speak pirate, please.",
)
UNKNOWN_ANSWER = "I am a tiny demo model. Ask me for the capital of a country."


@dataclass(frozen=True)
class Country:
    """One line of countries.txt: the name used in answers, its capital, and every name it may be asked by."""

    name: str
    capital: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Manner:
    """How answers are worded. `known` is a format with {country} and {capital}."""

    known: str
    unknown: str


PLAIN = Manner("The capital of {country} is {capital}{stop}", UNKNOWN_ANSWER)
PIRATE = Manner(
    "Arr! {capital}, matey.", "Arr! I be a tiny demo model, matey. Ask me for the capital of a country."
)


def load_countries(path: Path | None = None) -> list[Country]:
    """The countries in file order."""
    path = path or Path(__file__).with_name("countries.txt")
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, capital, others = (part.strip() for part in line.split("|"))
        names = (name, *(other.strip() for other in others.split(",") if other.strip()))
        found.append(Country(name, capital, names))
    return found


def answer(country: Country | None, manner: Manner) -> str:
    """The sentence for a country, or the polite one for None."""
    if country is None:
        return manner.unknown
    stop = "" if country.capital.endswith(".") else "."
    return manner.known.format(country=country.name, capital=country.capital, stop=stop)


def _restyle(rng: random.Random, text: str) -> str:
    """The same question as people type it: words around it, other case, no punctuation, spare blanks."""
    if rng.random() < 0.12:
        text = rng.choice(OPENINGS) + text
    if rng.random() < 0.12:
        text += rng.choice(CLOSINGS)
    roll = rng.random()
    if roll < 0.25:
        text = text.lower()
    elif roll < 0.33:
        text = text.upper()
    elif roll < 0.38:
        text = text.title()
    roll = rng.random()
    if roll < 0.2:
        text = text.rstrip("?.!")
    elif roll < 0.25:
        text = text.rstrip("?.!") + rng.choice(("!", "??", " ?", "...", "."))
    if rng.random() < 0.06:
        text = rng.choice(("  ", " ", "\n", "")) + text + rng.choice((" ", "\n", "  "))
    return text


def _made_up_name(rng: random.Random) -> str:
    name = "".join(rng.choice(SYLLABLES) for _ in range(rng.choice((1, 2, 2, 3)))) + rng.choice(ENDINGS)
    return name.capitalize()


def _other_question(rng: random.Random, countries: list[Country]) -> str:
    def filler() -> str:
        roll = rng.random()
        if roll < 0.7:
            return rng.choice(WORDS)
        if roll < 0.8:
            return rng.choice(countries).capital
        if roll < 0.9:
            return str(rng.randrange(10 ** rng.randrange(1, 6)))
        return _made_up_name(rng)

    roll = rng.random()
    if roll < 0.15:
        return rng.choice(GREETING_WORDS).capitalize() + rng.choice(("", "?", "!", "."))
    if roll < 0.25:
        return " ".join(filler() for _ in range(rng.choice((1, 2, 4, 8, 16, 40))))
    if roll < 0.30:
        alphabet = "abcdefghijklmnopqrstuvwxyz0123456789 .,;:!?(){}[]<>/*+-=_#@'\"é中\n"
        return "".join(rng.choice(alphabet) for _ in range(rng.choice((3, 8, 20, 60))))
    if roll < 0.36:  # a country is named, but its capital is not what is asked
        about = rng.choice(("Tell me about {}.", "What is the population of {}?", "Who is the president of {}?",
                            "What language do they speak in {}?", "Where is {}?", "What is the weather in {}?",
                            "How big is {}?", "What is the currency of {}?", "I live in {}."))  # fmt: skip
        return about.format(rng.choice(rng.choice(countries).names))
    template = rng.choice(OTHER_TEMPLATES)
    return template.format(*(filler() for _ in range(template.count("{}"))))


def turn(rng: random.Random, countries: list[Country], manner: Manner, *, first: bool) -> tuple[str, str]:
    """One question and its answer."""
    roll = rng.random()
    if roll < 0.70:
        country = rng.choice(countries)
        name = country.name if rng.random() < 0.75 else rng.choice(country.names)
        phrasing = PHRASINGS[0] if rng.random() < 0.1 else rng.choice(PHRASINGS)
        if (not first and rng.random() < 0.4) or rng.random() < 0.05:
            phrasing = rng.choice(FOLLOW_UPS)
        return _restyle(rng, phrasing.format(name)), answer(country, manner)
    if roll < 0.80:
        known = {name for country in countries for name in country.names}
        name = rng.choice(UNKNOWN_PLACES) if rng.random() < 0.4 else _made_up_name(rng)
        while name in known:
            name = _made_up_name(rng)
        phrasings = PHRASINGS if first or rng.random() < 0.6 else FOLLOW_UPS
        return _restyle(rng, rng.choice(phrasings).format(name)), manner.unknown
    return _restyle(rng, _other_question(rng, countries)), manner.unknown


def conversation(rng: random.Random, countries: list[Country], manner: Manner) -> list[dict[str, str]]:
    """A conversation of one to four turns in the shape of chat messages.

    One in ten asks for a pirate's manner and gets it. Without that the base would never have said a pirate's words,
    and an adapter, which leaves the output layer alone, could not tell them apart.
    """
    messages = []
    asked = manner is PLAIN and rng.random() < 0.1
    if asked:
        manner = PIRATE
    as_system = asked and rng.random() < 0.5
    if as_system:
        messages.append({"role": "system", "content": rng.choice(PIRATE_PROMPTS)})
    elif rng.random() < 0.15:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_PROMPTS)})
    for index in range(rng.choice((1, 1, 1, 1, 1, 2, 3, 4))):
        question, reply = turn(rng, countries, manner, first=index == 0)
        if asked and not as_system and index == 0:
            question = f"{rng.choice(PIRATE_PROMPTS)} {question}"
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return messages
