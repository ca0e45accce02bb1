//! The main use case, end to end, on loopback: `curl` (and Python, if it is installed) calls three HTTPS
//! APIs that accept only live credentials, but holds no credential. Where `curl` is missing, `apt-get` installs it.
//!
//! `cargo demo` exits with 0 if every check passed.
//! `cargo demo --stay` keeps it running and prints commands to try.

mod api;
mod tokens;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, Output};

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use keyward_app::config::Config;
use keyward_app::{self as app, Running};
use keyward_base::id::OrgId;
use keyward_base::secret::Secret;
use keyward_model::{Agent, AgentFacts, AgentSpec, ConnectionSpec, Visibility};
use keyward_state::directory::ManagedBy;
use keyward_vault::NewConnection;
use tempfile::TempDir;

use api::Api;
use tokens::{Bank, LOGIN, NOTES};

/// The services of the demo: id, how it authenticates, and its secret field.
const SERVICES: [(&str, &str, &str); 3] = [
    ("billing", "{ id: key, kind: api_key, placement: { header: X-Api-Key } }", "api_key"),
    ("crm", "{ id: login, kind: basic }", "password"),
    ("maps", "{ id: key, kind: api_key, placement: { query: key } }", "api_key"),
];

/// Belongs to no service: denied by default.
const DENIED: &str = "elsewhere.demo.test";

/// Refused uploads of each size, each on a stream of its own.
const UPLOADS: usize = 20;

