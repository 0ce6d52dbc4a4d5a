-- Made by `python -m hack.argocd` (`make manifests`); change hack/argocd or kaito.api.reasons instead.
-- What every check begins with. Argo CD runs them in Lua 5.1 with nothing but the basic and the table library.

-- Reasons that stay until a person changes something; every other one passes by itself.
local stuck = {
  AdapterDoesNotFit = true,
  AdapterNameTaken = true,
  AdapterNotFound = true,
  AdapterUnreadable = true,
  AdaptersNotSupported = true,
  ChildRefused = true,
  ClusterNotFound = true,
  ConfigMapNotFound = true,
  ContainerCrashLoopBackOff = true,
  ContainerOOMKilled = true,
  ContainerStartError = true,
  DeprecatedPreset = true,
  GpuNotFound = true,
  ImagePullError = true,
  InstanceTypeMissing = true,
  InsufficientGpuMemory = true,
  InvalidClaim = true,
  InvalidConfiguration = true,
  InvalidImageReference = true,
  InvalidSpec = true,
  LaunchFailed = true,
  LookupFailed = true,
  ModelAccessDenied = true,
  ModelNotFound = true,
  MultipleNodesFound = true,
  NameTaken = true,
  NodeDiskPressure = true,
  NodeMemoryPressure = true,
  NodePoolNotReady = true,
  PartitionNotImplemented = true,
  PodEvicted = true,
  ProviderNotRegistered = true,
  RegionalQuotaReached = true,
  SKUNotAvailable = true,
  SubscriptionQuotaReached = true,
  TuningNotImplemented = true,
  Unauthorized = true,
  UnhealthyDependents = true,
  UnknownInstanceType = true,
  UnknownPreset = true,
  Unschedulable = true,
  UnsupportedInstanceType = true,
  UnsupportedModel = true,
  WeightsDoNotFit = true,
}

local function answer(status, message)
  return { status = status, message = message }
end

local function text(condition)
  local reason = condition.reason or "no reason given"
  if condition.message == nil or condition.message == "" then
    return reason
  end
  return reason .. ": " .. condition.message
end

-- The condition of that type, or nil where there is none or it tells of an older generation of the object.
local function current(type)
  if obj.status == nil or obj.status.conditions == nil then
    return nil
  end
  for _, condition in ipairs(obj.status.conditions) do
    if condition.type == type then
      local seen = condition.observedGeneration
      if seen ~= nil and obj.metadata.generation ~= nil and seen < obj.metadata.generation then
        return nil
      end
      return condition
    end
  end
  return nil
end

local function is(condition, status)
  return condition ~= nil and condition.status == status
end

local ready = current("WorkspaceReady") or current("WorkspaceSucceeded")

if obj.metadata.deletionTimestamp ~= nil then
  local deleting = current("WorkspaceDeleting")
  return answer("Progressing", deleting ~= nil and deleting.message or "being deleted")
end
if is(ready, "True") then
  return answer("Healthy", ready.message)
end
for _, type in ipairs({
  "NodeClaimReady", "NodesReady", "ResourceReady", "InferenceReady", "JobStarted", "WorkspaceReady",
}) do
  local condition = current(type)
  if is(condition, "False") and stuck[condition.reason] then
    return answer("Degraded", text(condition))
  end
end
if ready == nil then
  return answer("Progressing", "the operator has not looked at this version of the Workspace yet")
end
return answer("Progressing", text(ready))
