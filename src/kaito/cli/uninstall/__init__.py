"""`kaito uninstall`: first what costs money, then the operator; each waits for the one before."""
