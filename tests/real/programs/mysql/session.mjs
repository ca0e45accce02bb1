// mysql2 at a listener for MariaDB: a pool, prepared statements, blobs, JSON, an error of the server, a refused change of user, and a refusal.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const mysql = createRequire(process.env.NODE_MODULES + "/")("mysql2/promise");

const { MYSQL_HOST: host, MYSQL_TCP_PORT: port, MYSQL_PWD: password } = process.env;
const place = { host, port: Number(port), user: "anybody", database: "main" };
const pool = mysql.createPool({ ...place, password, connectionLimit: 4 });
const [[who]] = await pool.query("SELECT CURRENT_USER() AS who, DATABASE() AS place");
assert.deepEqual({ ...who }, { who: "app@%", place: "app" });
await pool.query("CREATE OR REPLACE TABLE from_node (a int, b longblob)");
const blob = Buffer.alloc(3_000_000, "\x11\x00\x00\x00");
await pool.execute("INSERT INTO from_node VALUES (?, ?)", [1, blob]);
const [[row]] = await pool.execute("SELECT b FROM from_node WHERE a = ?", [1]);
assert.deepEqual(row.b, blob);
// MariaDB has it as a text whose column names the type.
await pool.query("CREATE OR REPLACE TABLE from_node (a json)");
await pool.execute("INSERT INTO from_node VALUES (?)", ['{"b":[1]}']);
const [[typed]] = await pool.query("SELECT a FROM from_node");
assert.deepEqual(typed.a, { b: [1] });
const together = Array.from({ length: 100 }, (_, n) => pool.execute("SELECT ? + 0 AS n", [n]));
assert.deepEqual((await Promise.all(together)).map(([[found]]) => Number(found.n)), [...Array(100).keys()]);
await assert.rejects(pool.query("SELECT * FROM missing"), { code: "ER_NO_SUCH_TABLE" });
await pool.end();

const session = await mysql.createConnection({ ...place, password });
await session.changeUser({ user: "root", password: "" }).catch((error) => console.log("change of user:", error.message));
session.destroy();

await mysql
  .createConnection({ ...place, password: "kwa_wrong" })
  .catch((error) => console.log("refused:", error.message));
console.log("answer: fine");
