"""`kaito quota`: what a subscription may still start in a region, and which models that is enough for."""
