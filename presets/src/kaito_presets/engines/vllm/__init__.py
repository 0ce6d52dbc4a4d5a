"""The engine vllm: vLLM's own server, started with a command line made here and with our routes in front of its own.

flags.py: how a setting is written for vLLM. arguments.py: the whole command line. front.py: the routes, inside vLLM's
process; asgi.py: what they are made of. run.py: starts that process and says why it ended. nodes.py: several nodes
that serve one model.
"""
