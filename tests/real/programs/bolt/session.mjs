// The driver of Node: what applications do in a session, then what they are shown when they may not have one.

import { createRequire } from "node:module";

const require = createRequire(`${process.env.NODE_MODULES}/x.js`);
const neo4j = require(process.env.DRIVER);
const { NEO4J_URI: uri, NEO4J_USERNAME: name, NEO4J_PASSWORD: token } = process.env;

async function use(uri) {
  const driver = neo4j.driver(uri, neo4j.auth.basic(name, token), { disableLosslessIntegers: true });
  await driver.verifyConnectivity();
  const session = driver.session({ fetchSize: 100 });
  const rows = await session.run("UNWIND range(1, $n) AS x RETURN x", { n: neo4j.int(5000) });
  if (rows.records.length !== 5000) throw new Error(`${rows.records.length} rows`);
  const read = await session.executeRead((work) => work.run("RETURN 1 AS x"));
  if (read.records[0].get("x") !== 1) throw new Error("another value");
  try {
    await session.run("SHOW USERS");
    throw new Error("not refused");
  } catch (error) {
    if (error.code !== "Neo.ClientError.Security.Forbidden") throw error;
  }
  await session.close();
  await driver.close();
}

await use(uri);
await use(uri.replace("bolt://", "neo4j://"));
const wrong = neo4j.driver(uri, neo4j.auth.basic(name, "kwa_wrong"));
try {
  await wrong.verifyConnectivity();
} catch (error) {
  console.log("refused:", error.message);
}
await wrong.close();
console.log("answer: fine");
