import { EnvHttpProxyAgent, fetch } from 'undici';

const response = await fetch('https://api.openai.com/v1/models', {
  dispatcher: new EnvHttpProxyAgent(),
  headers: { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` },
});
console.log('answer:', (await response.json()).data[0].id);
