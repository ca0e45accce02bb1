// Opens its own connection, as the AWS SDK does for Bedrock.
import http2 from 'node:http2';

const session = http2.connect('https://api.openai.com');
const stream = session.request({
  ':path': '/v1/models',
  authorization: `Bearer ${process.env.OPENAI_API_KEY}`,
});
let text = '';
for await (const piece of stream) text += piece;
session.close();
console.log('answer:', JSON.parse(text).data[0].id);
