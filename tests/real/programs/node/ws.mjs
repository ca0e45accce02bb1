// The handshake of a WebSocket, which the service answers as any other request.
import WebSocket from 'ws';

const socket = new WebSocket('wss://api.openai.com/v1/models', {
  headers: { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` },
});
socket.on('unexpected-response', async (request, response) => {
  let text = '';
  for await (const piece of response) text += piece;
  console.log('answer:', JSON.parse(text).data[0].id);
  process.exit();
});
