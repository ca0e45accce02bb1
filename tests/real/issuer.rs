//! Third-party authorization servers, each in its own process; an API that checks every token at its server (RFC
//! 7662); and a gateway in front of both.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::person;
use crate::relay::Relay;
use crate::stage::installed;
use test_support::authorization::{AUTH_HOST, answer, ask_at};
use test_support::browser::Browser;
use test_support::canary::{self, Canary};
use test_support::oauth::AGENT;
use test_support::pki::pki;
use test_support::process::OwnChild;
use test_support::*;

/// What breaks where a client and a server encode a Basic pair in two ways.
pub(crate) const SECRET: &str = "s+e/c%r:e&t =~ of a test";

/// The API's own, to ask about tokens with.
const API_SECRET: &str = "the-secret-of-an-api";

/// Who wrote the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Program {
    /// `oidc-provider`, in Node.
    OidcProvider,
    /// Authlib, in Python.
    Authlib,
    /// idpyoidc, in Python.
    Idpyoidc,
    /// oauthlib, in Python: OAuth 1.0a.
    Oauthlib,
}

/// It, running.
pub(crate) struct Issuer {
    _child: OwnChild,
    program: Program,
    pipe: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// Its script and keys, until it ends.
    _folder: tempfile::TempDir,
}

/// It, an API, and a gateway whose provider `svc` is both.
pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) issuer: Arc<Issuer>,
    /// What is between the gateway and the server, in the worlds that have one.
    pub(crate) relay: Option<Relay>,
}

impl Program {
    fn command(self, folder: &Path) -> Command {
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/programs/consent");
        let (interpreter, name) = match self {
            Self::OidcProvider => ("real-node/node_modules/node24/bin/node", "oidc_provider.mjs"),
            Self::Authlib => ("real-venv/bin/python", "authlib_server.py"),
            Self::Idpyoidc => ("real-venv/bin/python", "idpyoidc_server.py"),
            Self::Oauthlib => ("real-venv/bin/python", "oauthlib_server.py"),
        };
        // Modules are looked for beside the script.
        std::fs::copy(programs.join(name), folder.join(name)).expect("a file of ours");
        let modules = installed("real-node/node_modules");
        std::os::unix::fs::symlink(modules, folder.join("node_modules")).expect("a link");
        let (chain, key) = pki().pair(&[AUTH_HOST]);
        for (name, text) in [("auth.pem", &chain), ("auth.key", &key), ("ca.pem", &pki().pem)] {
            std::fs::write(folder.join(name), text).expect("a file");
        }
        let mut command = Command::new(installed(interpreter));
        command.current_dir(folder).arg(name).args(["auth.pem", "auth.key", "ca.pem"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    /// Where it says whether a token is good.
    fn introspection(self) -> &'static str {
        match self {
            Self::OidcProvider => "/token/introspection",
            Self::Authlib | Self::Idpyoidc | Self::Oauthlib => "/introspect",
        }
    }

    /// What it knows the API as, among its clients.
    fn api(self) -> Value {
        match self {
            Self::OidcProvider => json!({
                "client_id": "api", "client_secret": API_SECRET, "redirect_uris": [],
                "grant_types": [], "response_types": [],
                "token_endpoint_auth_method": "client_secret_basic",
            }),
            _ => json!({ "client_id": "api", "method": "client_secret_basic",
                         "secret": API_SECRET }),
        }
    }
}

impl Issuer {
    /// Running, and waiting for its settings.
    pub(crate) fn start(program: Program) -> Self {
        let folder = tempfile::TempDir::new().expect("a temporary directory");
        let mut child = program.command(folder.path()).spawn().expect("`tests/run` installs it");
        let stdin = child.stdin.take().expect("piped");
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        let port: u16 = line(&mut lines).parse().expect("its port");
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            program,
            _child: OwnChild::from(child),
            pipe: Mutex::new((stdin, lines)),
            addr,
            _folder: folder,
        }
    }

    /// Its clients, each as the program has them, and what else it is to know.
    pub(crate) fn settle(&self, clients: impl IntoIterator<Item = Value>, mut more: Value) {
        let api = self.program.api();
        more["clients"] = clients.into_iter().chain([api]).collect();
        assert_eq!(self.line(&more), "ready");
    }

    /// One command, as its script has them.
    pub(crate) fn tell(&self, command: &Value) -> Value {
        serde_json::from_str(&self.line(command)).expect("JSON")
    }

    fn line(&self, said: &Value) -> String {
        let mut pipe = self.pipe.lock().expect("not poisoned");
        writeln!(pipe.0, "{said}").expect("it reads");
        line(&mut pipe.1)
    }

    /// What it did, of one kind: tokens given, refused, rotated …
    pub(crate) fn log(&self, event: &str) -> Vec<Value> {
        let all = self.tell(&json!({ "do": "log" }));
        let all = all.as_array().expect("a list").clone();
        all.into_iter().filter(|one| one["event"] == event).collect()
    }

    /// Every access token is over, but not what it is renewed with.
    pub(crate) fn end(&self) {
        self.tell(&json!({ "do": "end" }));
    }

    /// What it says about a token: RFC 7662.
    pub(crate) async fn about(&self, token: &str) -> Value {
        let pair = BASE64_STANDARD.encode(format!("api:{API_SECRET}"));
        let form = format!("token={token}&token_type_hint=access_token");
        let (path, length) = (self.program.introspection(), form.len());
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {AUTH_HOST}\r\nAuthorization: Basic {pair}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n"
        );
        ask_at(self.addr, request + &form).await.is(200).json()
    }
}

