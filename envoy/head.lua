-- HEAD is GET without the body: the workers know only GET, and `x-head` tells them to stop after the
-- first message of a stream. Stands before the compressor, so that the headers are those of GET.

local KEY = "moleculeai.head"

function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get(":method") ~= "HEAD" then return end
  handle:streamInfo():dynamicMetadata():set(KEY, "head", true)
  headers:replace(":method", "GET")
  headers:replace("x-head", "1")
end

function envoy_on_response(handle)
  if not handle:streamInfo():dynamicMetadata():get(KEY) then return end
  local told = handle:headers():get("content-length")
  local body = handle:body(true)
  local length = body:length()
  body:setBytes("")
  -- Reading the body may suspend the script, which invalidates earlier headers: fetch them again.
  local headers = handle:headers()
  if (headers:get("content-type") or ""):find("^text/event-stream") then
    headers:remove("content-length") -- A stream has none.
  else
    headers:replace("content-length", told or tostring(length))
  end
end
