// The same by @google-cloud/firestore.
import assert from 'node:assert';
import fs from 'node:fs';
import readline from 'node:readline';
import { Firestore } from '@google-cloud/firestore';

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const line = async () => (await lines.next()).value;

const database = new Firestore();
const people = database.collection('people');
await people.doc('ada').set({ born: 1815 });
await people.doc('bob').set({ born: 1790 });

const found = await people.where('born', '>', 1800).get();
assert.deepStrictEqual(found.docs.map(one => one.id), ['ada']);

await database.runTransaction(async transaction => {
  const person = await transaction.get(people.doc('ada'));
  transaction.set(person.ref, { born: person.get('born') + 1 });
});
assert.deepStrictEqual((await people.doc('ada').get()).data(), { born: 1816 });

const seen = new Set();
let wake = () => {};
const end = people.onSnapshot(snapshot => {
  snapshot.docs.forEach(one => seen.add(one.id));
  wake();
}, error => {
  console.error(error);
  process.exit(1);
});
const told = async name => {
  while (!seen.has(name)) {
    await new Promise(resolve => { wake = resolve; });
  }
};

await told('ada');
console.log('listens');
assert.strictEqual(await line(), 'renewed');
await people.doc('eve').set({ born: 1900 });
await told('eve');
console.log('was told');
assert.strictEqual(await line(), 'again');
await people.doc('end').set({ born: 0 });
await told('end');
await people.doc('zoe').set({ born: 1950 });
await told('zoe');
end();

const file = JSON.parse(fs.readFileSync(process.env.GOOGLE_APPLICATION_CREDENTIALS, 'utf8'));
assert.strictEqual(file.type, 'service_account');
assert.strictEqual(database.projectId, 'project');
console.log(JSON.stringify(file));
console.log('answer: fine');
process.exit(0);
