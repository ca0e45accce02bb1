// Verifies one webhook, read from standard input as JSON, with the reference library for Node.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const { key, headers, body } = JSON.parse(readFileSync(0, "utf8"));
const webhook = new Webhook(key);
const event = webhook.verify(body, headers);
let refused = false;
try {
  webhook.verify(body.replace("connection", "connexion"), headers);
} catch {
  refused = true;
}
console.log(JSON.stringify({ type: event.type, refused }));
