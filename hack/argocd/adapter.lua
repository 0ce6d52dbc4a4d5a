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
