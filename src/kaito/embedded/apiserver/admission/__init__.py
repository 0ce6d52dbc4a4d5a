"""Admission webhooks, called as kube-apiserver calls them.

A request of this server runs without awaiting anything, so nothing can come between its reads and its write. A webhook
has to be awaited all the same. So where a request needs an answer that it has not got, it is given up, the webhook is
asked, and the request begins anew, on the state of that moment, with the answers so far. What another client wrote in
between is thereby seen as kube-apiserver's retry loop sees it: a webhook is asked again about an object that changed.
"""
