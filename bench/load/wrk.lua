-- The requests that wrk sends, and its result as one line of JSON.
--   put SIZE_BYTES root|unique SEED   a body never sent before, to / or to a path of its own
--   get FILE                          the paths listed in FILE, one after the other, round and round
-- SEED is 32 hex digits. A body is SEED, the request's number as 16 hex digits, and padding.

local count = 0

local function put(arguments)
  local size, unique, seed = tonumber(arguments[2]), arguments[3] == "unique", arguments[4]
  local padding = string.rep("x", size - 48)
  local headers = " HTTP/1.1\r\nHost: " .. wrk.host .. "\r\nContent-Length: " .. size .. "\r\n\r\n" .. seed
  local root = "PUT /" .. headers
  local format = string.format
  if unique then
    local start = "PUT /" .. seed .. "0000000000000000"
    return function()
      count = count + 1
      local number = format("%016x", count)
      return start .. number .. ".tig" .. headers .. number .. padding
    end
  end
  return function()
    count = count + 1
    return root .. format("%016x", count) .. padding
  end
end

local function get(arguments)
  local requests = {}
  for path in io.lines(arguments[2]) do
    requests[#requests + 1] = "GET " .. path .. " HTTP/1.1\r\nHost: " .. wrk.host .. "\r\n\r\n"
  end
  return function()
    count = count + 1
    if count > #requests then count = 1 end
    return requests[count]
  end
end

function init(arguments)
  request = arguments[1] == "put" and put(arguments) or get(arguments)
end

function request() end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"seconds":%.6f,"requests":%d,"bytes":%d,"p50_ms":%.4f,"p99_ms":%.4f,"max_ms":%.4f,'
      .. '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.duration / 1e6, summary.requests, summary.bytes, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
