//! Authorization servers that others wrote, and a person in Chromium: a consent by page and by code, with
//! rotation on and PKCE required; then requests, refreshes and the end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};

use crate::stage::{installed, run, said};
use crate::support::oauth::AGENT;
use crate::support::pki::pki;
use crate::support::*;

const AUTH: &str = "auth.acme.test";
const CLIENT: &str = "keyward-client";
const SECRET: &str = "s+e/c%r:e&t =~ of a test";

/// An independent server.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// `oidc-provider`, in Node.
    OidcProvider,
    /// Authlib, in Python.
    Authlib,
}

/// It, running, and a gateway before it; whoever asks its API is an agent.
struct World {
    lab: Lab,
    child: Child,
    stdin: ChildStdin,
    lines: BufReader<std::process::ChildStdout>,
    port: u16,
}

impl Server {
    fn command(self, folder: &std::path::Path) -> Command {
        let programs =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/programs/consent");
        let (interpreter, name) = match self {
            Self::OidcProvider => ("real-node/node_modules/node24/bin/node", "oidc_provider.mjs"),
            Self::Authlib => ("real-venv/bin/python", "authlib_server.py"),
        };
        // Modules are looked for beside the script.
        std::fs::copy(programs.join(name), folder.join(name)).expect("a file of ours");
        let modules = installed("real-node/node_modules");
        if !folder.join("node_modules").exists() {
            std::os::unix::fs::symlink(modules, folder.join("node_modules")).expect("a link");
        }
        let (chain, key) = pki().pair(&[AUTH]);
        std::fs::write(folder.join("auth.pem"), chain).expect("a file");
        std::fs::write(folder.join("auth.key"), key).expect("a file");
        let mut command = Command::new(installed(interpreter));
        command.current_dir(folder).arg(name).args(["auth.pem", "auth.key", CLIENT, SECRET]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    /// Its way to authenticate, as a user would write it; the rest is discovered where it can be.
    fn auth(self) -> String {
        let at = |path: &str| format!("\"https://{AUTH}/{path}\"");
        match self {
            Self::OidcProvider => format!(
                "{{ id: oauth, kind: oauth2, grant: authorization_code, issuer: \"https://{AUTH}\", \
                 authorize: {}, token: {}, device: {}, revoke: {}, client_auth: basic, scopes: [openid] }}",
                at("auth"),
                at("token"),
                at("device/auth"),
                at("token/revocation"),
            ),
            Self::Authlib => format!(
                "{{ id: oauth, kind: oauth2, grant: authorization_code, authorize: {}, token: {}, \
                 device: {}, revoke: {}, client_auth: basic, scopes: [read] }}",
                at("authorize"),
                at("token"),
                at("device"),
                at("revoke"),
            ),
        }
    }
}

impl World {
    async fn of(server: Server) -> Self {
        let folder = tempfile::TempDir::new().expect("a temporary directory").keep();
        let mut child = server.command(&folder).spawn().expect("`tests/run` installs it");
        let stdin = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let port: u16 = line(&mut lines).parse().expect("its port");
        let provider =
            format!("{{ id: svc, name: Service, hosts: [{AUTH}], auth: [{}] }}", server.auth());
        let plan = Plan::api_key()
            .provider(&provider)
            .resolve(&format!("{AUTH}: \"127.0.0.1:{port}\""))
            .allow(&format!("127.0.0.1:{port}"));
        let mut lab = plan.start(Origin::saying("fine").await).await;
        lab.add_agent(AGENT).await;
        let app = oauth::app(&lab, "svc-app", (CLIENT, SECRET)).await;
        let redirect =
            format!("http://localhost:{}/oauth/callback/{app}", lab.gateway.admin.port());
        let mut world = Self { lab, child, stdin, lines, port };
        writeln!(world.stdin, "{redirect}").expect("it reads");
        assert_eq!(line(&mut world.lines), "ready");
        world
    }

    async fn api(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.lab.gateway.api(method, path, &body).await;
        assert!((200..300).contains(&answer.head.status()), "{path}: {}", answer.text());
        answer.json()
    }

    /// A draft that the agent is bound to, and a person's next step.
    async fn begun(&self, device: bool) -> Value {
        let new = json!({ "provider": "svc", "name": "work", "app": "svc-app", "device": device });
        let made = self.api("POST", "/connections", &new).await;
        let bind = json!({ "connection": "work" });
        self.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
        made
    }

    /// Chromium, until a page says `word`.
    async fn browse(&self, url: &str, word: &str) -> String {
        let folder = self.lab.gateway.folder();
        trust(folder).await;
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/real/programs/consent/browser.mjs");
        let mut browser = Command::new(installed("real-node/node_modules/node24/bin/node"));
        browser.current_dir(folder).env("HOME", folder).arg(script);
        browser.args(["chromium", &format!("{AUTH}=127.0.0.1:{}", self.port), url, word]);
        let output = run(browser).await;
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    async fn request(&self) -> Message {
        let mut wire = self.lab.tunnel_as(AGENT, &format!("{AUTH}:443"), AUTH).await;
        wire.send(request_text("GET /me", AUTH)).await;
        wire.answer("GET").await
    }

    async fn settled(&self, made: &Value) -> Value {
        let flow = made["flow"].as_str().expect("a flow");
        let settled = async {
            loop {
                let view = self.api("GET", &format!("/flows/{flow}"), &Value::Null).await;
                if view["state"] != "open" {
                    return view;
                }
                tokio::task::yield_now().await;
            }
        };
        patiently("the end of a consent", settled).await
    }

    /// Requests, refreshes with rotation, and the end: the provider knows none of its tokens any more.
    async fn lives_and_ends(mut self) {
        assert_eq!(self.request().await.json()["sub"], "alice");
        for _ in 0..3 {
            self.api("POST", "/connections/work/refresh", &json!({})).await;
            let answer = self.request().await;
            assert_eq!(answer.json()["sub"], "alice", "{}", answer.text());
        }
        let removed = self.api("DELETE", "/connections/work?revoke=true", &Value::Null).await;
        assert_eq!(removed["revoked_upstream"], true, "{removed}");
        assert_eq!(self.request().await.head.status(), 403);
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
        self.lab.finish().await;
    }
}

fn line(lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("text");
    line.trim_end().to_owned()
}

/// The servers' authority into the database that Chromium reads.
async fn trust(folder: &std::path::Path) {
    let database = folder.join(".pki/nssdb");
    std::fs::create_dir_all(&database).expect("a directory");
    std::fs::write(folder.join("servers.pem"), &pki().pem).expect("a file");
    let add = ["-A", "-t", "C,,", "-n", "servers", "-i", "servers.pem"];
    for arguments in [&["-N", "--empty-password"][..], &add] {
        let mut certutil = Command::new("certutil");
        certutil.current_dir(folder).args(["-d", "sql:.pki/nssdb"]).args(arguments);
        let output = run(certutil).await;
        assert!(output.status.success(), "{}", said(&output));
    }
}

async fn by_page(server: Server) {
    let world = World::of(server).await;
    let made = world.begun(false).await;
    let url = made["authorize_url"].as_str().expect("a page").to_owned();
    let page = world.browse(&url, "You can close this window").await;
    assert!(page.contains("Connected") && page.contains("/oauth/done/"), "{page}");
    assert_eq!(world.settled(&made).await["state"], "connected");
    world.lives_and_ends().await;
}

async fn by_code(server: Server, word: &str) {
    let world = World::of(server).await;
    let made = world.begun(true).await;
    let url = made["verification_uri_complete"].as_str().expect("a page").to_owned();
    world.browse(&url, word).await;
    assert_eq!(world.settled(&made).await["state"], "connected");
    world.lives_and_ends().await;
}

#[tokio::test]
async fn a_person_consents_at_oidc_provider_in_chromium() {
    by_page(Server::OidcProvider).await;
}

#[tokio::test]
async fn a_person_consents_at_authlib_in_chromium() {
    by_page(Server::Authlib).await;
}

#[tokio::test]
async fn a_code_of_oidc_provider_is_entered_in_chromium() {
    by_code(Server::OidcProvider, "Sign-in Success").await;
}

#[tokio::test]
async fn a_code_of_authlib_is_entered_in_chromium() {
    by_code(Server::Authlib, "allowed").await;
}
