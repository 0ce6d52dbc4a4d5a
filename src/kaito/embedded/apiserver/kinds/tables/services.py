"""Services, their endpoints, and network policies (data only)."""

TYPES = """
Service
    1 metadata ObjectMeta!
    2 spec ServiceSpec!
    3 status ServiceStatus!

ServiceSpec
    1 ports []ServicePort patch=port by=port,protocol
    2 selector {}string atomic
    3 clusterIP string
    4 type string default="ClusterIP"
    5 externalIPs []string atomic
    7 sessionAffinity string default="None"
    8 loadBalancerIP string
    9 loadBalancerSourceRanges []string atomic
    10 externalName string
    11 externalTrafficPolicy string
    12 healthCheckNodePort int32
    13 publishNotReadyAddresses bool
    14 sessionAffinityConfig SessionAffinityConfig
    17 ipFamilyPolicy string*
    18 clusterIPs []string atomic
    19 ipFamilies []string atomic
    20 allocateLoadBalancerNodePorts bool*
    21 loadBalancerClass string*
    22 internalTrafficPolicy string*
    23 trafficDistribution string*

ServicePort
    1 name string
    2 protocol string default="TCP"
    3 port int32!
    4 targetPort intstr
    5 nodePort int32
    6 appProtocol string*

SessionAffinityConfig
    1 clientIP ClientIPConfig

ClientIPConfig
    1 timeoutSeconds int32*

ServiceStatus
    1 loadBalancer LoadBalancerStatus!
    2 conditions []Condition patch=type by=type

LoadBalancerStatus
    1 ingress []LoadBalancerIngress atomic

LoadBalancerIngress
    1 ip string
    2 hostname string
    3 ipMode string*
    4 ports raw

Endpoints
    1 metadata ObjectMeta!
    2 subsets []EndpointSubset atomic

EndpointSubset
    1 addresses []EndpointAddress atomic
    2 notReadyAddresses []EndpointAddress atomic
    3 ports []EndpointPort atomic

EndpointAddress atomic
    1 ip string!
    2 targetRef ObjectReference
    3 hostname string
    4 nodeName string*

EndpointPort atomic
    1 name string
    2 port int32!
    3 protocol string default="TCP"
    4 appProtocol string*

EndpointSlice
    1 metadata ObjectMeta!
    2 endpoints []Endpoint! atomic
    3 ports []SlicePort! atomic
    4 addressType string!

Endpoint
    1 addresses []string! set
    2 conditions EndpointConditions!
    3 hostname string*
    4 targetRef ObjectReference
    5 deprecatedTopology {}string
    6 nodeName string*
    7 zone string*
    8 hints raw

EndpointConditions
    1 ready bool*
    2 serving bool*
    3 terminating bool*

SlicePort atomic
    1 name string* default=""
    2 protocol string* default="TCP"
    3 port int32*
    4 appProtocol string*

NetworkPolicy open
    1 metadata ObjectMeta!
    2 spec raw
"""
