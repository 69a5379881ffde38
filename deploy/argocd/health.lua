-- How Argo CD tells the health of Tenantry's kinds. The order is that of kstatus.
local left_alone = {Suspended = true, DryRun = true} -- reasons of Ready
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready = conditions["Ready"] or {}

local function health(code, message)
  return {status = code, message = message or ""}
end

local function holds(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", ready.message or "being deleted")
end
if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not looked at this generation yet")
end
if holds("Stalled") then
  return health("Degraded", conditions["Stalled"].message)
end
if holds("Reconciling") then
  return health("Progressing", conditions["Reconciling"].message)
end
if left_alone[ready.reason] then
  return health("Suspended", ready.message)
end
if ready.status == "True" then
  return health("Healthy", ready.message)
end
if ready.status == "False" then
  return health("Degraded", ready.message)
end
return health("Progressing", ready.message or "the operator has not told anything yet")
