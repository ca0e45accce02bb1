import got from 'got';

const models = await got('https://api.openai.com/v1/models', {
  headers: { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` },
}).json();
console.log('answer:', models.data[0].id);
