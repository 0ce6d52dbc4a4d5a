-- Argo CD no longer judges Applications by itself; where Applications are made by an Application and ordered by sync waves, the
-- next wave waits for this.
if obj.status ~= nil and obj.status.health ~= nil and obj.status.health.status ~= nil then
  return { status = obj.status.health.status, message = obj.status.health.message }
end
return { status = "Progressing", message = "not synchronised yet" }
