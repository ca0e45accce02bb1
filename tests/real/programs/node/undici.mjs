import { request } from 'undici';

const { body } = await request('https://api.openai.com/v1/models', {
  headers: { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` },
});
console.log('answer:', (await body.json()).data[0].id);
