"""The embedded API server against the real one: one list of requests, two sets of answers, no unexplained difference.

    corpus/*.yaml     the requests, as scenarios (`scenarios.py`), and `generate.py`, which makes more from a seed
    player.py         sends a scenario to a server over HTTP
    normalise.yaml    what may differ by nature: uids, times, versions (`normalise.py`)
    ledger.yaml       the known differences, each with its reason (`ledger.py`)
    recorded/*.json   the real server's answers, so that the embedded one is held to them where no real one can run

It lives with the tests because it judges this repository's server and is of no use to anybody else's.
"""
