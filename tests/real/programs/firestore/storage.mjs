// A list of objects by Google's library for authorization, of the version in the argument.
import assert from 'node:assert';

const { GoogleAuth } = await import(process.argv[2]);
const auth = new GoogleAuth({ scopes: 'https://www.googleapis.com/auth/devstorage.read_only' });
const url = 'https://storage.googleapis.com/storage/v1/b/files/o';
const { data } = await auth.request({ url });
assert.strictEqual(data.items[0].name, 'a.txt');
console.log('answer: fine');
