import { EnvHttpProxyAgent, request } from 'undici';

const { body } = await request('https://api.openai.com/v1/models', {
  dispatcher: new EnvHttpProxyAgent(),
  headers: { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` },
});
console.log('answer:', (await body.json()).data[0].id);
