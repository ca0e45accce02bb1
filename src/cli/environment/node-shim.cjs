// Loaded into Node by NODE_OPTIONS, and into Bun by BUN_INSPECT_PRELOAD: makes fetch, http, https,
// http2 and undici use the proxy of the environment where these do not themselves. Node 22.21, 24.5
// and later do for fetch and the global agents (NODE_USE_ENV_PROXY); agents that an SDK makes itself,
// and clients that open their own TLS connections, are covered here on every version. It keeps out of
// the way of clients that bring a connection, of other protocols over TLS, and of any failure of its
// own.
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
  const net = require('node:net');
  const tls = require('node:tls');
  const { Duplex } = require('node:stream');

  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  const authorization = `Basic ${Buffer.from(user).toString('base64')}`;
  const proxyHost = proxy.hostname.replace(/^\[|\]$/g, '');
  const proxyPort = Number(proxy.port || 80);
  const family = (address) => `ipv${net.isIP(address)}`;

  // What an entry of NO_PROXY means: every host, a network, or a name or address, perhaps with a port.
  const test = (entry) => {
    if (entry === '*') return () => true;
    const [network, length] = entry.split('/');
    if (length !== undefined) {
      const list = new net.BlockList();
      try {
        list.addSubnet(network, Number(length), family(network));
      } catch {
        return () => false;
      }
      return (host) => net.isIP(host) !== 0 && list.check(host, family(host));
    }
    const [, named, only] = net.isIP(entry) ? [entry, entry]
      : /^(.*?)(?::(\d+))?$/.exec(entry.replace(/^\*?\./, ''));
    const name = named.replace(/^\[|\]$/g, '');
    return (host, port) => (only === undefined || only === String(port))
      && (host === name || host.endsWith(`.${name}`));
  };
  const direct = env('NO_PROXY').toLowerCase().split(/[\s,]+/).filter(Boolean).map(test);

  const isDirect = (name, port) => {
    const host = String(name || 'localhost').toLowerCase().replace(/^\[|\]$/g, '');
    return direct.some((matches) => matches(host, port));
  };

  // git under a parent that keeps git's variables from it, such as simple-git: it gets those of this environment.
  try {
    const { ChildProcess } = require('node:child_process');
    const ofGit = /^GIT_(SSL_CAINFO|HTTP_PROXY_AUTHMETHOD|CONFIG_(COUNT|KEY_\d+|VALUE_\d+))$/;
    const ours = Object.entries(process.env).filter(([name]) => ofGit.test(name));
    const { spawn } = ChildProcess.prototype;
    ChildProcess.prototype.spawn = function spawnWithOurs(options) {
      if (/(^|\/)git$/.test(options.file) && Array.isArray(options.envPairs)) {
        const given = new Set(options.envPairs.map((pair) => pair.split('=', 1)[0]));
        const isLost = ([name]) => !given.has(name) && !(name.startsWith('GIT_CONFIG_') && given.has('GIT_CONFIG_COUNT'));
        const lost = ours.filter(isLost).map(([name, value]) => `${name}=${value}`);
        options.envPairs = [...options.envPairs, ...lost];
      }
      return spawn.call(this, options);
    };
  } catch {
    // A Node whose processes start otherwise.
  }

  // Bun: its WebSocket takes a proxy, but not from the environment. Before 1.4, its http cannot open tunnels.
  if (process.versions.bun) {
    const proxied = (url, given) => {
      const isList = typeof given === 'string' || Array.isArray(given);
      const options = isList ? { protocols: [given].flat() } : given;
      const { protocol, hostname, port } = URL.parse(url) || {};
      const usual = { 'ws:': 80, 'http:': 80, 'wss:': 443, 'https:': 443 }[protocol];
      return usual && !isDirect(hostname, port || usual) ? { proxy: proxy.href, ...options } : given;
    };
    globalThis.WebSocket = new Proxy(globalThis.WebSocket, {
      construct: (own, [url, options, ...rest], made) => (
        Reflect.construct(own, [url, proxied(url, options), ...rest], made)),
    });
    const [first, second] = process.versions.bun.split('.').map(Number);
    if (first === 1 && second < 4) return;
  }

  const bracketed = (host) => (host.includes(':') && !host.startsWith('[') ? `[${host}]` : host);

  // A stream through the proxy, by callback. It fails after `timeout` milliseconds, if that is not 0.
  const dial = (host, port, timeout, done) => {
    const target = `${bracketed(host)}:${port}`;
    const failure = (text) => Object.assign(
      new Error(`proxy: ${text} (CONNECT ${target})`), { code: 'ERR_PROXY_TUNNEL' });
    const request = http.request({
      host: proxyHost, port: proxyPort, method: 'CONNECT', path: target, agent: false, timeout,
      headers: { host: target, 'proxy-authorization': authorization },
    });
    request.once('error', done);
    request.once('timeout', () => request.destroy(failure(`no answer after ${timeout} ms`)));
    request.once('connect', (answer, socket, head) => {
      request.removeListener('error', done);
      socket.setTimeout(0);
      if (answer.statusCode !== 200) {
        socket.destroy();
        done(failure(`${answer.statusCode} ${answer.statusMessage}`));
        return;
      }
      if (head.length) socket.unshift(head);
      done(null, socket);
    });
    request.end();
    return request;
  };

  // TLS on a stream. Node sets the timeout only of streams that it connects itself.
  const secureOn = (socket, options, done) => {
    const secured = secure({ ...options, path: undefined, socket }, done);
    if (options.timeout) secured.setTimeout(options.timeout);
    return secured;
  };

  // A TLS stream through the proxy, by callback.
  const tunnel = (host, port, options, done) => {
    dial(host, port, options.timeout || 0, (error, socket) => {
      if (error) done(error);
      else done(null, secureOn(socket, { ...options, host, port }));
    });
  };

  // A tunnel that is still being opened, for callers that need its stream at once.
  class PendingTunnel extends Duplex {
    constructor(host, port) {
      super();
      this.waiting = [];
      this.keepsRunning = true;
      this.request = dial(host, port, 0, (error, socket) => {
        if (error || this.destroyed) {
          if (socket) socket.destroy();
          this.destroy(error);
          return;
        }
        this.socket = socket;
        if (!this.keepsRunning) socket.unref();
        socket.on('data', (data) => this.push(data) || socket.pause());
        socket.once('end', () => this.push(null));
        socket.once('error', (failure) => this.destroy(failure));
        socket.once('close', () => this.destroy());
        for (const act of this.waiting) act(socket);
      });
    }

    withSocket(act) {
      if (this.socket) act(this.socket);
      else this.waiting.push(act);
    }

    setKeepsRunning(keepsRunning) {
      this.keepsRunning = keepsRunning;
      if (this.socket) this.socket[keepsRunning ? 'ref' : 'unref']();
    }

    _read() {
      if (this.socket) this.socket.resume();
    }

    _write(chunk, encoding, done) {
      this.withSocket((socket) => socket.write(chunk, encoding, done));
    }

    _final(done) {
      this.withSocket((socket) => socket.end(done));
    }

    _destroy(error, done) {
      (this.socket || this.request).destroy();
      done(error);
    }
  }

  // TLS of HTTP clients that open their connections themselves: http2, undici's own agents, and ws.
  // They offer a protocol of HTTP, or are called by https. faye-websocket (Pusher, SockJS, Firebase's
  // database) does neither: it offers nothing, at the port of https.
  let caller;
  const callAs = (name, call) => {
    const outer = caller;
    caller = name;
    try {
      return call();
    } finally {
      caller = outer;
    }
  };
  const offersHttp = (protocols) => /h2|http\/1/.test(ArrayBuffer.isView(protocols)
    ? Buffer.from(protocols.buffer, protocols.byteOffset, protocols.byteLength) : protocols);
  const secure = tls.connect;
  tls.connect = function connect(...args) {
    const [first, second] = args;
    const named = Object.assign({}, ...args.filter((value) => value && typeof value === 'object'));
    if (typeof first !== 'object') named[/^\d+$/.test(first) ? 'port' : 'path'] = first;
    if (typeof second === 'string') named.host = second;
    named.host ||= 'localhost';
    const isHttp = caller === 'request' || offersHttp(named.ALPNProtocols)
      || (named.ALPNProtocols === undefined && Number(named.port) === 443);
    if (!isHttp || caller === 'agent' || named.socket || named.path || !named.port
      || isDirect(named.host, named.port)) {
      return secure.apply(this, args);
    }
    if (named.servername === undefined && !/^[\d.]+$|:/.test(named.host)) {
      named.servername = named.host;
    }
    const pending = new PendingTunnel(named.host, named.port);
    const done = args.find((value) => typeof value === 'function');
    const secured = secureOn(pending, named, done);
    for (const name of ['ref', 'unref']) {
      secured[name] = () => {
        pending.setKeepsRunning(name === 'ref');
        return secured;
      };
    }
    return secured;
  };

  // https: requests without an agent, whose caller opens the connection.
  const ask = https.request;
  https.request = function request(...args) {
    const changed = args.map((value) => {
      if (!value || typeof value.createConnection !== 'function' || value.agent) return value;
      const createConnection = (...given) => (
        callAs('request', () => value.createConnection(...given)));
      return { ...value, createConnection };
    });
    return ask.apply(this, changed);
  };
  https.get = function get(...args) {
    const request = https.request(...args);
    request.end();
    return request;
  };

  // https: every agent that opens its connections as Node's own does.
  const connect = https.Agent.prototype.createConnection;
  https.Agent.prototype.createConnection = function createConnection(...args) {
    const done = args[args.length - 1];
    const options = typeof args[0] === 'object' ? args[0] : args[1];
    const own = this && this.options && this.options.proxyEnv;
    if (own || typeof done !== 'function' || !options || typeof options !== 'object'
      || options.socket || options.socketPath || isDirect(options.host, options.port || 443)) {
      return callAs('agent', () => connect.apply(this, args));
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
      && !isDirect(options.host, options.port || 80) && request.path.startsWith('/');
    if (!plain) return add.call(this, request, options, ...rest);
    const port = Number(options.port || 80);
    const authority = bracketed(options.host) + (port === 80 ? '' : `:${port}`);
    request.path = `http://${authority}${request.path}`;
    request.setHeader('proxy-authorization', authorization);
    const there = { ...options, host: proxyHost, hostname: proxyHost, port: proxyPort };
    return add.call(this, request, there, ...rest);
  };

  require('node:module').syncBuiltinESMExports();

  // fetch, where Node has no proxy of its own for it.
  const [major, minor] = process.versions.node.split('.').map(Number);
  const builtIn = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
  if (builtIn && process.env.NODE_USE_ENV_PROXY === '1') return;
  try {
    void globalThis.Response; // Node loads its fetch, and with it the dispatcher, at the first use.
    const slot = Symbol.for('undici.globalDispatcher.1');
    const Agent = globalThis[slot].constructor;
    if (Agent.name !== 'Agent') return;
    const open = (options, done) => {
      const host = options.hostname.replace(/^\[|\]$/g, '');
      if (options.protocol !== 'https:') {
        const socket = net.connect({
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
      if (isDirect(host, port)) secured(null, secure({ host, port, ...named }));
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
        if (target.protocol !== 'http:' || isDirect(target.hostname, target.port || 80) || options.upgrade) {
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
    globalThis[slot] = new ProxiedAgent({ connect: open });
  } catch {
    // A Node whose fetch looks otherwise: it keeps what it has.
  }
})();
