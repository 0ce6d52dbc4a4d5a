"""The commands that serve until they are stopped: `kaito operator` and `kaito provisioner`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaito.cli.flags import (
    NODE_PROVISIONER_HELP,
    AksOptions,
    ClaimKinds,
    ExistingSelector,
    Images,
    InitializationTimeout,
    LaunchTimeout,
    PresetRegistry,
    PricesFlag,
    RegistrationTimeout,
    run,
)
from kaito.cli.operator.config import (
    CLAIM_KINDS,
    EXISTING_SELECTOR,
    INITIALIZATION_TIMEOUT,
    LAUNCH_TIMEOUT,
    REGISTRATION_TIMEOUT,
)


def operator(
    kubeconfig: Annotated[Path | None, typer.Option(help="Outside a cluster: the kubeconfig to use.")] = None,
    context: Annotated[
        str | None,
        typer.Option(help="Outside a cluster: the context, by name. There is no default on purpose."),
    ] = None,
    node_provisioner: Annotated[
        str, typer.Option(envvar="NODE_PROVISIONER", help=NODE_PROVISIONER_HELP)
    ] = "machine",
    node_class_group: Annotated[
        str,
        typer.Option(
            envvar="NODE_CLASS_GROUP",
            help="API group of the node class of NodeClaims and NodePools: karpenter.azure.com, karpenter.k8s.aws, …. "
            "Default: as the gpu-provisioner wants it; with karpenter as the cloud's Karpenter does.",
        ),
    ] = "",
    node_class_kind: Annotated[
        str, typer.Option(envvar="NODE_CLASS_KIND", help="Its kind: AKSNodeClass, EC2NodeClass, ….")
    ] = "",
    node_class_name: Annotated[
        str, typer.Option(envvar="NODE_CLASS_NAME", help="Its name. Default: default.")
    ] = "",
    node_class_names: Annotated[
        str,
        typer.Option(
            envvar="NODE_CLASS_NAMES",
            help="With karpenter: other names, with commas between them, that Workspaces may choose by the annotation "
            "kaito.sh/node-class-name.",
        ),
    ] = "",
    cloud: Annotated[
        str, typer.Option(envvar="CLOUD_PROVIDER", help="azure | aws | arc: whose machine sizes are named.")
    ] = "azure",
    cloud_provider: Annotated[
        str,
        typer.Option(
            help="Who makes machines for claims. none: another Karpenter-core compatible controller does. "
            "instant: Node objects of the local mode. existing, aks: as `kaito provisioner` does, in this process."
        ),
    ] = "none",
    existing_selector: ExistingSelector = EXISTING_SELECTOR,
    claim_kinds: ClaimKinds = CLAIM_KINDS,
    aks_options: AksOptions = None,
    launch_timeout: LaunchTimeout = LAUNCH_TIMEOUT,
    registration_timeout: RegistrationTimeout = REGISTRATION_TIMEOUT,
    initialization_timeout: InitializationTimeout = INITIALIZATION_TIMEOUT,
    prices: PricesFlag = None,
    price_region: Annotated[
        str | None,
        typer.Option(
            envvar="LOCATION",
            help="Region of the prices that count. Default: the only one that the file has.",
        ),
    ] = None,
    preset_registry: PresetRegistry = None,
    stand_in_weights: Annotated[
        str,
        typer.Option(
            help="Only for the local mode: the preset whose small weights answer in place of real ones."
        ),
    ] = "",
    held_weights: Annotated[
        str | None,
        typer.Option(
            hidden=True,
            metavar="PRESET,…",
            help="Only for the local mode: the presets whose real weights were downloaded before it started.",
        ),
    ] = None,
    image: Images = None,
    metrics_bind_address: Annotated[
        str, typer.Option(help='Address of /metrics; "0" turns it off.')
    ] = ":8080",
    health_probe_bind_address: Annotated[
        str, typer.Option(help='Address of /healthz and /readyz; "0" turns it off.')
    ] = ":8081",
    leader_elect: Annotated[
        bool, typer.Option(envvar="LEADER_ELECT", help="Only the holder of the Lease reconciles.")
    ] = False,
    log_format: Annotated[str, typer.Option(envvar="LOG_FORMAT", help="json | human")] = "json",
    webhook: Annotated[
        bool | None,
        typer.Option(
            "--webhook/--no-webhook",
            help="Judge Workspaces and Adapters before they are stored. Default: in a pod.",
        ),
    ] = None,
    webhook_bind_address: Annotated[
        str | None,
        typer.Option(help="Address of the webhook. Default: every interface, at port $WEBHOOK_PORT or 9443."),
    ] = None,
    webhook_service: Annotated[
        str,
        typer.Option(envvar="WEBHOOK_SERVICE", help="Service by which the API server reaches the webhook."),
    ] = "kaito-webhook",
    webhook_cert_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with tls.crt and tls.key, as cert-manager fills it. Default: the operator makes its own."
        ),
    ] = None,
    webhook_register: Annotated[
        bool,
        typer.Option(
            "--webhook-register",
            help="Register the webhook under this machine's own address: beside an API server on the same machine.",
        ),
    ] = False,
) -> None:
    """Run the workspace, machine and adapter controllers against a cluster."""
    from kaito.cli.operator.config import OperatorConfig
    from kaito.cli.operator.run import run_operator

    run(
        run_operator(
            OperatorConfig(
                kubeconfig=kubeconfig,
                context=context,
                node_provisioner=node_provisioner,
                node_class_group=node_class_group,
                node_class_kind=node_class_kind,
                node_class_name=node_class_name,
                node_class_names=node_class_names,
                cloud=cloud,
                prices=prices,
                price_region=price_region,
                cloud_provider=cloud_provider,
                existing_selector=existing_selector,
                claim_kinds=claim_kinds,
                aks_options=aks_options,
                launch_timeout=launch_timeout,
                registration_timeout=registration_timeout,
                initialization_timeout=initialization_timeout,
                preset_registry=preset_registry,
                stand_in_weights=stand_in_weights,
                held_weights=held_weights,
                images=tuple(image or ()),
                metrics_bind_address=metrics_bind_address,
                health_probe_bind_address=health_probe_bind_address,
                leader_elect=leader_elect,
                log_format=log_format,
                webhook=webhook,
                webhook_bind_address=webhook_bind_address,
                webhook_service=webhook_service,
                webhook_cert_dir=webhook_cert_dir,
                webhook_register=webhook_register,
            )
        )
    )


def provisioner(
    kubeconfig: Annotated[Path | None, typer.Option(help="Outside a cluster: the kubeconfig to use.")] = None,
    context: Annotated[
        str | None,
        typer.Option(help="Outside a cluster: the context, by name. There is no default on purpose."),
    ] = None,
    cloud_provider: Annotated[
        str,
        typer.Option(
            help="existing: nodes that are there already are lent to claims, and given back. aks: agent pools of an "
            "AKS cluster, which the environment describes (docs/aks.md)."
        ),
    ] = "existing",
    existing_selector: ExistingSelector = EXISTING_SELECTOR,
    claim_kinds: ClaimKinds = CLAIM_KINDS,
    aks_options: AksOptions = None,
    launch_timeout: LaunchTimeout = LAUNCH_TIMEOUT,
    registration_timeout: RegistrationTimeout = REGISTRATION_TIMEOUT,
    initialization_timeout: InitializationTimeout = INITIALIZATION_TIMEOUT,
    metrics_bind_address: Annotated[
        str, typer.Option(help='Address of /metrics; "0" turns it off.')
    ] = ":8080",
    health_probe_bind_address: Annotated[
        str, typer.Option(help='Address of /healthz and /readyz; "0" turns it off.')
    ] = ":8081",
    leader_elect: Annotated[
        bool, typer.Option(envvar="LEADER_ELECT", help="Only the holder of the Lease reconciles.")
    ] = False,
    log_format: Annotated[str, typer.Option(envvar="LOG_FORMAT", help="json | human")] = "json",
) -> None:
    """Run the machine controller alone: it makes Machines and NodeClaims real."""
    from kaito.cli.operator.config import ProvisionerConfig
    from kaito.cli.operator.provisioner import run_provisioner

    run(
        run_provisioner(
            ProvisionerConfig(
                kubeconfig=kubeconfig,
                context=context,
                cloud_provider=cloud_provider,
                existing_selector=existing_selector,
                claim_kinds=claim_kinds,
                aks_options=aks_options,
                launch_timeout=launch_timeout,
                registration_timeout=registration_timeout,
                initialization_timeout=initialization_timeout,
                metrics_bind_address=metrics_bind_address,
                health_probe_bind_address=health_probe_bind_address,
                leader_elect=leader_elect,
                log_format=log_format,
            )
        )
    )
