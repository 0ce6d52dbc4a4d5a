"""CustomResourceDefinitions, without their schemas, which `schema.structural` knows."""

TYPES = """
CustomResourceDefinition
    1 metadata ObjectMeta!
    2 spec CustomResourceDefinitionSpec!
    3 status CustomResourceDefinitionStatus

CustomResourceDefinitionSpec
    1 group string!
    3 names CustomResourceDefinitionNames!
    4 scope string!
    7 versions []CustomResourceDefinitionVersion! atomic
    9 conversion CustomResourceConversion
    10 preserveUnknownFields bool

CustomResourceDefinitionNames
    1 plural string!
    2 singular string
    3 shortNames []string atomic
    4 kind string!
    5 listKind string
    6 categories []string atomic

CustomResourceDefinitionVersion
    1 name string!
    2 served bool!
    3 storage bool!
    4 schema CustomResourceValidation
    5 subresources CustomResourceSubresources
    6 additionalPrinterColumns []CustomResourceColumnDefinition atomic
    7 deprecated bool
    8 deprecationWarning string*
    9 selectableFields []SelectableField atomic

CustomResourceValidation
    1 openAPIV3Schema raw

CustomResourceSubresources
    1 status raw
    2 scale CustomResourceSubresourceScale

CustomResourceSubresourceScale
    1 specReplicasPath string!
    2 statusReplicasPath string!
    3 labelSelectorPath string*

CustomResourceColumnDefinition
    1 name string!
    2 type string!
    3 format string
    4 description string
    5 priority int32
    6 jsonPath string!

SelectableField
    1 jsonPath string!

CustomResourceConversion
    1 strategy string!
    2 webhook raw

CustomResourceDefinitionStatus
    1 conditions []CustomResourceDefinitionCondition by=type
    2 acceptedNames CustomResourceDefinitionNames!
    3 storedVersions []string! atomic
    4 observedGeneration int64

CustomResourceDefinitionCondition
    1 type string!
    2 status string!
    3 lastTransitionTime time
    4 reason string
    5 message string
    6 observedGeneration int64
"""
