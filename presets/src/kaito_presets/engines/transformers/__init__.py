"""The engine `transformers`: engine.py. (Not imported here: the rules without torch are used without it.)"""
