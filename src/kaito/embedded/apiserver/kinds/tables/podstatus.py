"""What kubelets write: pod status, node spec and status."""

TYPES = """
PodStatus
    1 phase string
    2 conditions []PodCondition patch=type by=type
    3 message string
    4 reason string
    5 hostIP string
    6 podIP string
    7 startTime time*
    8 containerStatuses []ContainerStatus atomic
    9 qosClass string
    10 initContainerStatuses []ContainerStatus atomic
    11 nominatedNodeName string
    12 podIPs []PodIP patch=ip by=ip
    13 ephemeralContainerStatuses []ContainerStatus atomic
    14 resize string
    15 resourceClaimStatuses raw
    16 hostIPs []HostIP patch=ip atomic
    17 observedGeneration int64
    18 extendedResourceClaimStatus raw

PodCondition
    1 type string!
    2 status string!
    3 lastProbeTime time!
    4 lastTransitionTime time!
    5 reason string
    6 message string
    7 observedGeneration int64

PodIP
    1 ip string!

HostIP
    1 ip string!

ContainerStatus
    1 name string!
    2 state ContainerState!
    3 lastState ContainerState!
    4 ready bool!
    5 restartCount int32!
    6 image string!
    7 imageID string!
    8 containerID string
    9 started bool*
    10 allocatedResources {}quantity
    11 resources raw
    12 volumeMounts []VolumeMountStatus patch=mountPath by=mountPath
    13 user raw
    14 allocatedResourcesStatus raw
    15 stopSignal string*

VolumeMountStatus
    1 name string!
    2 mountPath string!
    3 readOnly bool
    4 recursiveReadOnly string*

ContainerState
    1 waiting ContainerStateWaiting
    2 running ContainerStateRunning
    3 terminated ContainerStateTerminated

ContainerStateWaiting
    1 reason string
    2 message string

ContainerStateRunning
    1 startedAt time!

ContainerStateTerminated
    1 exitCode int32!
    2 signal int32
    3 reason string
    4 message string
    5 startedAt time!
    6 finishedAt time!
    7 containerID string

Binding
    1 metadata ObjectMeta!
    2 target ObjectReference!

Eviction
    1 metadata ObjectMeta!
    2 deleteOptions DeleteOptions

Node
    1 metadata ObjectMeta!
    2 spec NodeSpec!
    3 status NodeStatus!

NodeSpec
    1 podCIDR string
    2 externalID string
    3 providerID string
    4 unschedulable bool
    5 taints []Taint atomic
    6 configSource raw
    7 podCIDRs []string patch=. set

Taint
    1 key string!
    2 value string
    3 effect string!
    4 timeAdded time*

NodeStatus
    1 capacity {}quantity
    2 allocatable {}quantity
    3 phase string
    4 conditions []NodeCondition patch=type by=type
    5 addresses []NodeAddress patch=type by=type
    6 daemonEndpoints NodeDaemonEndpoints!
    7 nodeInfo NodeSystemInfo!
    8 images []ContainerImage atomic
    9 volumesInUse []string atomic
    10 volumesAttached raw
    11 config raw
    12 runtimeHandlers raw
    13 features raw
    14 declaredFeatures []string atomic

NodeCondition
    1 type string!
    2 status string!
    3 lastHeartbeatTime time!
    4 lastTransitionTime time!
    5 reason string
    6 message string

NodeAddress
    1 type string!
    2 address string!

NodeDaemonEndpoints
    1 kubeletEndpoint DaemonEndpoint!

DaemonEndpoint
    1 Port int32!

ContainerImage
    1 names []string! atomic
    2 sizeBytes int64

NodeSystemInfo
    1 machineID string!
    2 systemUUID string!
    3 bootID string!
    4 kernelVersion string!
    5 osImage string!
    6 containerRuntimeVersion string!
    7 kubeletVersion string!
    8 kubeProxyVersion string!
    9 operatingSystem string!
    10 architecture string!
    11 swap raw
"""
