-- Before each request that a workspace sends to the proxy: ask a worker whether the request may go on,
-- and at which address the host was found. The cluster `origin` connects to that address alone.
--
-- Fails closed: without an answer the request is refused, and without an address `origin` has no host.

local SECONDS_OF_A_DECISION = 8

function envoy_on_request(handle)
  local headers = handle:headers()
  local answer, body = handle:httpCall(
    "decider",
    {
      [":method"] = "POST",
      [":path"] = "/",
      [":authority"] = "decider",
      ["x-verb"] = headers:get(":method"),
      ["x-target"] = headers:get(":authority"),
      ["x-organization"] = handle:metadata():get("organization"),
      ["authorization"] = headers:get("proxy-authorization") or "",
    },
    "",
    SECONDS_OF_A_DECISION * 1000
  )
  -- A client's own header of this name must not reach the one that Envoy reads.
  local address = answer["x-address"]
  if answer[":status"] == "200" and address then
    handle:streamInfo():dynamicMetadata():set("molecule.proxy", "address", address)
    return
  end
  local status = answer[":status"]
  local reply = {[":status"] = status}
  if status == "407" then reply["proxy-authenticate"] = 'Basic realm="molecule"' end
  -- 504 and 503 without a body of the worker's are Envoy's own: nobody answered.
  if status == "200" or status == "500" or status == "504" then reply[":status"] = "503" end
  if status == "503" and not (body or ""):find("try again") then body = nil end
  handle:respond(reply, body or "the proxy cannot decide now, try again")
end
