// oidc-provider with rotation on and PKCE required.
// node oidc_provider.mjs CERT KEY CLIENT SECRET: prints its port, reads a redirect URI, prints `ready`,
// and then a line for each refresh token that it has consumed or refused.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const [cert, key, client_id, client_secret] = process.argv.slice(2);
let serve = (_, response) => response.writeHead(503).end();
const tls = { cert: readFileSync(cert), key: readFileSync(key) };
const server = createServer(tls, (request, response) => serve(request, response));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));

const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
lines.once('line', (redirect_uri) => {
  const provider = new Provider('https://auth.acme.test', {
    clients: [{
      client_id,
      client_secret,
      redirect_uris: [redirect_uri],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
      token_endpoint_auth_method: 'client_secret_basic',
    }],
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: async () => true,
    features: {
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      devInteractions: { enabled: true },
      registration: { enabled: true },
    },
    ttl: { AccessToken: 3600, RefreshToken: 86400, Session: 3600, Grant: 86400, Interaction: 600, DeviceCode: 600, IdToken: 600 },
    cookies: { keys: ['of a test'] },
    findAccount: (_, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  });
  provider.proxy = true;
  const log = (name) => provider.on(name, (first, error) => {
    console.log(JSON.stringify({ event: name, error: error?.message ?? first?.error, detail: error?.error_description }));
  });
  ['refresh_token.consumed', 'refresh_token.destroyed', 'grant.success', 'grant.error', 'grant.revoked', 'server_error', 'authorization.error'].forEach(log);
  serve = provider.callback();
  console.log('ready');
});
