-- Sends the same request again and again, each time with the next access token of a file:
--   wrk -s requests.lua URL -- FILE METHOD [BODY]
local requests, last = {}, 0

function init(arguments)
  wrk.method, wrk.body = arguments[2], arguments[3]
  for token in io.lines(arguments[1]) do
    -- Formatted once: the client must not be slower than the server.
    requests[#requests + 1] = wrk.format(nil, nil, { Authorization = "Token " .. token })
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end
