// Every kind of call by @grpc/grpc-js, which takes the proxy from the environment.
const assert = require('assert');
const fs = require('fs');
const grpc = require(process.env.PACKAGES + '/@grpc/grpc-js');

const as = (value) => value;
const method = (name, requestStream, responseStream) => ({
  path: `/acme.Test/${name}`, requestStream, responseStream,
  requestSerialize: as, requestDeserialize: as, responseSerialize: as, responseDeserialize: as,
});
const Service = grpc.makeGenericClientConstructor({
  unary: method('Unary', false, false),
  serverStream: method('ServerStream', false, true),
  clientStream: method('ClientStream', true, false),
  both: method('Both', true, true),
  wait: method('Wait', false, false),
  hasBegun: method('HasBegun', false, false),
  fail: method('Fail', false, false),
  refused: { ...method('Any', false, false), path: '/acme.Refused/Any' },
}, 'acme.Test');
const roots = fs.readFileSync(process.env.NODE_EXTRA_CA_CERTS);
const client = new Service('grpc.acme.test:443', grpc.credentials.createSsl(roots));

const metadata = new grpc.Metadata();
metadata.set('x-api-key', process.env.KEY);
const options = (seconds = 60) => ({ deadline: Date.now() + seconds * 1000 });
const bytes = (text) => Buffer.from(text);

const unary = (name, text, seconds) => {
  let call;
  const answer = new Promise((resolve, reject) => {
    call = client[name](bytes(text), metadata, options(seconds), (error, answer) =>
      error ? reject(error) : resolve(answer.toString()));
  });
  return { call, answer };
};
const failure = (answer) => answer.then(() => assert.fail('it did not fail'), (error) => error);

(async () => {
  const one = unary('unary', 'one');
  const trailing = new Promise((resolve) => one.call.on('status', resolve));
  assert.strictEqual(await one.answer, 'got one');
  assert.deepStrictEqual((await trailing).metadata.get('x-trailing'), ['seen']);
  console.log('unary');

  const answers = [];
  for await (const answer of client.serverStream(bytes('n'), metadata, options())) {
    answers.push(answer.toString());
  }
  assert.deepStrictEqual(answers, ['n0', 'n1', 'n2', 'n3', 'n4']);
  console.log('server stream');

  const joined = await new Promise((resolve, reject) => {
    const call = client.clientStream(metadata, options(), (error, answer) =>
      error ? reject(error) : resolve(answer.toString()));
    ['a', 'b', 'c'].forEach((part) => call.write(bytes(part)));
    call.end();
  });
  assert.strictEqual(joined, 'a,b,c');
  console.log('client stream');

  const both = client.both(metadata, options());
  let count = 0;
  both.write(bytes('0'));
  for await (const answer of both) {
    assert.strictEqual(answer.toString(), `echo ${count}`);
    count += 1;
    if (count === 5) both.end(); else both.write(bytes(String(count)));
  }
  assert.strictEqual(count, 5);
  console.log('both');

  let error = await failure(unary('fail', '').answer);
  assert.strictEqual(error.code, grpc.status.OUT_OF_RANGE);
  assert.strictEqual(error.details, 'too far: 100 % ä');
  console.log('failure');

  error = await failure(unary('wait', 'deadline', 1).answer);
  assert.strictEqual(error.code, grpc.status.DEADLINE_EXCEEDED);
  console.log('deadline');

  const waits = unary('wait', 'cancellation');
  await unary('hasBegun', 'cancellation').answer;
  waits.call.cancel();
  error = await failure(waits.answer);
  assert.strictEqual(error.code, grpc.status.CANCELLED);
  console.log('cancellation');

  error = await failure(unary('refused', '').answer);
  assert.strictEqual(error.code, grpc.status.PERMISSION_DENIED);
  assert(error.details.startsWith('denied: '), error.details);
  console.log('refusal', error.details);
  console.log('all calls were made');
  client.close();
})().catch((error) => { console.error(error); process.exit(1); });
