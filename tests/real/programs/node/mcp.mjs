import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { LoggingMessageNotificationSchema } from '@modelcontextprotocol/sdk/types.js';

const client = new Client({ name: 'real', version: '1.0.0' });
// It comes in the stream that the client holds open beside its calls.
const message = new Promise((done) => {
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => done(params.data));
});
const headers = { Authorization: `Bearer ${process.env.ACME_MCP_TOKEN}` };
await client.connect(new StreamableHTTPClientTransport(
  new URL('https://mcp.acme.test/mcp'),
  { requestInit: { headers } },
));
const { content } = await client.callTool({ name: 'mood', arguments: {} });
console.log('answer:', await message + content[0].text);
await client.close();
