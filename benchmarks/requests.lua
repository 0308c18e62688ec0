-- The requests of wrk: `wrk … -s requests.lua URL -- KIND FIRST COUNT AUTHORIZATION`. Needs one thread; prints a line of JSON.
-- KIND is get, list, stats, create, patch or claim. Job ids are `bench-N` for COUNT numbers from FIRST.
-- AUTHORIZATION is the value of that header of all requests.
local kind, first, count
local plain, json = {}, { ['Content-Type'] = 'application/json' }
local input = '{"text":"' .. ('x'):rep(89) .. '"}'
-- patch starts this many jobs before it completes the first: more than are ever in flight.
local BLOCK = 1000
local sent = -1 -- wrk creates one request that it does not send
local tokens = {}


local function id(n)
  return 'bench-' .. (first + n % count)
end

local requests = {
  get = function(n) return wrk.format('GET', '/v1/jobs/' .. id(n), plain) end,
  list = function() return wrk.format('GET', '/v1/jobs?limit=50', plain) end,
  stats = function() return wrk.format('GET', '/v1/stats', plain) end,
  create = function(n)
    return wrk.format('POST', '/v1/jobs', json, '{"job_id":"' .. id(n) .. '","input_params":' .. input .. '}')
  end,
  patch = function(n)
    local block, within = math.floor(n / (2 * BLOCK)), n % (2 * BLOCK)
    local job = id(block * BLOCK + within % BLOCK)
    local body = within < BLOCK and '{"status":"running"}' or '{"status":"completed","result":' .. input .. '}'
    return wrk.format('PATCH', '/v1/jobs/' .. job, json, body)
  end,
  claim = function()
    local claim = table.remove(tokens)
    if not claim then
      return wrk.format('POST', '/v1/claims', json, '{"queues":["default"],"worker":"wrk"}')
    end
    local headers = { ['Authorization'] = json['Authorization'], ['Lease-Token'] = claim[2] }
    headers['Content-Type'] = 'application/json'
    return wrk.format('PATCH', '/v1/jobs/' .. claim[1], headers, '{"status":"completed","result":{}}')
  end,
}

function request()
  local n = sent
  sent = sent + 1
  return requests[kind](n)
end

local function on_claim(status, _, body)
  local token, job = body:match('"token":"([^"]+)"'), body:match('"job_id":"([^"]+)"')
  if status == 200 and token and job then tokens[#tokens + 1] = { job, token } end
end

function init(args)
  kind, first, count = args[1], tonumber(args[2]), tonumber(args[3])
  plain['Authorization'], json['Authorization'] = args[4], args[4]
  if kind == 'claim' then response = on_claim end -- reading responses slows wrk down
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"error_responses":%d,"failed":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
