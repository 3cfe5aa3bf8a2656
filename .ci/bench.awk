# Turns the output of `go test -bench` into one JSON line per figure that has a
# bar: what was measured, the bar, the actual value, and whether it holds.
# The unit is what stands before the slash in "ms/outage".
function unit(key,  parts) { split(key, parts, "[ /]"); return parts[2] }
BEGIN {
  bar["BenchmarkFailoverOutage ms/outage"] = 1500
  what["BenchmarkFailoverOutage ms/outage"] = "automatic failover, relay only, TURN killed: median outage"
  bar["BenchmarkRelayEcho ms/echo"] = 50
  what["BenchmarkRelayEcho ms/echo"] = "one verified relay echo: median"
  bar["BenchmarkStartVersion ms/start"] = 25
  what["BenchmarkStartVersion ms/start"] = "meshctl version: median wall time"
  bar["BenchmarkStartComplete ms/start"] = 25
  what["BenchmarkStartComplete ms/start"] = "meshctl __complete: median wall time"
  bar["BenchmarkAppend x/bare"] = 1.5
  what["BenchmarkAppend x/bare"] = "journal append against a bare write and fsync: ratio of medians"
  bar["BenchmarkScanStats x/jq-time"] = 0.333
  what["BenchmarkScanStats x/jq-time"] = "/stats of 100 000 connections read and checked: share of the time of curl and jq, three times"
  bar["BenchmarkScanStats x/body-memory"] = 2.5
  what["BenchmarkScanStats x/body-memory"] = "/stats of 100 000 connections: peak memory against the body"
}
/^Benchmark/ {
  name = $1
  sub(/-[0-9]+$/, "", name)
  for (i = 3; i < NF; i += 2) {
    key = name " " $(i + 1)
    if (key in bar) {
      seen[key] = 1
      ok = ($i + 0 <= bar[key])
      if (!ok) missed = 1
      printf "{\"what\":\"%s\",\"unit\":\"%s\",\"bar\":%s,\"actual\":%s,\"ok\":%s}\n", what[key], unit(key), bar[key], $i, ok ? "true" : "false"
      fflush()
    }
  }
}
/^(FAIL|---? FAIL|panic)/ { print > "/dev/stderr"; missed = 1 }
END {
  for (key in bar) if (!(key in seen)) {
    printf "{\"what\":\"%s\",\"unit\":\"%s\",\"bar\":%s,\"actual\":null,\"ok\":false}\n", what[key], unit(key), bar[key]
    missed = 1
  }
  exit missed
}
