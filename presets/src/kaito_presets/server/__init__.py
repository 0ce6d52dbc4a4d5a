"""The inference server that runs in the pods: `kaito-serve`."""
