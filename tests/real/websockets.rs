//! Popular WebSocket clients and a server, with compression and closing handshake: Python's `websockets` at both ends,
//! `ws` of Node, and Node's built-in WebSocket, over HTTP/2 if it supports that.

use std::process::{Command, Stdio};

use keyward_base::id::OrgId;
use keyward_state::directory::ManagedBy;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::stage::{NODE_SCRIPT, installed, keyed};
use test_support::pki::pki;
use test_support::*;

const CHAT: &str = "chat.acme.test";

/// Echoes to those who have the credential; `close CODE` makes it close. Says how each one ended.
const SERVER: &str = r#"
import asyncio, os, ssl, sys
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

def say(*words):
    print(*words, flush=True)

def admit(connection, request):
    if request.headers.get_all("X-Api-Key") != [os.environ["LIVE"]]:
        return connection.respond(401, "no")

async def chat(connection):
    try:
        while True:
            message = await connection.recv()
            if isinstance(message, str) and message.startswith("close "):
                await connection.close(int(message.split()[1]), "as asked")
            else:
                await connection.send(message)
    except ConnectionClosed:
        say("closed", connection.close_code)

async def main():
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain("cert.pem", "key.pem")
    async with serve(chat, "127.0.0.1", 0, ssl=tls, process_request=admit, max_size=None,
                     ping_interval=None) as server:
        say("port", server.sockets[0].getsockname()[1])
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"#;

/// Says what was negotiated, has everything echoed, then ends as it is told to.
const PYTHON: &str = r#"
import asyncio, os, sys
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

def say(*words):
    print(*words, flush=True)

async def main():
    headers = {"X-Api-Key": os.environ["KEY"]}
    async with connect("wss://chat.acme.test/", additional_headers=headers, max_size=None,
                       ping_interval=None) as socket:
        say("open", *[type(e).__name__ for e in socket.protocol.extensions])
        for message in ["hello", "", "x" * (1 << 20), os.urandom(8 << 20)]:
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
        say("echoed")
        if sys.argv[1] == "close":
            await socket.close(4321, "enough")
        elif sys.argv[1] == "be closed":
            await socket.send("close 4567")
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            say("closed", closed.rcvd.code, closed.rcvd.reason)

asyncio.run(main())
"#;

const NODE: &str = r#"
const packages = process.env.PACKAGES;
const WebSocket = require(packages + '/ws');
const { HttpsProxyAgent } = require(packages + '/https-proxy-agent');
const { once } = require('events');
(async () => {
  const socket = new WebSocket('wss://chat.acme.test/', {
    headers: { 'X-Api-Key': process.env.KEY },
    agent: process.env.NODE_OPTIONS ? undefined : new HttpsProxyAgent(process.env.HTTPS_PROXY),
  });
  const closed = once(socket, 'close');
  await once(socket, 'open');
  console.log('open', socket.extensions);
  const big = require('crypto').randomBytes(8 << 20);
  for (const message of ['hello', '', 'x'.repeat(1 << 20), big]) {
    const echo = once(socket, 'message');
    socket.send(message);
    const [data] = await echo;
    if (Buffer.compare(data, Buffer.from(message)) !== 0) throw new Error('another message');
  }
  const pong = once(socket, 'pong');
  socket.ping();
  await pong;
  console.log('echoed');
  if (process.argv[1] === 'close') socket.close(4321, 'enough');
  if (process.argv[1] === 'be closed') socket.send('close 4567');
  const [code, reason] = await closed;
  console.log('closed', code, reason.toString());
})();
"#;

/// Without a package: the global `WebSocket`, which takes its proxy from the environment.
const BUILT_IN: &str = r#"
const { once } = require('events');
(async () => {
  // Over HTTP/2, an open WebSocket alone does not keep Node 26 running.
  const runs = setInterval(() => {}, 1000);
  const socket = new WebSocket('wss://chat.acme.test/', { headers: { 'X-Api-Key': process.env.KEY } });
  socket.binaryType = 'arraybuffer';
  socket.addEventListener('error', (event) => console.log('error', event.message, event.error));
  const closed = once(socket, 'close');
  await Promise.race([once(socket, 'open'), closed]);
  console.log('open', socket.extensions.split(';')[0]);
  const big = require('crypto').randomBytes(8 << 20);
  for (const message of ['hello', '', 'x'.repeat(1 << 20), big]) {
    const echo = once(socket, 'message');
    socket.send(message);
    const [{ data }] = await echo;
    if (Buffer.compare(Buffer.from(data), Buffer.from(message)) !== 0) throw new Error('another message');
  }
  console.log('echoed');
  if (process.argv[1] === 'close') socket.close(4321, 'enough');
  if (process.argv[1] === 'be closed') socket.send('close 4567');
  const [{ code, reason }] = await closed;
  console.log('closed', code, reason);
  clearInterval(runs);
})();
"#;

/// A program whose lines are read as they come. Killed when dropped.
struct Talking {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

struct Stage {
    lab: Lab,
    server: Talking,
    _files: tempfile::TempDir,
}

impl Talking {
    fn start(command: Command) -> Self {
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("`tests/run` installs it");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { _child: child, lines }
    }

