"""Plain core objects: namespaces, configuration, accounts, events, quotas; RBAC data; leases."""

TYPES = """
Namespace
    1 metadata ObjectMeta!
    2 spec NamespaceSpec!
    3 status NamespaceStatus!

NamespaceSpec
    1 finalizers []string atomic

NamespaceStatus
    1 phase string
    2 conditions []NamespaceCondition patch=type by=type

NamespaceCondition
    1 type string!
    2 status string!
    4 lastTransitionTime time
    5 reason string
    6 message string

ConfigMap
    1 metadata ObjectMeta!
    2 data {}string
    3 binaryData {}bytes
    4 immutable bool*

Secret
    1 metadata ObjectMeta!
    2 data {}bytes
    3 type string default="Opaque"
    4 stringData {}string
    5 immutable bool*

ServiceAccount
    1 metadata ObjectMeta!
    2 secrets []ObjectReference patch=name by=name
    3 imagePullSecrets []LocalObjectReference atomic
    4 automountServiceAccountToken bool*

Event
    1 metadata ObjectMeta!
    2 involvedObject ObjectReference!
    3 reason string
    4 message string
    5 source EventSource!
    6 firstTimestamp time!
    7 lastTimestamp time!
    8 count int32
    9 type string
    10 eventTime microtime!
    11 series EventSeries
    12 action string
    13 related ObjectReference
    14 reportingComponent string!
    15 reportingInstance string!

EventSource
    1 component string
    2 host string

EventSeries
    1 count int32
    2 lastObservedTime microtime

EventsV1Event
    1 metadata ObjectMeta!
    2 eventTime microtime!
    3 series EventSeries
    4 reportingController string
    5 reportingInstance string
    6 action string
    7 reason string
    8 regarding ObjectReference!
    9 related ObjectReference
    10 note string
    11 type string
    12 deprecatedSource EventSource!
    13 deprecatedFirstTimestamp time!
    14 deprecatedLastTimestamp time!
    15 deprecatedCount int32

ResourceQuota
    1 metadata ObjectMeta!
    2 spec ResourceQuotaSpec!
    3 status raw

ResourceQuotaSpec
    1 hard {}quantity
    2 scopes []string atomic
    3 scopeSelector raw

Lease
    1 metadata ObjectMeta!
    2 spec LeaseSpec!

LeaseSpec
    1 holderIdentity string*
    2 leaseDurationSeconds int32*
    3 acquireTime microtime*
    4 renewTime microtime*
    5 leaseTransitions int32*
    6 strategy string*
    7 preferredHolder string*

PriorityClass
    1 metadata ObjectMeta!
    2 value int32!
    3 globalDefault bool
    4 description string
    5 preemptionPolicy string* default="PreemptLowerPriority"

PolicyRule
    1 verbs []string! atomic
    2 apiGroups []string atomic
    3 resources []string atomic
    4 resourceNames []string atomic
    5 nonResourceURLs []string atomic

Role
    1 metadata ObjectMeta!
    2 rules []PolicyRule! atomic

ClusterRole
    1 metadata ObjectMeta!
    2 rules []PolicyRule! atomic
    3 aggregationRule AggregationRule

AggregationRule
    1 clusterRoleSelectors []LabelSelector atomic

Subject atomic
    1 kind string!
    2 apiGroup string
    3 name string!
    4 namespace string

RoleRef atomic
    1 apiGroup string!
    2 kind string!
    3 name string!

RoleBinding
    1 metadata ObjectMeta!
    2 subjects []Subject atomic
    3 roleRef RoleRef!

ClusterRoleBinding
    1 metadata ObjectMeta!
    2 subjects []Subject atomic
    3 roleRef RoleRef!

TokenRequest
    1 metadata ObjectMeta!
    2 spec TokenRequestSpec!
    3 status TokenRequestStatus!

TokenRequestSpec
    1 audiences []string! atomic
    3 boundObjectRef BoundObjectReference
    4 expirationSeconds int64*

BoundObjectReference
    1 kind string
    2 apiVersion string
    3 name string
    4 uid string

TokenRequestStatus
    1 token string!
    2 expirationTimestamp time!

SelfSubjectReview
    1 metadata ObjectMeta!
    2 status raw

SelfSubjectAccessReview
    1 metadata ObjectMeta!
    2 spec SelfSubjectAccessReviewSpec!
    3 status raw

SelfSubjectAccessReviewSpec
    1 resourceAttributes ResourceAttributes
    2 nonResourceAttributes NonResourceAttributes

SubjectAccessReview
    1 metadata ObjectMeta!
    2 spec SubjectAccessReviewSpec!
    3 status raw

SubjectAccessReviewSpec
    1 resourceAttributes ResourceAttributes
    2 nonResourceAttributes NonResourceAttributes
    3 user string
    4 groups []string atomic
    5 extra raw
    6 uid string

SelfSubjectRulesReview
    1 metadata ObjectMeta!
    2 spec SelfSubjectRulesReviewSpec!
    3 status raw

SelfSubjectRulesReviewSpec
    1 namespace string

TokenReview
    1 metadata ObjectMeta!
    2 spec TokenReviewSpec!
    3 status raw

TokenReviewSpec
    1 token string
    2 audiences []string atomic

ResourceAttributes
    1 namespace string
    2 verb string
    3 group string
    4 version string
    5 resource string
    6 subresource string
    7 name string
    8 fieldSelector raw
    9 labelSelector raw

NonResourceAttributes
    1 path string
    2 verb string
"""
