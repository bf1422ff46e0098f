-- The REST face of an RPC: turns the server's response metadata into the status, body and headers
-- that REST clients expect. gRPC calls pass unchanged.
--
-- The server sends, on calls that arrived as REST:
--   x-http-code        the HTTP status
--   x-error-body       the body of an error, percent-encoded JSON
--   x-unwrap           the name of the response's only field: its value becomes the whole body
--   x-content-length   the length in bytes of a streamed body
--   x-marked-integers  texts of a NUL and digits stand for integers

-- Filled in by server/edge/routes.py from the protos. PATHS: verb → patterns of REST paths with the
-- fields that each binds, whether long integers in its body are marked, and whether it takes a body of
-- any length. BOUND: the set of all bound fields.
local PATHS = ${paths}
local BOUND = ${bound}
-- Names of gRPC's codes, for the access log.
local CODES = ${codes}
-- From server/edge/config.py: how a request is refused that a worker would not read.
local TOO_LARGE = ${too_large}
local TOO_LARGE_DETAILS = ${too_large_details}
local MAX_HEADER_BYTES = ${max_header_bytes}
local MAX_REQUEST_BYTES = ${max_request_bytes}

local KEY = "moleculeai.face"
local OURS = {
  "x-http-code", "x-error-body", "x-unwrap", "x-content-length", "x-marked-integers",
}
local OF_GRPC = {
  "grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-encoding", "grpc-accept-encoding",
}
local SECURITY = {
  ["x-content-type-options"] = "nosniff",
  ["x-frame-options"] = "DENY",
  ["strict-transport-security"] = "max-age=31536000; includeSubDomains",
  ["referrer-policy"] = "strict-origin-when-cross-origin",
  ["permissions-policy"] = "camera=(), microphone=(), geolocation=()",
  ["content-security-policy"] = "default-src 'self'",
}

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function quoted(text)
  local escaped = text:gsub('[%c"\\]', function(char)
    return string.format("\\u%04x", char:byte())
  end)
  return '"' .. escaped .. '"'
end

-- Whether a number is an integer from 2^53 on. What is beyond any double the transcoder refuses.
local function is_long(number)
  return #number <= 400 and number:find("^-?%d+$") and math.abs(tonumber(number)) >= 2^53
end

-- What a byte of JSON text is, where no string is open: part of a number, or a quote.
local NUMERIC, QUOTE, BACKSLASH, MAX_HELD = {}, 34, 92, 1024
for char in ("0123456789+-.eE"):gmatch(".") do NUMERIC[char:byte()] = true end

