-- At the head of the chain, for REST and gRPC.
--
-- Headers of a call without a token are bounded here: the workers refuse most of these calls, and would
-- decode up to 60 KiB of headers for each.
--
-- `x-client-trace-id` is what the client sent as `x-request-id`.
--
-- HEAD is GET without the body: the workers know only GET, and `x-head` tells them to stop after the
-- first message of a stream. Stands before the compressor, so that the headers are those of GET.

local KEY = "moleculeai.head"
local MAX_HEADER_BYTES = ${max_stranger_header_bytes}
local MAX_AUTHORIZATION_CHARS = ${max_authorization_chars}

-- Whether the Authorization header has the form of a token; the workers check the token itself.
local function shows_token(headers)
  local shown = headers:get("authorization")
  return shown and #shown <= MAX_AUTHORIZATION_CHARS and shown:find("^%a+ +[^ ]")
end

local function size_of(headers)
  local size = 0
  for name, value in pairs(headers) do size = size + #name + #value end
  return size
end

local function refuse_long_headers(handle, headers)
  -- gRPC knows 401 as UNAUTHENTICATED, and 431 not at all.
  local grpc = (headers:get("content-type") or ""):find("^application/grpc")
  handle:respond(
    {[":status"] = grpc and "401" or "431"},
    "the headers of a call without a token exceed " .. MAX_HEADER_BYTES .. " bytes"
  )
end

-- The id that the client itself gave the request, which goes into logs: without tabs, and without bytes
-- above ASCII, which the workers could not read. Other control characters Envoy has refused.
local function clean_client_id(headers)
  local id = headers:get("x-client-trace-id")
  if not id or not id:find("[^\32-\126]") then return end
  id = id:gsub("[^\32-\126]", "")
  if id == "" then headers:remove("x-client-trace-id") else headers:replace("x-client-trace-id", id) end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  clean_client_id(headers)
  if not shows_token(headers) and size_of(headers) > MAX_HEADER_BYTES then
    refuse_long_headers(handle, headers)
    return
  end
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
