"""Workloads: apps and batch, and disruption budgets."""

TYPES = """
Deployment
    1 metadata ObjectMeta!
    2 spec DeploymentSpec!
    3 status DeploymentStatus!

DeploymentSpec
    1 replicas int32* default=1
    2 selector LabelSelector
    3 template PodTemplateSpec!
    4 strategy DeploymentStrategy! retain
    5 minReadySeconds int32
    6 revisionHistoryLimit int32* default=10
    7 paused bool
    9 progressDeadlineSeconds int32* default=600

DeploymentStrategy
    1 type string
    2 rollingUpdate RollingUpdateDeployment

RollingUpdateDeployment
    1 maxUnavailable intstr* default="25%"
    2 maxSurge intstr* default="25%"

DeploymentStatus
    1 observedGeneration int64
    2 replicas int32
    3 updatedReplicas int32
    4 availableReplicas int32
    5 unavailableReplicas int32
    6 conditions []DeploymentCondition patch=type by=type
    7 readyReplicas int32
    8 collisionCount int32*
    9 terminatingReplicas int32*

DeploymentCondition
    1 type string!
    2 status string!
    4 reason string
    5 message string
    6 lastUpdateTime time!
    7 lastTransitionTime time!

ReplicaSet
    1 metadata ObjectMeta!
    2 spec ReplicaSetSpec!
    3 status ReplicaSetStatus!

ReplicaSetSpec
    1 replicas int32* default=1
    2 selector LabelSelector
    3 template PodTemplateSpec!
    4 minReadySeconds int32

ReplicaSetStatus
    1 replicas int32!
    2 fullyLabeledReplicas int32
    3 observedGeneration int64
    4 readyReplicas int32
    5 availableReplicas int32
    6 conditions []WorkloadCondition patch=type by=type
    7 terminatingReplicas int32*

WorkloadCondition
    1 type string!
    2 status string!
    3 lastTransitionTime time!
    4 reason string
    5 message string

StatefulSet
    1 metadata ObjectMeta!
    2 spec StatefulSetSpec!
    3 status StatefulSetStatus!

StatefulSetSpec
    1 replicas int32* default=1
    2 selector LabelSelector
    3 template PodTemplateSpec!
    4 volumeClaimTemplates []PersistentVolumeClaimTyped atomic
    5 serviceName string!
    6 podManagementPolicy string default="OrderedReady"
    7 updateStrategy StatefulSetUpdateStrategy!
    8 revisionHistoryLimit int32* default=10
    9 minReadySeconds int32
    10 persistentVolumeClaimRetentionPolicy StatefulSetPVCRetention* default={}
    11 ordinals StatefulSetOrdinals

PersistentVolumeClaimTyped
    0 apiVersion string
    0 kind string
    1 metadata ObjectMeta!
    2 spec PersistentVolumeClaimSpec!
    3 status PersistentVolumeClaimStatus!

StatefulSetUpdateStrategy
    1 type string
    2 rollingUpdate RollingUpdateStatefulSet

RollingUpdateStatefulSet
    1 partition int32*
    2 maxUnavailable intstr*

StatefulSetPVCRetention
    1 whenDeleted string default="Retain"
    2 whenScaled string default="Retain"

StatefulSetOrdinals
    1 start int32!

StatefulSetStatus
    1 observedGeneration int64
    2 replicas int32!
    3 readyReplicas int32
    4 currentReplicas int32
    5 updatedReplicas int32
    6 currentRevision string
    7 updateRevision string
    9 collisionCount int32*
    10 conditions []WorkloadCondition patch=type by=type
    11 availableReplicas int32!

DaemonSet
    1 metadata ObjectMeta!
    2 spec DaemonSetSpec!
    3 status DaemonSetStatus!

DaemonSetSpec
    1 selector LabelSelector
    2 template PodTemplateSpec!
    3 updateStrategy DaemonSetUpdateStrategy!
    4 minReadySeconds int32
    6 revisionHistoryLimit int32* default=10

DaemonSetUpdateStrategy
    1 type string default="RollingUpdate"
    2 rollingUpdate RollingUpdateDaemonSet

RollingUpdateDaemonSet
    1 maxUnavailable intstr*
    2 maxSurge intstr*

DaemonSetStatus
    1 currentNumberScheduled int32!
    2 numberMisscheduled int32!
    3 desiredNumberScheduled int32!
    4 numberReady int32!
    5 observedGeneration int64
    6 updatedNumberScheduled int32
    7 numberAvailable int32
    8 numberUnavailable int32
    9 collisionCount int32*
    10 conditions []WorkloadCondition patch=type by=type

ControllerRevision
    1 metadata ObjectMeta!
    2 data raw
    3 revision int64!

Job
    1 metadata ObjectMeta!
    2 spec JobSpec!
    3 status JobStatus!

JobSpec
    1 parallelism int32*
    2 completions int32*
    3 activeDeadlineSeconds int64*
    4 selector LabelSelector
    5 manualSelector bool*
    6 template PodTemplateSpec!
    7 backoffLimit int32*
    8 ttlSecondsAfterFinished int32*
    9 completionMode string* default="NonIndexed"
    10 suspend bool* default=false
    11 podFailurePolicy PodFailurePolicy
    12 backoffLimitPerIndex int32*
    13 maxFailedIndexes int32*
    14 podReplacementPolicy string*
    15 managedBy string*
    16 successPolicy SuccessPolicy

PodFailurePolicy
    1 rules []PodFailurePolicyRule! atomic

PodFailurePolicyRule
    1 action string!
    2 onExitCodes PodFailureOnExitCodes
    3 onPodConditions []PodFailureOnPodCondition atomic

PodFailureOnExitCodes
    1 containerName string*
    2 operator string!
    3 values []int32! set

PodFailureOnPodCondition
    1 type string!
    2 status string! default="True"

SuccessPolicy
    1 rules []SuccessPolicyRule! atomic

SuccessPolicyRule
    1 succeededIndexes string*
    2 succeededCount int32*

JobStatus
    1 conditions []JobCondition patch=type atomic
    2 startTime time*
    3 completionTime time*
    4 active int32
    5 succeeded int32
    6 failed int32
    7 completedIndexes string
    8 uncountedTerminatedPods UncountedTerminatedPods
    9 ready int32*
    10 failedIndexes string*
    11 terminating int32*

JobCondition
    1 type string!
    2 status string!
    3 lastProbeTime time!
    4 lastTransitionTime time!
    5 reason string
    6 message string

UncountedTerminatedPods
    1 succeeded []string set
    2 failed []string set

JobTemplateSpec
    1 metadata ObjectMeta!
    2 spec JobSpec!

CronJob
    1 metadata ObjectMeta!
    2 spec CronJobSpec!
    3 status CronJobStatus!

CronJobSpec
    1 schedule string!
    2 startingDeadlineSeconds int64*
    3 concurrencyPolicy string default="Allow"
    4 suspend bool* default=false
    5 jobTemplate JobTemplateSpec!
    6 successfulJobsHistoryLimit int32* default=3
    7 failedJobsHistoryLimit int32* default=1
    8 timeZone string*

CronJobStatus
    1 active []ObjectReference atomic
    4 lastScheduleTime time*
    5 lastSuccessfulTime time*

PodDisruptionBudget
    1 metadata ObjectMeta!
    2 spec PodDisruptionBudgetSpec!
    3 status PodDisruptionBudgetStatus!

PodDisruptionBudgetSpec
    1 minAvailable intstr*
    2 selector LabelSelector patch=replace
    3 maxUnavailable intstr*
    4 unhealthyPodEvictionPolicy string*

PodDisruptionBudgetStatus
    1 observedGeneration int64
    2 disruptedPods raw
    3 disruptionsAllowed int32!
    4 currentHealthy int32!
    5 desiredHealthy int32!
    6 expectedPods int32!
    7 conditions []Condition patch=type by=type

Scale
    1 metadata ObjectMeta!
    2 spec ScaleSpec!
    3 status ScaleStatus!

ScaleSpec
    1 replicas int32

ScaleStatus
    1 replicas int32!
    2 selector string
"""
