-- Made by `python -m hack.argocd` (`make manifests`); change hack/argocd or kaito.api.reasons instead.
-- What every check begins with. Argo CD runs them in Lua 5.1 with nothing but the basic and the table library.

-- Reasons that stay until a person changes something; every other one passes by itself.
local stuck = {
  ClusterNotFound = true,
  GpuNotFound = true,
  InvalidClaim = true,
  InvalidConfiguration = true,
  LaunchFailed = true,
  MultipleNodesFound = true,
  NameTaken = true,
  ProviderNotRegistered = true,
  RegionalQuotaReached = true,
  SKUNotAvailable = true,
  SubscriptionQuotaReached = true,
  Unauthorized = true,
  UnhealthyDependents = true,
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

-- The stages of a claim's life in their order: the first that is not done says how it goes on. The condition Ready only
-- sums them up, and calls a claim unhealthy that is tried again by itself.
local stages = { "Launched", "Registered", "Initialized" }

if obj.metadata.deletionTimestamp ~= nil then
  return answer("Progressing", "being deleted, with its machine")
end
if is(current("Ready"), "True") then
  return answer("Healthy", "the node is ready")
end
for _, type in ipairs(stages) do
  local condition = current(type)
  if condition == nil then
    return answer("Progressing", "waits for " .. type)
  end
  if condition.status ~= "True" then
    if stuck[condition.reason] then
      return answer("Degraded", text(condition))
    end
    return answer("Progressing", text(condition))
  end
end
return answer("Progressing", "waits for Ready")
