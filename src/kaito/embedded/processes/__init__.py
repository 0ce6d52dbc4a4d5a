"""Entry points of the processes that `kaito local up` starts, and the lifeline that ends them with it."""