-- Where an RPC takes any JSON, the transcoder makes a double of each number, which changes most long
-- integers. Marks them: a text of a NUL and the digits. Takes a body piece by piece; a number at the
-- end of a piece is held back for the next, unless the number is too long for any mark. A number that
-- begins the body is the whole body: the blank behind it ends it, for the transcoder would wait.
local function marker()
  local in_string, escaped, passed, begun, held = false, false, false, false, ""
  return function(text)
    local open = held ~= "" and 1
    local first = #held + 1
    text = held .. text
    held = ""
    local pieces, copied = {}, 1
    for at = first, #text do
      local byte = text:byte(at)
      if in_string then
        if escaped then
          escaped = false
        elseif byte == BACKSLASH then
          escaped = true
        elseif byte == QUOTE then
          in_string = false
        end
      elseif NUMERIC[byte] then
        open = open or not passed and at
      else
        passed = false
        if open and at - open > 15 then
          local number = text:sub(open, at - 1)
          if is_long(number) then
            pieces[#pieces + 1] = text:sub(copied, open - 1)
            pieces[#pieces + 1] = '"\\u0000' .. number .. '"'
            copied = at
          end
        end
        open = false
        in_string = byte == QUOTE
      end
    end
    if open and not begun and not text:sub(1, open - 1):find("%S") then
      passed, text = true, text .. " "
    end
    begun = begun or text:find("%S") ~= nil
    passed = passed or open and #text - open >= MAX_HELD
    if open and not passed then
      held = text:sub(open)
      text = text:sub(1, open - 1)
    end
    pieces[#pieces + 1] = text:sub(copied)
    return table.concat(pieces)
  end
end

local function mark_integers(handle)
  local marked = marker()
  for piece in handle:bodyChunks() do
    piece:setBytes(marked(piece:getBytes(0, piece:length())))
  end
end

local function unmark_integers(bytes)
  return (bytes:gsub('"\\u0000(%-?%d+)"', "%1"))
end

-- The transcoder lets a query parameter override the path variable of the same name. Accept the
-- parameter only if it repeats the path's value, as existing clients do.
local function repeats_path(verb, path, field, value)
  for _, form in ipairs(PATHS[verb] or {}) do
    local captures = {path:match(form.pattern)}
    -- The transcoder takes the first matching form, too: literal segments precede variables.
    if captures[1] then
      for index, bound in ipairs(form.fields) do
        if bound == field and decoded(captures[index]) ~= value then return false end
      end
      return true
    end
  end
  return false
end

-- The first form of a path with this verb; empty for an unknown path.
local function form_of(verb, path)
  for _, form in ipairs(PATHS[verb] or {}) do
    if path:match(form.pattern) then return form end
  end
  return {}
end

-- The verbs that a path is served with, as an Allow header lists them; empty for an unknown path.
local function allowed(path)
  local verbs = {}
  for verb, forms in pairs(PATHS) do
    for _, form in ipairs(forms) do
      if path:match(form.pattern) then
        verbs[#verbs + 1] = verb
        if verb == "GET" then verbs[#verbs + 1] = "HEAD" end
        break
      end
    end
  end
  table.sort(verbs)
  return table.concat(verbs, ", ")
end

local function contradiction(verb, path, query)
  for pair in query:gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=?(.*)$")
    name = decoded(name)
    -- The transcoder accepts both workspace_id and workspaceId.
    local field = name:gsub("_", ""):lower()
    if BOUND[field] and not repeats_path(verb, path, field, decoded(value)) then return name end
  end
end

-- A gRPC server refuses a whole call over header names that HTTP permits: remove such headers.
-- Returns the size of all headers in bytes.
local function drop_what_grpc_refuses(headers)
  local refused, size = {}, 0
  for name, value in pairs(headers) do
    size = size + #name + #value
    local odd = name:find("[^%w_.-]") and name:sub(1, 1) ~= ":"
    if odd or name:sub(1, 5) == "grpc-" or name:sub(-4) == "-bin" then
      refused[#refused + 1] = name
    end
  end
  for _, name in ipairs(refused) do headers:remove(name) end
  return size
end

-- The transcoder replaces the content type. Where calls without a token pass, the workers judge by
-- it whether a web page may have made a browser send the call.
local function keep_body_type(headers, content_type)
  local length = headers:get("content-length")
  if (length and length ~= "0") or headers:get("transfer-encoding") then
    headers:replace("x-body-type", content_type or "")
  end
end

-- Answers a call whose query names a field of the path otherwise; returns whether it has.
local function refuse_contradiction(handle, verb, path, query)
  -- The transcoder takes a plus for a blank.
  local name = contradiction(verb, path, (query:gsub("%+", "%%20")))
  if not name then return false end
  if allowed(path) == "" then
    handle:respond({[":status"] = "404"}, "not found")
  else
    handle:respond({[":status"] = "400"}, "the query contradicts the path: " .. name)
  end
  return true
end

-- Whether a time limit cannot be read. The connection to a worker is shared, and gRPC's core keeps
-- what it could not read with the header's name: all later limits of that connection would fail.
local function is_broken_limit(limit)
  return limit and not (#limit <= 9 and limit:find("^%d+[HMSmun]$"))
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local content_type = headers:get("content-type")
  -- The same test as the transcoder's: gRPC content types are not transcoded.
  if content_type == "application/grpc"
    or content_type and content_type:sub(1, 17) == "application/grpc+" then
    if is_broken_limit(headers:get("grpc-timeout")) then
      handle:respond({[":status"] = "400"}, "Error parsing 'grpc-timeout' metadata")
    end
    return
  end
  local verb = headers:get(":method")
  local path, query = headers:get(":path"):match("^([^?]*)%??(.*)$")
  -- The answer may have to tell which verbs the path has.
  handle:streamInfo():dynamicMetadata():set(KEY, "rest", verb .. " " .. path)
  if drop_what_grpc_refuses(headers) > MAX_HEADER_BYTES then
    handle:respond({[":status"] = "431"}, "the headers exceed " .. MAX_HEADER_BYTES .. " bytes")
    return
  end
  local form = form_of(verb, path)
  -- The buffer filter, which counts a body, would read 4 MiB of it before it refused.
  if not form.taking and (tonumber(headers:get("content-length") or "") or 0) > MAX_REQUEST_BYTES then
    handle:respond({[":status"] = "413"}, TOO_LARGE)
    return
  end
  if not headers:get("authorization") then keep_body_type(headers, content_type) end
  if query ~= "" and refuse_contradiction(handle, verb, path, query) then return end
  if form.marking then mark_integers(handle) end
end

local function replace_body(handle, change)
  local body = handle:body(true)
  local bytes = change(body:getBytes(0, body:length()))
  -- Reading the body may suspend the script, which invalidates earlier headers: fetch them again.
  if bytes then handle:headers():replace("content-length", body:setBytes(bytes)) end
end

local function answer_error(handle, headers, json)
  headers:replace("content-type", "application/json")
  replace_body(handle, function() return json end)
end

-- The answer of a worker: the value of its only field, if one is named, and its integers as numbers.
local function answer_json(handle, field, marked)
  local opening = field and '{"' .. field .. '":'
  replace_body(handle, function(bytes)
    if marked then bytes = unmark_integers(bytes) end
    if opening and bytes:sub(1, #opening) == opening then bytes = bytes:sub(#opening + 1, -2) end
    return bytes
  end)
end

-- No worker was asked: the transcoder knows no RPC for this verb and path.
local function answer_unknown(handle, headers, request)
  local verb, path = request:match("^(%S+) (.*)$")
  local verbs = allowed(path)
  if verbs == "" or (", " .. verbs .. ","):find(", " .. verb .. ",", 1, true) then
    answer_error(handle, headers, '{"error":"not found"}')
  else
    headers:replace(":status", "405")
    headers:replace("allow", verbs)
    answer_error(handle, headers, '{"error":' .. quoted(verb .. " is not among " .. verbs) .. "}")
  end
end

-- The transcoder could not read the body: say so in a line, without the place in the parser.
local function answer_unreadable(handle)
  replace_body(handle, function(bytes)
    if bytes:find("surrogate", 1, true) then
      return '{"error":"the body holds a lone surrogate, half of a character"}'
    end
    if bytes:find("Root element must be a message", 1, true) then
      return '{"error":"the body must be a JSON object"}'
    end
    local line = bytes:match('^{"error":"(.-)%.?\\n')
    return line and '{"error":"the body is no JSON for this call: ' .. line .. '"}'
  end)
end

-- Whether a worker has refused the message by its length: gRPC says so in a text alone.
local function is_too_large(headers)
  if headers:get("grpc-status") ~= "8" then return false end
  local message = headers:get("grpc-message") or ""
  return message:find("eceived message larger than max", 1, true) ~= nil
    or message:find("eceived%20message%20larger%20than%20max", 1, true) ~= nil
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local too_large = is_too_large(headers)
  local request = (handle:streamInfo():dynamicMetadata():get(KEY) or {})["rest"]
  if not request then
    for _, name in ipairs(OURS) do headers:remove(name) end
    if too_large then
      headers:replace("grpc-message", TOO_LARGE)
      headers:replace("grpc-status-details-bin", TOO_LARGE_DETAILS)
    end
    return
  end
  local code = tonumber(headers:get("x-http-code") or "")
  local error_body = headers:get("x-error-body")
  local field = headers:get("x-unwrap")
  local marked = headers:get("x-marked-integers")
  local length = headers:get("x-content-length")
  local grpc_status = headers:get("grpc-status")
  local grpc_message = headers:get("grpc-message")
  if grpc_status and grpc_status ~= "0" then
    handle:streamInfo():dynamicMetadata():set(KEY, "code", CODES[grpc_status] or "UNKNOWN")
  end
  for _, name in ipairs(OURS) do headers:remove(name) end
  for _, name in ipairs(OF_GRPC) do headers:remove(name) end
  for name, value in pairs(SECURITY) do headers:replace(name, value) end
  if code and code >= 200 and code < 600 then headers:replace(":status", tostring(code)) end
  if error_body then
    answer_error(handle, headers, decoded(error_body))
  elseif too_large then
    headers:replace(":status", "413")
    answer_error(handle, headers, '{"error":' .. quoted(TOO_LARGE) .. "}")
  elseif grpc_status and grpc_status ~= "0" then
    answer_error(handle, headers, '{"error":' .. quoted(decoded(grpc_message or "")) .. "}")
  elseif field or marked then
    answer_json(handle, field, marked)
  elseif not code and not grpc_status and headers:get(":status") == "404" then
    answer_unknown(handle, headers, request)
  elseif not code and not grpc_status and headers:get(":status") == "400" then
    answer_unreadable(handle)
  elseif length then
    -- The transcoder drops the content length of a stream; downloads need the header.
    headers:replace("content-length", length)
  end
end