/// The token that a request carries.
pub(crate) fn bearer(request: &Message) -> String {
    let field = request.head.one("authorization").unwrap_or_default();
    field.strip_prefix("Bearer ").unwrap_or_default().to_owned()
}

/// The API: tells what its server says about the token, and is 401 to what that does not know. At
/// `/.well-known/oauth-protected-resource/mcp` and in its 401 it says who that server is (RFC 9728).
fn api(issuer: &Arc<Issuer>) -> Origin {
    Origin::sharing(issuer.clone(), move |mut stream, issuer| async move {
        while let Some(request) = stream.request().await {
            if stream.try_send(answered(&issuer, &request).await).await.is_err() {
                return;
            }
        }
    })
}

async fn answered(issuer: &Issuer, request: &Message) -> Vec<u8> {
    let path = "/.well-known/oauth-protected-resource/mcp";
    let document = format!("https://{HOST}{path}");
    if request.head.target() == path {
        let issuers = [format!("https://{AUTH_HOST}")];
        let said = json!({ "resource": format!("https://{HOST}/mcp"),
                           "authorization_servers": issuers });
        return answer(200, &said);
    }
    let told = match &*bearer(request) {
        "" => Value::Null,
        token => issuer.about(token).await,
    };
    if told["active"] == true {
        return answer(200, &told);
    }
    let challenge = format!("Bearer resource_metadata=\"{document}\", scope=\"tools\"");
    format!("HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n").into()
}

impl World {
    /// A server that is not settled yet, and a provider whose ways to authenticate are these.
    pub(crate) async fn of(program: Program, auth: &str) -> Self {
        Self::with(program, auth, false, |plan| plan).await
    }

    /// The same with a relay, and with a plan that is changed.
    pub(crate) async fn with(
        program: Program,
        auth: &str,
        relayed: bool,
        change: impl FnOnce(Plan) -> Plan,
    ) -> Self {
        let issuer = Arc::new(Issuer::start(program));
        let relay = match relayed {
            true => Some(Relay::before(issuer.addr).await),
            false => None,
        };
        let addr = relay.as_ref().map_or(issuer.addr, Relay::addr);
        let provider = format!("{{ id: svc, name: Service, hosts: [{HOST}], auth: [{auth}] }}");
        // The host is that of `svc` alone.
        let plan = Plan::api_key().hosts("third.acme.test").provider(&provider);
        let plan = plan.resolve(&format!("{AUTH_HOST}: \"{addr}\"")).allow(&addr.to_string());
        let mut lab = change(plan).start(api(&issuer)).await;
        lab.add_agent(AGENT).await;
        Self { lab, issuer, relay }
    }

    /// One call of the gateway's API that answers 2xx.
    pub(crate) async fn api(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_api(method, path, body).await.done(path)
    }

    /// The same, whatever it answers.
    pub(crate) async fn try_api(&self, method: &str, path: &str, body: &Value) -> Message {
        self.lab.gateway.api_json(method, path, body).await
    }

    /// An app whose client id is its name, and what else it has; its redirect URI.
    pub(crate) async fn app(&mut self, name: &str, more: Value) -> String {
        let mut new = json!({ "provider": "svc", "name": name, "client_id": name });
        let Value::Object(more) = more else { panic!("an object") };
        for secret in more.get("secrets").and_then(Value::as_object).into_iter().flatten() {
            // A certificate is shown to everybody.
            if secret.0 != "certificate" {
                self.guard(secret.1.as_str().expect("text"));
            }
        }
        new.as_object_mut().expect("an object").extend(more);
        let made = self.api("POST", "/apps", &new).await;
        made["redirect_uri"].as_str().expect("one").to_owned()
    }

    /// A secret that nobody may see from now on.
    pub(crate) fn guard(&mut self, secret: &str) {
        self.lab.guard(Canary::of(secret.to_owned()));
    }

    /// A connection that the agent may use, of what is given.
    pub(crate) async fn connection(&self, name: &str, more: &Value) -> Value {
        let mut new = json!({ "provider": "svc", "name": name });
        let more = more.as_object().expect("an object").clone();
        new.as_object_mut().expect("an object").extend(more);
        let made = self.api("POST", "/connections", &new).await;
        let bind = json!({ "connection": name });
        self.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
        made
    }

    /// A refresh token that `oidc-provider` gave to a client: another tool's, as it were.
    pub(crate) fn issued(&mut self, client: &str) -> Value {
        let issued = self.issuer.tell(&json!({ "do": "issue", "client": client }));
        self.guard(issued["refresh_token"].as_str().expect("one"));
        issued
    }

