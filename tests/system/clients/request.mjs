// A NATS request without credentials, with nothing but Node's own modules: URL SUBJECT PAYLOAD.
import net from "node:net";

const [url, subject, payload] = process.argv.slice(2);
const { hostname, port } = new URL(url);
const socket = net.connect(Number(port), hostname);
socket.setTimeout(10_000, () => process.exit(1));

let received = Buffer.alloc(0);
socket.on("data", (data) => {
  received = Buffer.concat([received, data]);
  for (;;) {
    const end = received.indexOf("\r\n");
    if (end < 0) return;
    const words = received.subarray(0, end).toString().split(/\s+/);
    if (words[0] === "PING") socket.write("PONG\r\n");
    if (words[0] === "INFO") {
      socket.write('CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"lang":"node","version":"1"}\r\n');
      socket.write("SUB _INBOX.node 1\r\n");
      socket.write(`PUB ${subject} _INBOX.node ${Buffer.byteLength(payload)}\r\n${payload}\r\n`);
    }
    if (words[0] === "-ERR") {
      console.error(words.join(" "));
      process.exit(1);
    }
    if (words[0] === "MSG" || words[0] === "HMSG") {
      const size = Number(words.at(-1));
      if (received.length < end + 2 + size) return;
      const headers = words[0] === "HMSG" ? Number(words.at(-2)) : 0;
      console.log(received.subarray(end + 2 + headers, end + 2 + size).toString());
      socket.destroy();
      return;
    }
    received = received.subarray(end + 2);
  }
});
