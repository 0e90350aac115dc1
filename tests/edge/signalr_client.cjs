// Microsoft's client, told what to do by arguments and heard on standard output, one JSON line per thing that happens.
//   node signalr_client.cjs URL KEY TARGET...      "stop" on standard input stops it
const { HubConnectionBuilder, HttpTransportType, LogLevel } = require("@microsoft/signalr");
const [url, key, ...targets] = process.argv.slice(2);
const say = (what, more) => console.log(JSON.stringify({ what, ...more }));
const connection = new HubConnectionBuilder()
  .withUrl(url, { headers: { "x-api-key": key }, transport: HttpTransportType.WebSockets })
  .withAutomaticReconnect([50, 100, 100, 100])
  .configureLogging(LogLevel.None)
  .build();
connection.keepAliveIntervalInMilliseconds = 200;
connection.serverTimeoutInMilliseconds = 1000;
let count = 0, inOrder = true;
for (const target of targets)
  connection.on(target, (...given) => {
    if (target === "Count") { inOrder &&= given[0] === count; count += 1; return; }
    if (target === "Counted") { say("counted", { count, inOrder }); count = 0; return; }
    say("event", { target, given });
  });
connection.onreconnecting((error) => say("reconnecting", { error: String(error) }));
connection.onreconnected(() => say("reconnected"));
connection.onclose((error) => say("closed", { error: String(error) }));
process.stdin.on("data", async () => { await connection.stop(); process.exit(0); });
connection.start().then(() => say("connected"), (error) => { say("failed", { error: String(error) }); process.exit(0); });