    /// A person consents to what was begun, without a browser of the real kind.
    pub(crate) async fn consented(&self, begun: &Value) {
        let name = &begun["name"];
        let mut browser = Browser::new(&self.lab.gateway);
        let url = browser.begin(begun["authorize_url"].as_str().expect("a page")).await;
        let back = person::consents(self.issuer.addr, &url).await;
        let done = browser.get(&back).await;
        assert_eq!(done.head.status(), 303, "{name}: {}", done.text());
    }

    /// One request of the agent, to be made with one of its connections.
    pub(crate) async fn request(&self, connection: &str) -> Message {
        self.ask(&format!("GET /thing\r\nKeyward-Connection: {connection}")).await
    }

    /// Any other.
    pub(crate) async fn ask(&self, request: &str) -> Message {
        self.lab.ask_as(AGENT, HOST, request).await
    }

    /// The token that the API was shown last.
    pub(crate) fn last_token(&self) -> String {
        bearer(self.lab.origin.received().last().expect("a request"))
    }

    /// One that works: the token that the API was shown, and what the server says of it.
    pub(crate) async fn works(&self, connection: &str) -> (String, Value) {
        let answer = self.request(connection).await;
        assert_eq!(answer.head.status(), 200, "{connection}: {}", answer.text());
        (self.last_token(), answer.json())
    }

    /// Its token is renewed when somebody asks for it.
    pub(crate) async fn refreshes(&self, connection: &str) {
        let path = format!("/connections/{connection}/refresh");
        self.api("POST", &path, &json!({})).await;
    }

    /// How a connection stands.
    pub(crate) async fn shown(&self, connection: &str) -> Value {
        self.api("GET", &format!("/connections/{connection}"), &Value::Null).await
    }

    /// It is over for this reason, and whoever uses it is told how it begins anew.
    pub(crate) async fn is_broken(&self, connection: &str, reason: &str, code: &str) {
        let told = self.request(connection).await;
        assert_eq!(
            told.refusal(),
            (424, Some("connection_broken")),
            "{connection}: {}",
            told.text()
        );
        let shown = self.shown(connection).await;
        let remedy = shown["remedy"].as_str().expect("a remedy");
        assert!(remedy.contains(&format!(" {connection}`")), "{connection}: {remedy}");
        assert_eq!(told.json()["error"]["hint"], remedy, "{connection}");
        let stands = [&shown["state"], &shown["reason"], &shown["detail"]];
        assert_eq!(stands, [&json!("broken"), &json!(reason), &json!(code)], "{connection}");
    }

    /// It ends here and at the server, which does not know its last token any more.
    pub(crate) async fn ends(&self, connection: &str) {
        let (token, _) = self.works(connection).await;
        let path = format!("/connections/{connection}?revoke=true");
        let removed = self.api("DELETE", &path, &Value::Null).await;
        assert_eq!(removed["revoked_upstream"], true, "{connection}: {removed}");
        assert_eq!(self.issuer.about(&token).await["active"], false, "{connection}");
        let gone = self.request(connection).await;
        assert_eq!(gone.refusal(), (424, Some("connection_missing")), "{connection}");
    }

    /// Looks for every token and secret where it should not be.
    pub(crate) async fn finish(mut self) -> Vec<Value> {
        let given = self.issuer.tell(&json!({ "do": "secrets" }));
        let given = given.as_array().expect("a list").iter().filter_map(Value::as_str);
        let given = given.filter(|secret| secret.len() >= 8);
        // There are many: one pass over the log for all of them.
        let given = AhoCorasick::new(given).expect("few and short");
        let log = canary::log().lock().expect("not poisoned").clone();
        assert!(given.find(&log).is_none(), "what the server gave is in the log");
        let shown: BTreeSet<String> = self.lab.origin.received().iter().map(bearer).collect();
        for token in shown.iter().filter(|token| !token.is_empty()) {
            self.guard(token);
        }
        self.lab.finish().await
    }

    /// Files of its own.
    pub(crate) fn folder(&self) -> PathBuf {
        self.lab.gateway.folder().to_owned()
    }
}

fn line(lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("text");
    line.trim_end().to_owned()
}

/// The auth method of a provider whose server is `oidc-provider`.
pub(crate) fn code_method() -> String {
    let at = |path: &str| format!("\"https://{AUTH_HOST}/{path}\"");
    format!(
        "{{ id: oauth, kind: oauth2, grant: authorization_code, issuer: \"https://{AUTH_HOST}\", \
         authorize: {}, token: {}, revoke: {}, client_auth: basic, scopes: [openid] }}",
        at("auth"),
        at("token"),
        at("token/revocation"),
    )
}

/// A client of `oidc-provider` that persons consent to, and how it proves itself.
pub(crate) fn client(id: &str, redirect_uri: &str, method: &str, more: Value) -> Value {
    let device = "urn:ietf:params:oauth:grant-type:device_code";
    let mut client = json!({
        "client_id": id, "redirect_uris": [redirect_uri], "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token", device],
        "token_endpoint_auth_method": method,
    });
    let Value::Object(more) = more else { panic!("an object") };
    client.as_object_mut().expect("an object").extend(more);
    client
}
