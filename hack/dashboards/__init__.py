"""Writes the Grafana dashboards in manifests/monitoring/dashboards, and draws the pictures of them in docs/.

    python -m hack.dashboards             writes the dashboards
    python -m hack.dashboards --check     says which of them is stale, with exit status 1
    python -m hack.dashboards.pictures    draws docs/images/dashboard-*.svg from a world that it runs for some minutes

`model` knows what Grafana wants; `operator`, `workspaces`, `provisioning` and `inference` say what is shown and why.
"""
