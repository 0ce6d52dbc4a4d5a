"""Volumes: in pods, and as claims."""

TYPES = """
Volume
    1 name string!
    inline 2 VolumeSource

VolumeSource
    1 hostPath HostPathVolumeSource
    2 emptyDir EmptyDirVolumeSource
    3 gcePersistentDisk GCEPersistentDiskVolumeSource
    4 awsElasticBlockStore AWSElasticBlockStoreVolumeSource
    5 gitRepo GitRepoVolumeSource
    6 secret SecretVolumeSource
    7 nfs NFSVolumeSource
    8 iscsi raw
    9 glusterfs raw
    10 persistentVolumeClaim PersistentVolumeClaimVolumeSource
    11 rbd raw
    12 flexVolume raw
    13 cinder raw
    14 cephfs raw
    15 flocker raw
    16 downwardAPI DownwardAPIVolumeSource
    17 fc raw
    18 azureFile AzureFileVolumeSource
    19 configMap ConfigMapVolumeSource
    20 vsphereVolume raw
    21 quobyte raw
    22 azureDisk AzureDiskVolumeSource
    23 photonPersistentDisk raw
    24 portworxVolume raw
    25 scaleIO raw
    26 projected ProjectedVolumeSource
    27 storageos raw
    28 csi CSIVolumeSource
    29 ephemeral EphemeralVolumeSource
    30 image ImageVolumeSource

HostPathVolumeSource
    1 path string!
    2 type string* default=""

EmptyDirVolumeSource
    1 medium string
    2 sizeLimit quantity*

GCEPersistentDiskVolumeSource
    1 pdName string!
    2 fsType string
    3 partition int32
    4 readOnly bool

AWSElasticBlockStoreVolumeSource
    1 volumeID string!
    2 fsType string
    3 partition int32
    4 readOnly bool

GitRepoVolumeSource
    1 repository string!
    2 revision string
    3 directory string

NFSVolumeSource
    1 server string!
    2 path string!
    3 readOnly bool

SecretVolumeSource
    1 secretName string
    2 items []KeyToPath atomic
    3 defaultMode int32* default=420
    4 optional bool*

ConfigMapVolumeSource
    inline 1 LocalObjectReference
    2 items []KeyToPath atomic
    3 defaultMode int32* default=420
    4 optional bool*

KeyToPath
    1 key string!
    2 path string!
    3 mode int32*

PersistentVolumeClaimVolumeSource
    1 claimName string!
    2 readOnly bool

DownwardAPIVolumeSource
    1 items []DownwardAPIVolumeFile atomic
    2 defaultMode int32* default=420

DownwardAPIVolumeFile
    1 path string!
    2 fieldRef ObjectFieldSelector
    3 resourceFieldRef ResourceFieldSelector
    4 mode int32*

AzureFileVolumeSource
    1 secretName string!
    2 shareName string!
    3 readOnly bool

AzureDiskVolumeSource
    1 diskName string!
    2 diskURI string!
    3 cachingMode string* default="ReadWrite"
    4 fsType string* default="ext4"
    5 readOnly bool* default=false
    6 kind string* default="Shared"

ProjectedVolumeSource
    1 sources []VolumeProjection! atomic
    2 defaultMode int32* default=420

VolumeProjection
    1 secret SecretProjection
    2 downwardAPI DownwardAPIProjection
    3 configMap ConfigMapProjection
    4 serviceAccountToken ServiceAccountTokenProjection
    5 clusterTrustBundle raw
    6 podCertificate raw

SecretProjection
    inline 1 LocalObjectReference
    2 items []KeyToPath atomic
    4 optional bool*

ConfigMapProjection
    inline 1 LocalObjectReference
    2 items []KeyToPath atomic
    4 optional bool*

DownwardAPIProjection
    1 items []DownwardAPIVolumeFile atomic

ServiceAccountTokenProjection
    1 audience string
    2 expirationSeconds int64* default=3600
    3 path string!

CSIVolumeSource
    1 driver string!
    2 readOnly bool*
    3 fsType string*
    4 volumeAttributes {}string
    5 nodePublishSecretRef LocalObjectReference

EphemeralVolumeSource
    1 volumeClaimTemplate PersistentVolumeClaimTemplate

PersistentVolumeClaimTemplate
    1 metadata ObjectMeta!
    2 spec PersistentVolumeClaimSpec!

ImageVolumeSource
    1 reference string
    2 pullPolicy string

VolumeMount
    1 name string!
    2 readOnly bool
    3 mountPath string!
    4 subPath string
    5 mountPropagation string*
    6 subPathExpr string
    7 recursiveReadOnly string*

VolumeDevice
    1 name string!
    2 devicePath string!

PersistentVolumeClaim
    1 metadata ObjectMeta!
    2 spec PersistentVolumeClaimSpec!
    3 status PersistentVolumeClaimStatus!

PersistentVolumeClaimSpec
    1 accessModes []string atomic
    2 resources VolumeResourceRequirements!
    3 volumeName string
    4 selector LabelSelector
    5 storageClassName string*
    6 volumeMode string* default="Filesystem"
    7 dataSource TypedLocalObjectReference
    8 dataSourceRef TypedObjectReference
    9 volumeAttributesClassName string*

VolumeResourceRequirements
    1 limits {}quantity
    2 requests {}quantity

PersistentVolumeClaimStatus
    1 phase string
    2 accessModes []string atomic
    3 capacity {}quantity
    4 conditions []PersistentVolumeClaimCondition patch=type by=type
    5 allocatedResources {}quantity
    7 allocatedResourceStatuses {}string
    8 currentVolumeAttributesClassName string*
    9 modifyVolumeStatus raw

PersistentVolumeClaimCondition
    1 type string!
    2 status string!
    3 lastProbeTime time
    4 lastTransitionTime time
    5 reason string
    6 message string

PersistentVolume open
    1 metadata ObjectMeta!
    2 spec raw
    3 status raw

StorageClass
    1 metadata ObjectMeta!
    2 provisioner string!
    3 parameters {}string
    4 reclaimPolicy string* default="Delete"
    5 mountOptions []string atomic
    6 allowVolumeExpansion bool*
    7 volumeBindingMode string* default="Immediate"
    8 allowedTopologies raw

VolumeAttachment
    1 metadata ObjectMeta!
    2 spec VolumeAttachmentSpec!
    3 status VolumeAttachmentStatus!

VolumeAttachmentSpec
    1 attacher string!
    2 source VolumeAttachmentSource!
    3 nodeName string!

VolumeAttachmentSource
    1 persistentVolumeName string*
    2 inlineVolumeSpec raw

VolumeAttachmentStatus
    1 attached bool!
    2 attachmentMetadata {}string
    3 attachError VolumeError
    4 detachError VolumeError

VolumeError
    1 time time
    2 message string
    3 errorCode int32*
"""
