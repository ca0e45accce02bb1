// node-postgres: a pool, prepared statements, a notification, an error of the server, and a refusal.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const pg = createRequire(process.env.NODE_MODULES + "/")("pg");

const connectionString = process.env.DATABASE_URL;
const pool = new pg.Pool({ connectionString, max: 4 });
assert.equal((await pool.query("SELECT current_user AS who")).rows[0].who, "app");
await pool.query("CREATE TABLE from_node (a int, b jsonb)");
await pool.query("INSERT INTO from_node SELECT n, '{}' FROM generate_series(1, $1::int) n", [5000]);
for (let number = 1; number <= 20; number++) {
  const named = { name: "one", text: "SELECT a FROM from_node WHERE a = $1", values: [number] };
  assert.equal((await pool.query(named)).rows[0].a, number);
}
const together = Array.from({ length: 100 }, (_, n) => pool.query("SELECT $1::int AS n", [n]));
assert.deepEqual((await Promise.all(together)).map((result) => result.rows[0].n), [...Array(100).keys()]);
await assert.rejects(pool.query("SELECT * FROM missing"), { code: "42P01" });

const listener = new pg.Client({ connectionString });
await listener.connect();
const heard = new Promise((resolve) => listener.on("notification", resolve));
await listener.query("LISTEN news");
await pool.query("NOTIFY news, 'here'");
assert.equal((await heard).payload, "here");
await listener.end();
await pool.end();

const refused = new pg.Client({ connectionString: process.env.REFUSED_URL });
await refused.connect().catch((error) => console.log("refused:", error.message, error.hint));
console.log("answer: fine");
