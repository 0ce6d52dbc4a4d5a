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
