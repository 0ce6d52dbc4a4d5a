"""Speed and memory of `kaito.runtime` beside controller-runtime, client-go, kopf and kubernetes_asyncio.

    python -m bench.runtime [--quick] [--only sync,noop] [--out FILE]

Each module is a bench of its own (`python -m bench.runtime.noop`), with one answer in JSON on standard output and
exit status 1 where a limit was missed. What is compared runs in the same minutes on the same machine, each in a fresh
process; numbers are medians over the runs, ratios are of medians.
"""
