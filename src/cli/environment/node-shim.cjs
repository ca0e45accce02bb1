// Loaded into Node by NODE_OPTIONS: makes fetch, http and https use the proxy of the environment
// where Node itself does not. Node 22.21, 24.5 and later do for fetch and the global agents
// (NODE_USE_ENV_PROXY); agents that an SDK makes itself are covered here on every version.
// It keeps out of the way of agents that bring their own connections, and of any failure of its own.
'use strict';

(() => {
  const mark = Symbol.for('keyward.shim');
  const env = (name) => process.env[name.toLowerCase()] || process.env[name] || '';
  let proxy;
  try {
    proxy = new URL(env('HTTPS_PROXY'));
  } catch {
    return;
  }
  if (globalThis[mark] || proxy.protocol !== 'http:') return;
  Object.defineProperty(globalThis, mark, { value: true });

  const http = require('node:http');
  const https = require('node:https');
  const tls = require('node:tls');

  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  const authorization = `Basic ${Buffer.from(user).toString('base64')}`;
  const proxyHost = proxy.hostname.replace(/^\[|\]$/g, '');
  const proxyPort = Number(proxy.port || 80);
  const direct = env('NO_PROXY').split(/[\s,]+/).filter(Boolean)
    .map((entry) => entry.toLowerCase().replace(/^\*?\./, ''));

  const isDirect = (name) => {
    const host = String(name || 'localhost').toLowerCase().replace(/^\[|\]$/g, '');
    return direct.some((entry) => host === entry || host.endsWith(`.${entry}`));
  };
  const bracketed = (host) => (host.includes(':') && !host.startsWith('[') ? `[${host}]` : host);

  // A TLS stream through the proxy, by callback.
  const tunnel = (host, port, options, done) => {
    const target = `${bracketed(host)}:${port}`;
    const request = http.request({
      host: proxyHost, port: proxyPort, method: 'CONNECT', path: target, agent: false,
      headers: { host: target, 'proxy-authorization': authorization },
    });
    request.once('error', done);
    request.once('connect', (answer, socket, head) => {
      request.removeListener('error', done);
      if (answer.statusCode !== 200) {
        socket.destroy();
        const text = `proxy: ${answer.statusCode} ${answer.statusMessage} (CONNECT ${target})`;
        done(Object.assign(new Error(text), { code: 'ERR_PROXY_TUNNEL' }));
        return;
      }
      if (head.length) socket.unshift(head);
      done(null, tls.connect({ ...options, host, port, path: undefined, socket }));
    });
    request.end();
  };

  // https: every agent that opens its connections as Node's own does.
  const connect = https.Agent.prototype.createConnection;
  https.Agent.prototype.createConnection = function createConnection(...args) {
    const done = args[args.length - 1];
    const options = typeof args[0] === 'object' ? args[0] : args[1];
    const own = this && this.options && this.options.proxyEnv;
    if (own || typeof done !== 'function' || !options || typeof options !== 'object'
      || options.socket || options.socketPath || isDirect(options.host)) {
      return connect.apply(this, args);
    }
    const host = options.host;
    const named = { ...options };
    if (named.servername === undefined && !/^[\d.]+$|:/.test(host)) named.servername = host;
    if (named.ALPNProtocols === undefined) named.ALPNProtocols = ['http/1.1'];
    tunnel(host, options.port || 443, named, done);
    return undefined;
  };

  // http: the whole URI to the proxy.
  const add = http.Agent.prototype.addRequest;
  http.Agent.prototype.addRequest = function addRequest(request, options, ...rest) {
    const own = this.options && this.options.proxyEnv;
    const plain = typeof options === 'object' && this.protocol === 'http:' && !own
      && this.createConnection === http.Agent.prototype.createConnection
      && !options.socketPath && !request._header && request.method !== 'CONNECT'
      && !isDirect(options.host) && request.path.startsWith('/');
    if (!plain) return add.call(this, request, options, ...rest);
    const port = Number(options.port || 80);
    const authority = bracketed(options.host) + (port === 80 ? '' : `:${port}`);
    request.path = `http://${authority}${request.path}`;
    request.setHeader('proxy-authorization', authorization);
    const there = { ...options, host: proxyHost, hostname: proxyHost, port: proxyPort };
    return add.call(this, request, there, ...rest);
  };

  // fetch, where Node has no proxy of its own for it.
  const [major, minor] = process.versions.node.split('.').map(Number);
  const builtIn = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
  if (builtIn && process.env.NODE_USE_ENV_PROXY === '1') return;
  try {
    void globalThis.Response; // Node loads its fetch, and with it the dispatcher, at the first use.
    const slot = Symbol.for('undici.globalDispatcher.1');
    const Agent = globalThis[slot].constructor;
    if (Agent.name !== 'Agent') return;
    const dial = (options, done) => {
      const host = options.hostname.replace(/^\[|\]$/g, '');
      if (options.protocol !== 'https:') {
        const socket = require('node:net').connect({
          host, port: Number(options.port || 80), noDelay: true, autoSelectFamily: true,
        });
        socket.once('error', done);
        socket.once('connect', () => {
          socket.removeListener('error', done);
          done(null, socket);
        });
        return;
      }
      const port = Number(options.port || 443);
      const named = { ALPNProtocols: ['http/1.1'] };
      const servername = options.servername || host;
      if (!/^[\d.]+$|:/.test(servername)) named.servername = servername;
      const secured = (error, socket) => {
        if (error) {
          done(error);
          return;
        }
        socket.once('error', done);
        socket.once('secureConnect', () => {
          socket.removeListener('error', done);
          done(null, socket);
        });
      };
      if (isDirect(host)) secured(null, tls.connect({ host, port, ...named }));
      else tunnel(host, port, named, secured);
    };
    const origin = `http://${bracketed(proxyHost)}:${proxyPort}`;
    class ProxiedAgent extends Agent {
      dispatch(options, handler) {
        let target;
        try {
          target = new URL(String(options.origin));
        } catch {
          return super.dispatch(options, handler);
        }
        if (target.protocol !== 'http:' || isDirect(target.hostname) || options.upgrade) {
          return super.dispatch(options, handler);
        }
        const added = { host: target.host, 'proxy-authorization': authorization };
        const pairs = Object.entries(added).flat();
        const headers = Array.isArray(options.headers)
          ? [...options.headers, ...pairs] : { ...options.headers, ...added };
        const path = `${target.origin}${options.path}`;
        return super.dispatch({ ...options, origin, path, headers }, handler);
      }
    }
    globalThis[slot] = new ProxiedAgent({ connect: dial });
  } catch {
    // A Node whose fetch looks otherwise: it keeps what it has.
  }
})();
