// An agent without a proxy, as many SDKs make one.
import { Agent, request } from 'undici';

const { body, statusCode } = await request('https://api.openai.com/v1/models', {
  dispatcher: new Agent(),
  headers: { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` },
});
if (statusCode !== 200) throw new Error(await body.text());
console.log('answer:', (await body.json()).data[0].id);
