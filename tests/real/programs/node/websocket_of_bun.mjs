// The handshake of Bun's own WebSocket, which the service answers as any other request.
const socket = new WebSocket('wss://api.openai.com/v1/models', {
  headers: { Authorization: `Bearer ${process.env.OPENAI_API_KEY}` },
});
socket.onerror = ({ message }) => {
  // It tells at most the status of an answer that does not switch protocols.
  if (!/Expected 101 status code: 200$/.test(message)) throw new Error(message);
  console.log('answer: fine');
  process.exit();
};
