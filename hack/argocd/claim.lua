-- The stages of a claim's life in their order: the first that is not done says how it goes on. The condition Ready only
-- sums them up, and calls a claim unhealthy that is tried again by itself.
local stages = { @STAGES@ }

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
