-- Made by `python -m hack.argocd` (`make manifests`); change hack/argocd or kaito.api.reasons instead.
-- What every check begins with. Argo CD runs them in Lua 5.1 with nothing but the basic and the table library.

-- Reasons that stay until a person changes something; every other one passes by itself.
local stuck = {
  InvalidImageReference = true,
  InvalidSpec = true,
  Unreadable = true,
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

local ready = current("Ready")

if obj.metadata.deletionTimestamp ~= nil then
  return answer("Progressing", "being deleted")
end
if ready == nil then
  return answer("Progressing", "the operator has not read this version of the Adapter yet")
end
if is(ready, "True") then
  return answer("Healthy", ready.message)
end
if stuck[ready.reason] then
  return answer("Degraded", text(ready))
end
return answer("Progressing", text(ready))