    async fn says(&mut self) -> String {
        let line = patiently("a line", self.lines.next_line()).await.expect("text");
        line.expect("it still talks")
    }
}

impl Stage {
    async fn new() -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let (certificate, key) = pki().pem(&[CHAT]);
        std::fs::write(files.path().join("cert.pem"), certificate).expect("a file");
        std::fs::write(files.path().join("key.pem"), key).expect("a file");
        let plan = Plan::api_key();
        let mut command = python(SERVER);
        command.current_dir(files.path()).env("LIVE", &plan.canary().text);
        let mut server = Talking::start(command);
        let port = server.says().await;
        let addr = format!("127.0.0.1:{}", port.strip_prefix("port ").expect("the port"));
        let plan = plan.hosts(CHAT).resolve(&format!("{CHAT}: \"{addr}\"")).allow(&addr);
        let lab = plan.start(Origin::saying("unused")).await;
        Self { lab, server, _files: files }
    }

    fn client(&self, kind: &Kind, argument: &str) -> Talking {
        let mut command = keyed(&self.lab, kind.program());
        match kind {
            Kind::Python => command.args(["-c", PYTHON, argument]),
            Kind::Node | Kind::NodeWithScript => command.args(["-e", NODE, argument]),
            Kind::Node26 => command.args(["-e", BUILT_IN, argument]),
        };
        if let Kind::NodeWithScript = kind {
            command.env("NODE_OPTIONS", format!("--require={NODE_SCRIPT}"));
        }
        command.env("PACKAGES", installed("real-node/node_modules"));
        Talking::start(command)
    }
}

enum Kind {
    Python,
    Node,
    /// With the script of `keyward run` in place of an agent for the proxy.
    NodeWithScript,
    /// Its own WebSocket.
    Node26,
}

impl Kind {
    fn program(&self) -> std::path::PathBuf {
        match self {
            Self::Python => installed("real-venv/bin/python"),
            Self::Node | Self::NodeWithScript => {
                installed("real-node/node_modules/node24/bin/node")
            }
            Self::Node26 => installed("real-node/node_modules/node26/bin/node"),
        }
    }

    /// As it says that compression was agreed on.
    fn open(&self) -> &'static str {
        match self {
            Self::Python => "open PerMessageDeflate",
            Self::Node | Self::NodeWithScript | Self::Node26 => "open permessage-deflate",
        }
    }
}

fn python(text: &str) -> Command {
    let mut command = Command::new(installed("real-venv/bin/python"));
    command.args(["-c", text]);
    command
}

/// The connection's owner pauses it.
async fn pause(lab: &Lab) {
    let (org, services) = (OrgId::default_org(), lab.gateway.running().services());
    let view = services.directory.view();
    let connection = view.find_connection(&org, "acme").expect("the connection").id.clone();
    let paused = services.directory.set_connection_paused(&org, &connection, true, ManagedBy::File);
    paused.await.expect("paused");
}

/// Everything is echoed; then `argument` says who closes, and both ends tell with which code.
async fn talks(kind: Kind, argument: &str, (client, server): (&str, &str)) {
    let mut stage = Stage::new().await;
    let mut talking = stage.client(&kind, argument);
    assert_eq!(talking.says().await, kind.open());
    assert_eq!(talking.says().await, "echoed");
    if argument == "be revoked" {
        pause(&stage.lab).await;
    }
    assert_eq!(talking.says().await, client);
    assert_eq!(stage.server.says().await, server);
    let records = stage.lab.finish().await;
    assert_eq!(records.len(), 1, "{records:?}");
    let sent = records[0]["bytes_out"].as_u64().expect("a number");
    // The mebibyte of one letter was compressed all the way, the random ones could not be.
    assert!((8 << 20..(8 << 20) + (1 << 19)).contains(&sent), "{sent}");
}

#[tokio::test]
async fn pythons_close_code_reaches_the_server() {
    talks(Kind::Python, "close", ("closed 4321 enough", "closed 4321")).await;
}

#[tokio::test]
async fn nodes_close_code_reaches_the_server() {
    talks(Kind::Node, "close", ("closed 4321 enough", "closed 4321")).await;
}

#[tokio::test]
async fn the_close_code_of_ws_without_an_agent_reaches_the_server() {
    talks(Kind::NodeWithScript, "close", ("closed 4321 enough", "closed 4321")).await;
}

#[tokio::test]
async fn the_servers_close_code_reaches_ws_without_an_agent() {
    talks(Kind::NodeWithScript, "be closed", ("closed 4567 as asked", "closed 4567")).await;
}

#[tokio::test]
async fn ws_without_an_agent_sees_a_revocation_as_1008() {
    let codes = ("closed 1008 access was revoked", "closed 1001");
    talks(Kind::NodeWithScript, "be revoked", codes).await;
}

#[tokio::test]
async fn the_servers_close_code_reaches_python() {
    talks(Kind::Python, "be closed", ("closed 4567 as asked", "closed 4567")).await;
}

#[tokio::test]
async fn the_servers_close_code_reaches_node() {
    talks(Kind::Node, "be closed", ("closed 4567 as asked", "closed 4567")).await;
}

#[tokio::test]
async fn python_sees_a_revocation_as_1008() {
    talks(Kind::Python, "be revoked", ("closed 1008 access was revoked", "closed 1001")).await;
}

#[tokio::test]
async fn node_sees_a_revocation_as_1008() {
    talks(Kind::Node, "be revoked", ("closed 1008 access was revoked", "closed 1001")).await;
}

#[tokio::test]
async fn the_close_code_of_nodes_own_websocket_reaches_the_server() {
    talks(Kind::Node26, "close", ("closed 4321 enough", "closed 4321")).await;
}

#[tokio::test]
async fn the_servers_close_code_reaches_nodes_own_websocket() {
    talks(Kind::Node26, "be closed", ("closed 4567 as asked", "closed 4567")).await;
}

#[tokio::test]
async fn nodes_own_websocket_sees_a_revocation_as_1008() {
    talks(Kind::Node26, "be revoked", ("closed 1008 access was revoked", "closed 1001")).await;
}
