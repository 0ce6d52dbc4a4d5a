"""What a Pod asks for: the spec, containers, probes, scheduling."""

TYPES = """
Pod
    1 metadata ObjectMeta!
    2 spec PodSpec!
    3 status PodStatus!

PodTemplateSpec
    1 metadata ObjectMeta!
    2 spec PodSpec!

PodSpec
    1 volumes []Volume patch=name by=name retain
    2 containers []Container! patch=name by=name
    3 restartPolicy string default="Always"
    4 terminationGracePeriodSeconds int64* default=30
    5 activeDeadlineSeconds int64*
    6 dnsPolicy string default="ClusterFirst"
    7 nodeSelector {}string atomic
    8 serviceAccountName string
    9 serviceAccount string
    10 nodeName string
    11 hostNetwork bool
    12 hostPID bool
    13 hostIPC bool
    14 securityContext PodSecurityContext* default={}
    15 imagePullSecrets []LocalObjectReference patch=name by=name
    16 hostname string
    17 subdomain string
    18 affinity Affinity
    19 schedulerName string default="default-scheduler"
    20 initContainers []Container patch=name by=name
    21 automountServiceAccountToken bool*
    22 tolerations []Toleration atomic
    23 hostAliases []HostAlias patch=ip by=ip
    24 priorityClassName string
    25 priority int32*
    26 dnsConfig PodDNSConfig
    27 shareProcessNamespace bool*
    28 readinessGates []PodReadinessGate atomic
    29 runtimeClassName string*
    30 enableServiceLinks bool*
    31 preemptionPolicy string*
    32 overhead {}quantity
    33 topologySpreadConstraints []TopologySpreadConstraint patch=topologyKey by=topologyKey,whenUnsatisfiable
    34 ephemeralContainers []EphemeralContainer patch=name by=name
    35 setHostnameAsFQDN bool*
    36 os PodOS
    37 hostUsers bool*
    38 schedulingGates []PodSchedulingGate patch=name by=name
    39 resourceClaims []PodResourceClaim patch=name by=name retain
    40 resources ResourceRequirements
    41 hostnameOverride string*

PodOS
    1 name string!

PodSchedulingGate
    1 name string!

PodResourceClaim
    1 name string!
    3 resourceClaimName string*
    4 resourceClaimTemplateName string*

PodReadinessGate
    1 conditionType string!

HostAlias
    1 ip string!
    2 hostnames []string atomic

PodDNSConfig
    1 nameservers []string atomic
    2 searches []string atomic
    3 options []PodDNSConfigOption atomic

PodDNSConfigOption
    1 name string
    2 value string*

Toleration
    1 key string
    2 operator string
    3 value string
    4 effect string
    5 tolerationSeconds int64*

TopologySpreadConstraint
    1 maxSkew int32!
    2 topologyKey string!
    3 whenUnsatisfiable string!
    4 labelSelector LabelSelector
    5 minDomains int32*
    6 nodeAffinityPolicy string*
    7 nodeTaintsPolicy string*
    8 matchLabelKeys []string atomic

PodSecurityContext
    1 seLinuxOptions SELinuxOptions
    2 runAsUser int64*
    3 runAsNonRoot bool*
    4 supplementalGroups []int64 atomic
    5 fsGroup int64*
    6 runAsGroup int64*
    7 sysctls []Sysctl atomic
    8 windowsOptions raw
    9 fsGroupChangePolicy string*
    10 seccompProfile SeccompProfile
    11 appArmorProfile AppArmorProfile
    12 supplementalGroupsPolicy string*
    13 seLinuxChangePolicy string*

Sysctl
    1 name string!
    2 value string!

SELinuxOptions
    1 user string
    2 role string
    3 type string
    4 level string

SeccompProfile
    1 type string!
    2 localhostProfile string*

AppArmorProfile
    1 type string!
    2 localhostProfile string*

SecurityContext
    1 capabilities Capabilities
    2 privileged bool*
    3 seLinuxOptions SELinuxOptions
    4 runAsUser int64*
    5 runAsNonRoot bool*
    6 readOnlyRootFilesystem bool*
    7 allowPrivilegeEscalation bool*
    8 runAsGroup int64*
    9 procMount string*
    10 windowsOptions raw
    11 seccompProfile SeccompProfile
    12 appArmorProfile AppArmorProfile

Capabilities
    1 add []string atomic
    2 drop []string atomic

Affinity
    1 nodeAffinity NodeAffinity
    2 podAffinity PodAffinity
    3 podAntiAffinity PodAntiAffinity

NodeAffinity
    1 requiredDuringSchedulingIgnoredDuringExecution NodeSelector
    2 preferredDuringSchedulingIgnoredDuringExecution []PreferredSchedulingTerm atomic

NodeSelector atomic
    1 nodeSelectorTerms []NodeSelectorTerm! atomic

NodeSelectorTerm atomic
    1 matchExpressions []NodeSelectorRequirement atomic
    2 matchFields []NodeSelectorRequirement atomic

NodeSelectorRequirement
    1 key string!
    2 operator string!
    3 values []string atomic

PreferredSchedulingTerm
    1 weight int32!
    2 preference NodeSelectorTerm!

PodAffinity
    1 requiredDuringSchedulingIgnoredDuringExecution []PodAffinityTerm atomic
    2 preferredDuringSchedulingIgnoredDuringExecution []WeightedPodAffinityTerm atomic

PodAntiAffinity
    1 requiredDuringSchedulingIgnoredDuringExecution []PodAffinityTerm atomic
    2 preferredDuringSchedulingIgnoredDuringExecution []WeightedPodAffinityTerm atomic

PodAffinityTerm
    1 labelSelector LabelSelector
    2 namespaces []string atomic
    3 topologyKey string!
    4 namespaceSelector LabelSelector
    5 matchLabelKeys []string atomic
    6 mismatchLabelKeys []string atomic

WeightedPodAffinityTerm
    1 weight int32!
    2 podAffinityTerm PodAffinityTerm!

Container
    1 name string!
    2 image string
    3 command []string atomic
    4 args []string atomic
    5 workingDir string
    6 ports []ContainerPort patch=containerPort by=containerPort,protocol
    7 env []EnvVar patch=name by=name
    8 resources ResourceRequirements!
    9 volumeMounts []VolumeMount patch=mountPath by=mountPath
    10 livenessProbe Probe
    11 readinessProbe Probe
    12 lifecycle Lifecycle
    13 terminationMessagePath string default="/dev/termination-log"
    14 imagePullPolicy string
    15 securityContext SecurityContext
    16 stdin bool
    17 stdinOnce bool
    18 tty bool
    19 envFrom []EnvFromSource atomic
    20 terminationMessagePolicy string default="File"
    21 volumeDevices []VolumeDevice patch=devicePath by=devicePath
    22 startupProbe Probe
    23 resizePolicy []ContainerResizePolicy atomic
    24 restartPolicy string*
    25 restartPolicyRules []ContainerRestartRule atomic

EphemeralContainer
    inline 1 Container
    2 targetContainerName string

ContainerRestartRule
    1 action string
    2 exitCodes ContainerRestartRuleOnExitCodes

ContainerRestartRuleOnExitCodes
    1 operator string
    2 values []int32 set

ContainerResizePolicy
    1 resourceName string!
    2 restartPolicy string!

ContainerPort
    1 name string
    2 hostPort int32
    3 containerPort int32!
    4 protocol string default="TCP"
    5 hostIP string

EnvVar
    1 name string!
    2 value string
    3 valueFrom EnvVarSource

EnvVarSource
    1 fieldRef ObjectFieldSelector
    2 resourceFieldRef ResourceFieldSelector
    3 configMapKeyRef ConfigMapKeySelector
    4 secretKeyRef SecretKeySelector
    5 fileKeyRef FileKeySelector

FileKeySelector atomic
    1 volumeName string!
    2 path string!
    3 key string!
    4 optional bool*

ObjectFieldSelector atomic
    1 apiVersion string default="v1"
    2 fieldPath string!

ResourceFieldSelector atomic
    1 containerName string
    2 resource string!
    3 divisor quantity default="0"

ConfigMapKeySelector atomic
    inline 1 LocalObjectReference
    2 key string!
    3 optional bool*

SecretKeySelector atomic
    inline 1 LocalObjectReference
    2 key string!
    3 optional bool*

EnvFromSource
    1 prefix string
    2 configMapRef ConfigMapEnvSource
    3 secretRef SecretEnvSource

ConfigMapEnvSource
    inline 1 LocalObjectReference
    2 optional bool*

SecretEnvSource
    inline 1 LocalObjectReference
    2 optional bool*

ResourceRequirements
    1 limits {}quantity
    2 requests {}quantity
    3 claims []ResourceClaim by=name

ResourceClaim
    1 name string!
    2 request string

Lifecycle
    1 postStart LifecycleHandler
    2 preStop LifecycleHandler
    3 stopSignal string*

LifecycleHandler
    1 exec ExecAction
    2 httpGet HTTPGetAction
    3 tcpSocket TCPSocketAction
    4 sleep SleepAction

SleepAction
    1 seconds int64!

ProbeHandler
    1 exec ExecAction
    2 httpGet HTTPGetAction
    3 tcpSocket TCPSocketAction
    4 grpc GRPCAction

Probe
    inline 1 ProbeHandler
    2 initialDelaySeconds int32
    3 timeoutSeconds int32 default=1
    4 periodSeconds int32 default=10
    5 successThreshold int32 default=1
    6 failureThreshold int32 default=3
    7 terminationGracePeriodSeconds int64*

ExecAction
    1 command []string atomic

HTTPGetAction
    1 path string default="/"
    2 port intstr!
    3 host string
    4 scheme string default="HTTP"
    5 httpHeaders []HTTPHeader atomic

HTTPHeader
    1 name string!
    2 value string!

TCPSocketAction
    1 port intstr!
    2 host string

GRPCAction
    1 port int32!
    2 service string* default=""
"""
