-- POSTs the same body again and again, each time with the next access token of a file:
--   wrk -s requests.lua URL -- FILE [BODY]
local tokens, last = {}, 0

function init(arguments)
  for token in io.lines(arguments[1]) do tokens[#tokens + 1] = token end
  wrk.method, wrk.body = "POST", arguments[2]
end

function request()
  last = last % #tokens + 1
  wrk.headers["Authorization"] = "Token " .. tokens[last]
  return wrk.format()
end
