// Writes canonical.json: message texts and the form that a JavaScript agent
// signs. Run it with: node canonical.js [RANDOM-CASES [SEED]] > canonical.json
"use strict";

const signed = ["id", "timestamp", "level", "source", "destination",
  "payload", "performative", "conversation_id", "sequence_num"];

function canonical(raw) {
  const message = JSON.parse(raw);
  const names = signed.filter((name) => message[name] !== undefined).sort();
  return JSON.stringify(message, names);
}

const cases = [
  ["no field at all", `{}`],
  ["only other fields", `{"a":1,"version":"2.1"}`],
  ["order comes from the list", `{"timestamp":"t","source":"s","id":"i","payload":{"source":1,"id":2}}`],
  ["white space", ` {\n\t"id" : [ 1 , { "level" : 2 } ] ,\r "level" : { } } `],
  ["null fields are there", `{"id":null,"payload":{"id":null},"performative":null}`],
  ["a name is only in the list when the message has it", `{"payload":{"performative":"x","sequence_num":1,"id":2},"id":"m"}`],
  ["duplicate keys: last wins", `{"id":"a","level":1,"id":"b","payload":{"id":1},"payload":{"level":2,"level":3}}`],
  ["duplicate key, one of them escaped", `{"id":"a","\\u0069d":"b"}`],
  ["escaped key", `{"l\\u0065vel":5,"payload":{"\\u0069d":1,"id\\u0000":2}}`],
  ["other case is another key", `{"Id":"a","ID":"b","id":"c","Payload":{},"payload":{"Level":1}}`],
  ["prototype names", `{"__proto__":{"id":"x"},"constructor":1,"id":"y","payload":{"__proto__":{"id":2},"id":3}}`],
  ["arrays of arrays", `{"id":[[],[[]],[[{"x":1}]],[null,true,false,"",0]]}`],
  ["object in an array loses all keys", `{"payload":{"payload":[{"a":1},{"b":2,"id":3},[]]},"id":""}`],
  ["integers", `{"id":[0,-0,1,-1,10,100,1.0,1e0,1E2,1e+2,100e-2,9007199254740991,9007199254740993,-9007199254740993]}`],
  ["large integers", `{"id":[12345678901234567890,100000000000000000000,999999999999999900000,999999999999999999999,1e21,1e22,123e21,1e100]}`],
  ["small numbers", `{"id":[0.1,0.000001,0.0000011,1e-6,1e-7,1.5e-7,123e-9,5e-324,4e-324,2e-324,-1e-7]}`],
  ["fractions", `{"id":[0.1,0.2,0.30000000000000004,1.1,3.14159265358979323846,2.5e10,1234.5678,4.35,0.5,1.7976931348623157e308]}`],
  ["overflow is null", `{"id":[1e999,-1e999,1.8e308],"level":1e400}`],
  ["negative zero", `{"level":-0.0,"sequence_num":-0e5}`],
  ["short escapes", `{"id":"\\b\\t\\n\\f\\r\\"\\\\\\/"}`],
  ["control characters", `{"id":"\\u0000\\u0001\\u0007\\u000b\\u000e\\u001f\\u007f\\u0080\\u009f"}`],
  ["hex in both cases", `{"id":"\\u00E9\\u00e9\\uABCD\\uabcd\\u001F"}`],
  ["html and line separators stay", `{"id":"<>&'\u2028\u2029\\u2028\\u003c"}`],
  ["characters outside ASCII", `{"source":"é☃😀\\ud83d\\ude00\\uD83D\\uDE00\ufeff\ufffe\uffff\ufffd"}`],
  ["lone surrogates", `{"id":["\\ud800","\\udfff","\\ud83dx","x\\ude00","\\ud83d\\ud83d\\ude00","\\ude00\\ud83d","\\uD83D\\u0041","\\uDBFF\\uE000"]}`],
  ["near the surrogates", `{"id":"\\ud7ff\\ue000\ud7ff\ue000"}`],
  ["backslashes before u and quotes", `{"id":"\\\\u0041\\\\\\"\\\\","level":"\\\\\\\\"}`],
  ["brackets in strings", `{"id":"}{][,:","payload":{"x":"{\\"id\\":1}","id":"]"}}`],
  ["payload is no object", `{"payload":"text","id":false,"level":[1]}`],
  ["nested to a hundred", `{"payload":` + `{"payload":[`.repeat(50) + `1` + `]}`.repeat(50) + `}`],
  ["empty strings and keys", `{"":1,"id":"","payload":{"":2}}`],
];

// A fixed generator, so that the file is the same every time.
let state = Number(process.argv[3] || 1);
function random(n) {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return Math.floor((state >>> 8) / 0x1000000 * n);
}
const pick = (list) => list[random(list.length)];

function number() {
  const digits = () => String(random(10 ** (1 + random(6)))) + (random(3) ? "" : String(random(1e9)));
  return pick(["", "-"]) + pick(["0", String(1 + random(9)) + digits()]) +
    pick(["", "", "." + "0".repeat(random(9)) + digits()]) +
    pick(["", "", pick(["e", "E"]) + pick(["", "+", "-"]) + random(pick([3, 30, 330]))]);
}

function string() {
  const parts = ["a", "Z", " ", "é", "☃", "😀", "\u2028", "<", "/", "\\/", "\\\\", "\\\"", "\\n", "\\b", "\u007f"];
  let s = "";
  for (let i = random(6); i > 0; i--) {
    s += random(3) ? pick(parts) : "\\u" + pick(["00", "d8", "dc", "D8", "DF", "20", "ff"]) +
      (random(2) ? "%1".replace("%1", "0" + random(16).toString(16)) : (16 + random(240)).toString(16));
  }
  return `"${s}"`;
}

function value(depth) {
  switch (random(depth > 3 ? 4 : 7)) {
    case 0: return number();
    case 1: case 2: return string();
    case 3: return pick(["true", "false", "null"]);
    case 4: return "[" + Array.from({length: random(4)}, () => value(depth + 1)).join(pick([",", " , "])) + "]";
    default: return object(depth + 1);
  }
}

function object(depth) {
  const keys = Array.from({length: random(6)}, () => random(5) ? JSON.stringify(pick(signed)) : string());
  return "{" + keys.map((key) => key + pick([":", " : "]) + value(depth)).join(",") + "}";
}

for (let i = Number(process.argv[2] || 150); i > 0; i--) cases.push(["random", object(0)]);

console.log(JSON.stringify(cases.map(([name, raw]) => ({name, raw, canonical: canonical(raw)})), null, 1));
