import https from 'node:https';

const headers = { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` };
https.get('https://api.openai.com/v1/models', { headers }, async (response) => {
  let text = '';
  for await (const piece of response) text += piece;
  console.log('answer:', JSON.parse(text).data[0].id);
});
