// ioredis: pipelines, a transaction, blobs, a message, an error of the server, a refused command, and a refusal.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const Redis = createRequire(process.env.NODE_MODULES + "/")("ioredis");

const client = new Redis(process.env.REDIS_URL);
assert.equal(await client.acl("WHOAMI"), "app");
const blob = Buffer.alloc(3_000_000, "\r\n*1\r\n");
await client.set("blob", blob);
assert.deepEqual(await client.getBuffer("blob"), blob);
const pipeline = client.pipeline();
for (let number = 0; number < 1000; number++) pipeline.rpush("from-node", number);
assert.equal((await pipeline.exec()).length, 1000);
const together = await Promise.all(Array.from({ length: 100 }, (_, n) => client.lindex("from-node", n)));
assert.deepEqual(together, [...Array(100).keys()].map(String));
assert.deepEqual(await client.multi().set("a", "1").get("a").exec(), [[null, "OK"], [null, "1"]]);
await assert.rejects(client.incr("from-node"), /WRONGTYPE/);
await assert.rejects(client.config("GET", "requirepass"), /keyward: CONFIG is refused/);

const subscriber = client.duplicate();
const heard = new Promise((resolve) => subscriber.on("message", (_, message) => resolve(message)));
await subscriber.subscribe("news");
await client.publish("news", "here");
assert.equal(await heard, "here");
await subscriber.quit();
await client.quit();

const refused = new Redis(process.env.REFUSED_URL, { lazyConnect: true, retryStrategy: null, maxRetriesPerRequest: 0 });
const errors = [];
refused.on("error", (error) => errors.push(error));
await refused.connect().catch((error) => errors.push(error));
await refused.ping().catch((error) => errors.push(error));
refused.disconnect();
console.log("refused:", errors.map((error) => error.message).join(" | "));
console.log("answer: fine");
