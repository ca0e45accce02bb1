// oidc-provider with rotation on and PKCE required.
// node oidc_provider.mjs CERT KEY CA: prints its port, reads a line of settings, prints `ready`, and then
// answers each line, a command, with one. Settings and commands are JSON.
import { X509Certificate, createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import { Provider, errors } from 'oidc-provider';
import MemoryAdapter, { setStorage } from 'oidc-provider/lib/adapters/memory_adapter.js';

// The storage by default forgets all but the last thousand or two of grants and tokens. Only another class than the
// adapter by default uses the storage that is set.
setStorage(new Map());
class Storage extends MemoryAdapter {}

// Its notices are no answers of ours.
console.info = console.error;

const [cert, key, ca] = process.argv.slice(2);
let serve = (_, response) => response.writeHead(503).end();
const tls = {
  cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(ca), requestCert: true, rejectUnauthorized: false,
};
const server = createServer(tls, (request, response) => serve(request, response));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));

// What a client signs with, or the certificate that it shows.
const jwk = (pem) => {
  const own = createPublicKey(pem).export({ format: 'jwk' });
  return pem.includes('CERTIFICATE') ? { ...own, x5c: [new X509Certificate(pem).raw.toString('base64')] } : own;
};
const registered = ({ keys, ...client }) => (keys ? { ...client, jwks: { keys: keys.map(jwk) } } : client);
const socket = (ctx) => ctx.req.socket;

// `accounts`: what it says of each login, beside its name. `pushed`: whether it requires pushed authorization requests.
function started({ clients, access_ttl = 3600, accounts = {}, pushed = false }) {
  const resource = (name) => ({ scope: 'read tools', audience: name, accessTokenTTL: access_ttl, accessTokenFormat: 'opaque' });
  const provider = new Provider('https://auth.acme.test', {
    clients: clients.map(registered),
    clientAuthMethods: [
      'none', 'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt',
      'tls_client_auth', 'self_signed_tls_client_auth',
    ],
    adapter: Storage,
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: async () => true,
    features: {
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true, allowedPolicy: (_, client) => client.clientId === 'api' },
      devInteractions: { enabled: true },
      registration: { enabled: true },
      registrationManagement: { enabled: true },
      pushedAuthorizationRequests: { enabled: pushed, requirePushedAuthorizationRequests: pushed },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, name) => {
          if (!name.startsWith('https://api.acme.test')) throw new errors.InvalidTarget();
          return resource(name);
        },
      },
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        selfSignedTlsClientAuth: true,
        certificateBoundAccessTokens: true,
        getCertificate: (ctx) => socket(ctx).getPeerX509Certificate(),
        certificateAuthorized: (ctx) => socket(ctx).authorized,
        certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_dns'
          && socket(ctx).getPeerX509Certificate().checkHost(expected, { subject: 'never' }) === expected,
      },
    },
    ttl: {
      AccessToken: access_ttl, ClientCredentials: access_ttl, RefreshToken: 86400, Session: 3600, Grant: 86400,
      Interaction: 600, DeviceCode: 600, IdToken: 600,
    },
    cookies: { keys: ['of a test'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
    findAccount: (_, id) => ({ accountId: id, claims: async () => ({ sub: id, ...accounts[id] }) }),
  });
  provider.proxy = true;
  return provider;
}

const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
const next = lines[Symbol.asyncIterator]();
const provider = started(JSON.parse((await next.next()).value));

// What it did, all that it gave away, and the access tokens that may be alive.
const log = [];
const secrets = [];
const issued = new Set();
for (const kind of ['refresh_token', 'authorization_code', 'device_code']) {
  provider.on(`${kind}.saved`, (token) => secrets.push(token.jti));
}
for (const kind of ['access_token', 'client_credentials']) {
  for (const when of ['saved', 'issued']) {
    provider.on(`${kind}.${when}`, (token) => issued.add(token) && secrets.push(token.jti));
  }
}
provider.on('grant.success', ({ oidc: { params, client } }) => log.push({ event: 'token', grant: params.grant_type, client: client.clientId, resource: params.resource }));
provider.on('grant.error', ({ oidc }, error) => log.push({ event: 'refused', grant: oidc?.params?.grant_type, error: error.error, detail: error.error_description + (error.error_detail ? `: ${error.error_detail}` : '') }));
provider.on('refresh_token.consumed', () => log.push({ event: 'rotated' }));
provider.on('grant.revoked', () => log.push({ event: 'revoked' }));
provider.on('registration_delete.success', (_, client) => log.push({ event: 'deleted', client: client.clientId }));
provider.on('registration_create.success', (_, client) => log.push({ event: 'registered', client: client.clientId }));
provider.on('pushed_authorization_request.success', (_, client) => log.push({ event: 'pushed', client: client.clientId }));
provider.on('server_error', (_, error) => log.push({ event: 'failed', error: String(error.stack) }));

const commands = {
  log: async () => log,
  secrets: async () => secrets,
  // A refresh token, as another tool would have got it.
  issue: async ({ client }) => {
    const grant = new provider.Grant({ accountId: 'alice', clientId: client });
    grant.addOIDCScope('openid');
    const token = new provider.RefreshToken({
      accountId: 'alice', client: await provider.Client.find(client), grantId: await grant.save(),
      gty: 'authorization_code', scope: 'openid', claims: {},
    });
    return { refresh_token: await token.save(), grant: grant.jti };
  },
  // Every access token is over.
  end: async () => {
    for (const token of issued) await token.destroy();
    issued.clear();
    return {};
  },
  // Its person takes a grant back, with all that was given for it.
  revoke: async ({ grant }) => {
    for (const model of [provider.AccessToken, provider.RefreshToken]) await model.revokeByGrantId(grant);
    await (await provider.Grant.find(grant))?.destroy();
    return {};
  },
  // The same of all grants.
  revoke_all: async () => {
    for (const grant of new Set([...issued].map((token) => token.grantId).filter(Boolean))) await commands.revoke({ grant });
    return {};
  },
};

serve = provider.callback();
console.log('ready');
for (let line = await next.next(); !line.done; line = await next.next()) {
  const command = JSON.parse(line.value);
  console.log(JSON.stringify(await commands[command.do](command)));
}
