"""Metadata and the small types that everything shares."""

TYPES = """
TypeMeta
    1 apiVersion string
    2 kind string

ObjectMeta
    1 name string
    2 generateName string
    3 namespace string
    4 selfLink string
    5 uid string
    6 resourceVersion string
    7 generation int64
    8 creationTimestamp time
    9 deletionTimestamp time*
    10 deletionGracePeriodSeconds int64*
    11 labels {}string
    12 annotations {}string
    13 ownerReferences []OwnerReference patch=uid by=uid
    14 finalizers []string patch=. set
    17 managedFields fieldsv1

OwnerReference atomic
    5 apiVersion string!
    1 kind string!
    3 name string!
    4 uid string!
    6 controller bool*
    7 blockOwnerDeletion bool*

ManagedFieldsEntry
    1 manager string
    2 operation string
    3 apiVersion string
    4 time time*
    6 fieldsType string
    7 fieldsV1 fieldsv1
    8 subresource string

LabelSelector atomic
    1 matchLabels {}string
    2 matchExpressions []LabelSelectorRequirement atomic

LabelSelectorRequirement
    1 key string!
    2 operator string!
    3 values []string atomic

Condition
    1 type string!
    2 status string!
    3 observedGeneration int64
    4 lastTransitionTime time!
    5 reason string!
    6 message string!

Preconditions
    1 uid string*
    2 resourceVersion string*

DeleteOptions
    1 gracePeriodSeconds int64*
    2 preconditions Preconditions
    3 orphanDependents bool*
    4 propagationPolicy string*
    5 dryRun []string atomic
    6 ignoreStoreReadErrorWithClusterBreakingPotential bool*

Opaque open
    1 metadata ObjectMeta!

LocalObjectReference atomic
    1 name string

ObjectReference atomic
    1 kind string
    2 namespace string
    3 name string
    4 uid string
    5 apiVersion string
    6 resourceVersion string
    7 fieldPath string

TypedLocalObjectReference atomic
    1 apiGroup string*
    2 kind string!
    3 name string!

TypedObjectReference
    1 apiGroup string*
    2 kind string!
    3 name string!
    4 namespace string*
"""
