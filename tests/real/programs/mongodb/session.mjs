// The driver of Node: cursors, a transaction, an error of the server, refused commands, and a refusal.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { MongoClient } = createRequire(process.env.NODE_MODULES + "/")("mongodb");

async function use(url) {
  const client = await new MongoClient(url).connect();
  const items = client.db().collection("from-node");
  assert.equal(client.db().databaseName, "app");
  await items.deleteMany({});
  await items.insertMany(Array.from({ length: 3000 }, (_, number) => ({ _id: number, text: "x".repeat(1000) })));
  let count = 0;
  for await (const item of items.find({}, { batchSize: 400 })) count += item.text.length;
  assert.equal(count, 3_000_000);
  const together = await Promise.all(Array.from({ length: 50 }, (_, n) => items.findOne({ _id: n })));
  assert.deepEqual(together.map((item) => item._id), [...Array(50).keys()]);
  const big = Buffer.alloc(6_000_000, "\r\n\0");
  await items.insertOne({ _id: "big", big });
  assert.deepEqual((await items.findOne({ _id: "big" }, { promoteBuffers: true })).big, big);
  await assert.rejects(items.insertOne({ _id: "big" }), { code: 11000 });
  await client.withSession((session) =>
    session.withTransaction(() => items.insertOne({ _id: "kept" }, { session })));
  assert.equal((await items.findOne({ _id: "kept" }))._id, "kept");
  const admin = client.db("admin");
  for (const command of [{ getParameter: "*" }, { currentOp: 1 }, { createUser: "mine", pwd: "x", roles: [] }]) {
    await assert.rejects(admin.command(command), (error) => error.code === 13 && /^keyward: .* is refused/.test(error.message));
  }
  await assert.rejects(admin.collection("system.users").findOne({}), /keyward: find is refused/);
  await client.close();
}

const url = process.env.MONGODB_URI;
await use(url);
await use(url.replace("&loadBalanced=true", ""));
await use(url.replace("loadBalanced=true", "directConnection=true"));
await assert.rejects(new MongoClient(process.env.REFUSED_URL).connect(), (error) => {
  console.log("refused:", error.message);
  return error.code === 18;
});
console.log("answer: fine");