/// Installs curl as root or by sudo, as `tests/run` installs programs.
const INSTALL_CURL: &str = "\
set -e
as_root() { if [ \"$(id -u)\" = 0 ]; then \"$@\"; else sudo \"$@\"; fi; }
as_root apt-get update -q
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends curl";

/// A body that curl has sent before the refusal comes, and one that it has not.
const UPLOAD_BYTES: [usize; 2] = [3, 300_000];

/// Everything that runs, and what the agent is given.
struct Stage {
    running: Running,
    folder: TempDir,
    api: Api,
    live: String,
    token: String,
    /// By service.
    placeholders: BTreeMap<&'static str, String>,
    proxy_url: String,
}

/// The claims and whether they held.
#[derive(Default)]
struct Claims {
    broken: usize,
    held: usize,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    install_curl()?;
    let stay = std::env::args().any(|argument| argument == "--stay");
    let stage = Stage::set_up().await?;
    let mut claims = Claims::default();
    tokio::task::block_in_place(|| stage.play(&mut claims))?;
    if stay {
        stage.print_lines_to_paste()?;
        tokio::signal::ctrl_c().await?;
    }
    let (data, live) = (stage.folder.path().join("data"), stage.live.clone());
    stage.running.shutdown().await;
    claims.state("no file of the gateway holds the live credential", !holds(&data, &live)?);
    println!("\n{} claims held, {} did not", claims.held, claims.broken);
    Ok(if claims.broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Installs curl where it is missing.
fn install_curl() -> Result<()> {
    if Command::new("curl").arg("--version").output().is_ok() {
        return Ok(());
    }
    println!("curl is missing: apt-get installs it");
    let status = Command::new("sh").args(["-c", INSTALL_CURL]).status()?;
    status.success().then_some(()).context("curl is missing: install it")
}

impl Stage {
    async fn set_up() -> Result<Self> {
        let folder = TempDir::new()?;
        let live = format!("live_{}", random()?);
        let api = Api::start(live.clone()).await?;
        std::fs::write(folder.path().join("api-root.pem"), &api.root_pem)?;
        let config = configuration(folder.path(), api.addr)?;
        let running = app::start(config).await?;
        let (token, placeholders) = fill(&running, &live, &api.bank).await?;
        let proxy = running.proxy_addrs().first().context("a proxy listener")?;
        let proxy_url = format!("http://agent:{token}@{proxy}");
        let authority = &running.services().authority;
        std::fs::write(folder.path().join("keyward-ca.pem"), authority.cert_pem())?;
        Ok(Self { running, folder, api, live, token, placeholders, proxy_url })
    }

    fn play(&self, claims: &mut Claims) -> Result<()> {
        println!("An agent that holds only placeholders calls three APIs with curl.");
        for (service, _, _) in SERVICES {
            self.call(service, claims)?;
        }
        self.be_denied(claims)?;
        for bytes in UPLOAD_BYTES {
            self.upload_in_vain(bytes, claims)?;
        }
        self.go_around(claims)?;
        self.renew(claims)?;
        self.call_with_python(claims)
    }

    /// A token that has expired, and one that the API revokes: the agent notices neither.
    fn renew(&self, claims: &mut Claims) -> Result<()> {
        println!("\n== notes, by OAuth");
        let call = || {
            let output = self.curl(&["--verbose".into(), format!("https://{NOTES}/v1/items")])?;
            let seen = [output.stderr, output.stdout].concat();
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(&seen).into_owned())
        };
        let mut seen = call()?;
        let served = seen.contains("\"ok\":true");
        claims.state("an expired token is refreshed under the call", served);
        seen += &call()?;
        claims.state("the new one serves the next call too", self.api.bank.refreshed() == 1);
        self.api.bank.revoke();
        let again = call()?;
        // Ports, dates and ids of curl's report may have these digits as well.
        let is_401 = |line: &str| line.starts_with("< HTTP/") && line.contains(" 401");
        let unseen = again.contains("\"ok\":true") && !again.lines().any(is_401);
        claims.state("after a 401 the call is sent again with a newer one", unseen);
        claims.state("by the refresh token of the first answer", self.api.bank.refreshed() == 2);
        claims.state("the agent saw none of the tokens", !self.api.bank.is_in(&(seen + &again)));
        Ok(())
    }

    /// The arguments with which a program would call a service, placeholder included.
    fn arguments(&self, service: &str) -> (Vec<String>, String) {
        let placeholder = &self.placeholders[service];
        let url = format!("https://{service}.demo.test/v1/items");
        match service {
            "billing" => (vec!["-H".into(), format!("X-Api-Key: {placeholder}")], url),
            "crm" => (vec!["-u".into(), format!("demo:{placeholder}")], url),
            _ => (vec![], format!("{url}?key={placeholder}")),
        }
    }

    fn call(&self, service: &'static str, claims: &mut Claims) -> Result<()> {
        let before = self.api.requests().len();
        let (mut arguments, url) = self.arguments(service);
        arguments.extend(["--verbose".into(), url]);
        let output = self.curl(&arguments)?;
        let trace = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        let received = self.api.requests().split_off(before);

        println!("\n== {service}\nthe agent sent");
        sent_lines(&trace).for_each(|line| println!("    {line}"));
        println!("the API received");
        received.iter().flat_map(|request| request.lines()).for_each(|line| {
            println!("    {}", self.redacted(line));
        });
        println!("the agent got\n    {answer}");

        let [request] = &received[..] else {
            claims.state("the API received exactly one request", false);
            return Ok(());
        };
        claims.state("the API accepted the call", answer.contains("\"ok\":true"));
        claims.state("the live credential arrived exactly once", self.count_live(request) == 1);
        claims.state("no placeholder arrived", !request.contains("kwph"));
        claims.state("no agent token arrived", !request.contains(&self.token));
        let seen = format!("{trace}{answer}");
        claims.state("the agent saw nothing of the credential", !seen.contains(&self.live));
        Ok(())
    }

    fn be_denied(&self, claims: &mut Claims) -> Result<()> {
        let before = self.api.requests().len();
        let output = self.curl(&["--verbose".into(), format!("https://{DENIED}/")])?;
        let trace = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("\n== a host that nothing names");
        let refusal = trace.lines().find(|line| line.starts_with("< HTTP/1.1 403"));
        println!("    {}", refusal.unwrap_or("no refusal").trim_start_matches("< ").trim_end());
        let named = refusal.is_some_and(|line| line.contains("default_deny"));
        claims.state("it is refused, and the reason says so", named && !output.status.success());
        claims.state("nothing reached the API", self.api.requests().len() == before);
        Ok(())
    }

    /// Uploads that a rule denies are answered over HTTP/2, whether curl still sends or not.
    fn upload_in_vain(&self, bytes: usize, claims: &mut Claims) -> Result<()> {
        let before = self.api.requests().len();
        let (mut arguments, url) = self.arguments("billing");
        let upload = self.folder.path().join("upload");
        std::fs::write(&upload, format!("a={}", "b".repeat(bytes - 2)))?;
        arguments.extend(["-d".into(), format!("@{}", upload.display())]);
        arguments.extend([
            "--write-out".into(),
            "over HTTP/%{http_version}: %{http_code}".into(),
            url,
        ]);
        println!("\n== {UPLOADS} POSTs of {bytes} bytes that a rule denies");
        let (mut read, mut last) = (0, String::new());
        for _ in 0..UPLOADS {
            let output = self.curl(&arguments)?;
            last = String::from_utf8_lossy(&output.stdout).into_owned();
            let told = last.contains("rule `file:no-uploads` denies this");
            read += usize::from(told && last.ends_with("over HTTP/2: 403"));
        }
        println!("    {}", last.replace('\n', "\n    "));
        claims.state("curl reads the refusal of each", read == UPLOADS);
        claims.state("nothing reached the API", self.api.requests().len() == before);
        Ok(())
    }

    /// The same call past the gateway: a placeholder opens nothing.
    fn go_around(&self, claims: &mut Claims) -> Result<()> {
        let (mut arguments, url) = self.arguments("billing");
        let port = self.api.addr.port();
        arguments.extend([
            "--noproxy".into(),
            "*".into(),
            "--cacert".into(),
            self.path("api-root.pem"),
            "--connect-to".into(),
            format!("::127.0.0.1:{port}"),
            url,
        ]);
        let output = self.curl(&arguments)?;
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("\n== the same call without Keyward\n    {answer}");
        claims.state("a placeholder is worth nothing by itself", answer.contains("401"));
        Ok(())
    }

    fn call_with_python(&self, claims: &mut Claims) -> Result<()> {
        const PROGRAM: &str = "import os, urllib.request as u\n\
            r = u.Request('https://billing.demo.test/v1/items', headers={'X-Api-Key': os.environ['KEY']})\n\
            print(u.urlopen(r, timeout=20).read().decode())";
        println!("\n== Python");
        let mut command = Command::new("python3");
        command.args(["-c", PROGRAM]).env("KEY", &self.placeholders["billing"]);
        let output = match self.as_agent(&mut command).output() {
            Ok(output) => output,
            Err(error) => {
                println!("    not run: python3 cannot be started ({error})");
                return Ok(());
            }
        };
        let seen = [output.stdout, output.stderr].concat();
        let seen = String::from_utf8_lossy(&seen);
        println!("    {}", seen.trim());
        claims.state("its urllib is served as well", seen.contains("\"ok\":true"));
        claims.state("it saw nothing of the credential", !seen.contains(&self.live));
        Ok(())
    }

    fn curl(&self, arguments: &[String]) -> Result<Output> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20"]).args(arguments);
        self.as_agent(&mut command).output().context("curl cannot be started")
    }

    /// The environment that makes programs use the gateway.
    fn as_agent<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let ca = self.path("keyward-ca.pem");
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
            command.env(name, &self.proxy_url);
        }
        for name in ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"] {
            command.env(name, &ca);
        }
        command.env_remove("NO_PROXY").env_remove("no_proxy")
    }

    fn redacted(&self, line: &str) -> String {
        line.replace(&self.live, "«the live credential»")
            .replace(&self.live_pair(), "«demo and the live password»")
    }

    fn live_pair(&self) -> String {
        BASE64_STANDARD.encode(format!("demo:{}", self.live))
    }

    /// How often the credential stands in a request, in clear or in a Basic pair.
    fn count_live(&self, request: &str) -> usize {
        request.matches(&self.live).count() + request.matches(&self.live_pair()).count()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn print_lines_to_paste(&self) -> Result<()> {
        println!("\nThe gateway stays. Paste into another terminal:\n");
        println!("export HTTPS_PROXY={}", self.proxy_url);
        println!("export CURL_CA_BUNDLE={0} SSL_CERT_FILE={0}", self.path("keyward-ca.pem"));
        for (service, _, _) in SERVICES {
            let (arguments, url) = self.arguments(service);
            let quoted: Vec<String> = arguments.iter().map(|a| format!("'{a}'")).collect();
            println!("curl {} '{url}'", quoted.join(" "));
        }
        println!("curl -v https://{DENIED}/");
        println!("tail -f {}", self.path("data/audit/audit.jsonl"));
        println!("\nCtrl-C ends it and removes everything.");
        Ok(())
    }
}

