"""Writes the alerting rules in manifests/monitoring, in the form that each way of monitoring takes.

    python -m hack.alerts             writes the rules
    python -m hack.alerts --check     says which of the files is stale, with exit status 1

`model` knows what a rule is; `workspaces`, `provisioning` and `controllers` say what is watched and why; `files` knows
the forms: a Prometheus rule file, a PrometheusRule, an Azure resource template.
"""
