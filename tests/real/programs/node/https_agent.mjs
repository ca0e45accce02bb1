// An agent of its own, as many SDKs make one.
import https from 'node:https';

const agent = new https.Agent({ keepAlive: true, maxSockets: 2 });
const headers = { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` };
https.get('https://api.openai.com/v1/models', { agent, headers }, async (response) => {
  let text = '';
  for await (const piece of response) text += piece;
  console.log('answer:', JSON.parse(text).data[0].id);
  agent.destroy();
});