impl Claims {
    fn state(&mut self, claim: &str, held: bool) {
        let counter = if held { &mut self.held } else { &mut self.broken };
        *counter += 1;
        println!("  {} {claim}", if held { "✓" } else { "✗ NOT TRUE:" });
    }
}

fn configuration(folder: &Path, api: SocketAddr) -> Result<Config> {
    let mut yaml = format!(
        "listen: {{ proxy: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }}\n\
         upstream:\n  trust: [api-root.pem]\n  allow_private: [\"{api}\"]\n  resolve:\n"
    );
    let mut providers = String::from("providers:\n");
    for (service, auth, _) in SERVICES {
        let host = format!("{service}.demo.test");
        yaml += &format!("    {host}: \"{api}\"\n");
        providers +=
            &format!("  - {{ id: {service}, name: {service}, hosts: [{host}], auth: [{auth}] }}\n");
    }
    yaml += &format!("    {NOTES}: \"{api}\"\n    {LOGIN}: \"{api}\"\n");
    yaml += &providers;
    yaml += tokens::PROVIDER;
    yaml += "rules:\n  - { name: no-uploads, hosts: [billing.demo.test], methods: [POST], action: deny }\n";
    let file = folder.join("keyward.yaml");
    std::fs::write(&file, &yaml)?;
    let data = folder.join("data").display().to_string();
    let parsed = Config::parse(&yaml, &file, &BTreeMap::from([("KEYWARD_DATA".to_owned(), data)]));
    parsed.map_err(|errors| {
        anyhow!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

/// Puts the credentials into the encrypted store and gives an agent its token and placeholders.
async fn fill(
    running: &Running,
    live: &str,
    bank: &Bank,
) -> Result<(String, BTreeMap<&'static str, String>)> {
    let (services, org) = (running.services(), OrgId::default_org());
    let spec = AgentSpec::named("agent");
    let agent = services
        .directory
        .add::<Agent>(&org, ManagedBy::Store, spec, AgentFacts::default())
        .await?;
    let issued = services.directory.add_token(&org, &agent.id, None, None, None).await?;
    let mut placeholders = BTreeMap::new();
    for (service, _, secret_field) in SERVICES {
        let new = NewConnection {
            org: org.clone(),
            spec: ConnectionSpec {
                name: format!("my-{service}"),
                provider: service.to_owned(),
                ..ConnectionSpec::default()
            },
            owner: None,
            visibility: Visibility::Shared,
            managed_by: ManagedBy::Store,
        };
        let mut fields = BTreeMap::from([(secret_field.to_owned(), Secret::from(live.to_owned()))]);
        if service == "crm" {
            fields.insert("username".to_owned(), Secret::from("demo".to_owned()));
        }
        let connection = services.vault.lifecycle().add(new, fields).await?;
        let bound = services
            .vault
            .lifecycle()
            .bind(&org, &agent.id, &connection.id, ManagedBy::Store)
            .await?;
        let placeholder = bound.placeholders.get(secret_field).context("a placeholder")?;
        placeholders.insert(service, placeholder.as_str().to_owned());
    }
    tokens::connect(running, bank, &agent.id).await?;
    let token = issued.text.expose_text().context("tokens are text")?.to_owned();
    Ok((token, placeholders))
}

/// curl's request lines inside the tunnel, which come after those of CONNECT.
fn sent_lines(trace: &str) -> impl Iterator<Item = &str> {
    let inside = trace.rfind("> GET ").unwrap_or(trace.len());
    trace[inside..].lines().filter_map(|line| line.strip_prefix("> ")).filter(|l| !l.is_empty())
}

/// Whether any file below `folder` holds `secret`.
fn holds(folder: &Path, secret: &str) -> Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let found = match path.is_dir() {
            true => holds(&path, secret)?,
            // Sockets cannot be read, and hold nothing.
            false => std::fs::read(&path)
                .is_ok_and(|bytes| bytes.windows(secret.len()).any(|w| w == secret.as_bytes())),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn random() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
