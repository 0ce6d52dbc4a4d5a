"""`kaito plan`: what the controller would make of a file, told by the controller's own rules."""
