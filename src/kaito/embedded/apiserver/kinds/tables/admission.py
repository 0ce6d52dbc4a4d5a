"""Webhook configurations of admissionregistration.k8s.io."""

TYPES = """
ValidatingWebhookConfiguration
    1 metadata ObjectMeta!
    2 webhooks []ValidatingWebhook patch=name by=name

MutatingWebhookConfiguration
    1 metadata ObjectMeta!
    2 webhooks []MutatingWebhook patch=name by=name

ValidatingWebhook
    1 name string!
    2 clientConfig WebhookClientConfig!
    3 rules []RuleWithOperations atomic
    4 failurePolicy string* default="Fail"
    5 namespaceSelector LabelSelector!
    6 sideEffects string*
    7 timeoutSeconds int32* default=10
    8 admissionReviewVersions []string! atomic
    9 matchPolicy string* default="Equivalent"
    10 objectSelector LabelSelector!
    11 matchConditions []MatchCondition patch=name by=name

MutatingWebhook
    1 name string!
    2 clientConfig WebhookClientConfig!
    3 rules []RuleWithOperations atomic
    4 failurePolicy string* default="Fail"
    5 namespaceSelector LabelSelector!
    6 sideEffects string*
    7 timeoutSeconds int32* default=10
    8 admissionReviewVersions []string! atomic
    9 matchPolicy string* default="Equivalent"
    10 reinvocationPolicy string* default="Never"
    11 objectSelector LabelSelector!
    12 matchConditions []MatchCondition patch=name by=name

WebhookClientConfig
    1 service WebhookServiceReference
    2 caBundle bytes
    3 url string*

WebhookServiceReference
    1 namespace string!
    2 name string!
    3 path string*
    4 port int32* default=443

RuleWithOperations
    1 operations []string atomic
    inline 2 Rule

Rule
    1 apiGroups []string atomic
    2 apiVersions []string atomic
    3 resources []string atomic
    4 scope string* default="*"

MatchCondition
    1 name string!
    2 expression string!
"""
