// What rules on statements permit and refuse, in text and by prepared statements, in one session.
import { createRequire } from 'node:module';
const mysql = createRequire(process.env.NODE_MODULES + '/')('mysql2/promise');

const session = await mysql.createConnection({
  host: process.env.MYSQL_HOST,
  port: Number(process.env.MYSQL_TCP_PORT),
  user: 'anybody',
  password: process.env.MYSQL_PWD,
  database: 'ruled',
  multipleStatements: true,
});
const refused = async (work) => {
  try {
    await work();
    console.log('not refused');
  } catch (error) {
    console.log(error.errno, error.sqlMessage);
  }
};
await refused(() => session.query("SELECT * FROM secret WHERE a = 'canary-literal'"));
await refused(() => session.execute('SELECT * FROM secret WHERE a = ?', ['canary-bound']));
await refused(() => session.query("SELECT 1; DELETE FROM orders WHERE a = 471147114711"));
const [sum] = await session.query('SELECT SUM(a) AS sum FROM orders');
console.log('sum', sum[0].sum);
const [bound] = await session.execute('SELECT a FROM orders WHERE a = ? AND a < 471147114711', [2]);
console.log('bound', bound[0].a);
const [items] = await session.query('SELECT i.a FROM `sales`.items i, orders LIMIT 1');
console.log('items', items[0].a);
await session.end();
