# Turns the output of `go test -bench` into one JSON line per figure that has a
# bar: what was measured, the bar, the actual value, and whether it holds.
# The unit is what stands before the slash in "ms/outage".
function unit(key,  parts) { split(key, parts, "[ /]"); return parts[2] }
BEGIN {
  bar["BenchmarkFailoverOutage ms/outage"] = 700
  what["BenchmarkFailoverOutage ms/outage"] = "automatic failover, relay only, TURN killed: median outage"
  bar["BenchmarkFullMesh ms/mesh"] = 2000
  what["BenchmarkFullMesh ms/mesh"] = "30 agents in one process, 435 links: time until all are connected"
  bar["BenchmarkFullMesh MB/mesh"] = 250
  what["BenchmarkFullMesh MB/mesh"] = "30 agents in one process, 435 links: resident memory"
  bar["BenchmarkFullMesh goroutines/left"] = 0
  what["BenchmarkFullMesh goroutines/left"] = "30 agents in one process: goroutines left after close"
  bar["BenchmarkThroughput x/bare-time"] = 1.176
  what["BenchmarkThroughput x/bare-time"] = "delivery of signed 1 KiB messages, one pair: time against bare pion with the same signed bytes"
  bar["BenchmarkRelayEcho ms/echo"] = 20
  what["BenchmarkRelayEcho ms/echo"] = "one verified relay echo, release included, pion: median"
  bar["BenchmarkRelayEchoCoturn ms/echo"] = 20
  what["BenchmarkRelayEchoCoturn ms/echo"] = "one verified relay echo, release included, coturn: median"
  bar["BenchmarkRoundTrips rtt/echo"] = 3.2
  what["BenchmarkRoundTrips rtt/echo"] = "verified relay echo over UDP, coturn behind a fixed delay: round trips"
  bar["BenchmarkHundredEchoes ms/100-echoes"] = 500
  what["BenchmarkHundredEchoes ms/100-echoes"] = "100 verified allocations with echo on one coturn"
  bar["BenchmarkManyServers ms/200-servers"] = 600
  what["BenchmarkManyServers ms/200-servers"] = "200 servers behind 100 ms: time to the last echo"
  bar["BenchmarkManyServers MB/200-servers"] = 60
  what["BenchmarkManyServers MB/200-servers"] = "200 servers behind 100 ms: peak memory of the prober"
  bar["BenchmarkSilentServer ms/verdict"] = 3000
  what["BenchmarkSilentServer ms/verdict"] = "silent server named"
  peer["BenchmarkUclientEcho ms/uclient-echo"] = "for comparison: one echo by turnutils_uclient"
  peer["BenchmarkUclientHundred ms/uclient-100"] = "for comparison: 100 clients of turnutils_uclient"
  bar["BenchmarkFailoverOutage messages/lost"] = 0
  what["BenchmarkFailoverOutage messages/lost"] = "reliable messages lost meanwhile"
  bar["BenchmarkStandbyOutage ms/outage"] = 300
  what["BenchmarkStandbyOutage ms/outage"] = "the same with a standby path: median outage"
  bar["BenchmarkPlannedMove ms/outage"] = 50
  what["BenchmarkPlannedMove ms/outage"] = "planned move off a TURN server: median outage"
  bar["BenchmarkSignalingFailover ms/registered"] = 1500
  what["BenchmarkSignalingFailover ms/registered"] = "signaling primary killed: three agents registered again, links untouched"
  bar["BenchmarkPartition ms/first-message"] = 1000
  what["BenchmarkPartition ms/first-message"] = "partition of 28 s (at a tenth) ends: first message on every link"
  bar["BenchmarkOneWayLoss ms/found"] = 10000
  what["BenchmarkOneWayLoss ms/found"] = "one-way loss found by the side that hears everything, production timing"
  bar["BenchmarkStartVersion ms/start"] = 25
  what["BenchmarkStartVersion ms/start"] = "meshctl version: median wall time"
  bar["BenchmarkTabBash ms/tab"] = 50
  what["BenchmarkTabBash ms/tab"] = "TAB in bash with every server down: median wall time"
  bar["BenchmarkStartComplete ms/start"] = 25
  what["BenchmarkStartComplete ms/start"] = "meshctl __complete: median wall time"
  bar["BenchmarkAppend x/bare"] = 1.5
  what["BenchmarkAppend x/bare"] = "journal append against a bare write and fsync: ratio of medians"
  bar["BenchmarkStatus ms/status"] = 1000
  what["BenchmarkStatus ms/status"] = "meshctl status on a lab that is well: median wall time"
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
    if (key in peer) {
      printf "{\"what\":\"%s\",\"unit\":\"%s\",\"bar\":null,\"actual\":%s,\"ok\":true}\n", peer[key], unit(key), $i
      fflush()
    }
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
