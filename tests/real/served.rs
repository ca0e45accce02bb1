//! A program that `keyward run` starts, with an origin that accepts only the live credential. The program has only the
//! environment of `run`, and calls the provider's real host.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::api::{self, http};
use crate::stage::{installed, run, said};
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::*;

/// A provider, as its origin sees it.
#[derive(Clone, Copy)]
pub(crate) struct Service {
    /// Its id.
    pub(crate) provider: &'static str,
    /// Its YAML, where it is its user's own.
    pub(crate) own: &'static str,
    /// The connection's fields, in YAML; the secret is in `CANARY`.
    pub(crate) fields: &'static str,
    /// The names of its certificate.
    pub(crate) hosts: &'static [&'static str],
    /// Where it wants the credential.
    pub(crate) takes: Takes,
    /// What it answers to those who have it.
    pub(crate) answer: fn(&Message) -> Vec<u8>,
}

/// Where a provider wants its credential.
#[derive(Clone, Copy)]
pub(crate) enum Takes {
    /// In this field, after this prefix.
    Field(&'static str, &'static str),
    /// As the password of this user.
    Basic(&'static str),
}

/// Fields that carry credentials somewhere. A provider takes one and refuses a second.
const CREDENTIALS: &[&str] = &["authorization", "x-api-key", "x-goog-api-key", "cookie"];

/// What SDKs ask of their own accord, now and then.
const UNASKED: &[&str] = &["GET /api/agent-harnesses", "GET /simple/pip/", "GET /favicon.ico"];

/// A program as its user starts it.
pub(crate) struct Program {
    arguments: Vec<String>,
    /// Files and folders whose content is copied into the user's folder.
    copied: Vec<PathBuf>,
    /// Links in the user's folder, and what they lead to.
    links: Vec<(&'static str, PathBuf)>,
    /// Where it keeps what it has compiled: no other variable is set here.
    caches: Vec<(&'static str, PathBuf)>,
}

/// The service, and a user who may call it.
pub(crate) struct Stage {
    pub(crate) install: Install,
    pub(crate) origin: Origin,
    canary: Canary,
    takes: Takes,
}

impl Service {
    /// Of the catalogue.
    pub(crate) const fn known(
        provider: &'static str,
        fields: &'static str,
        hosts: &'static [&'static str],
        takes: Takes,
    ) -> Self {
        Self { provider, own: "", fields, hosts, takes, answer: api::answer }
    }
}

impl Takes {
    /// Whether a request has the credential where it belongs, once, and no other.
    fn accepts(self, request: &Message, live: &str) -> bool {
        let (field, value) = match self {
            Self::Field(field, prefix) => (field, format!("{prefix}{live}")),
            Self::Basic(user) => {
                let pair = BASE64_STANDARD.encode(format!("{user}:{live}"));
                ("authorization", format!("Basic {pair}"))
            }
        };
        let others = CREDENTIALS.iter().filter(|other| **other != field);
        request.head.all(field)[..] == [&*value]
            && others.into_iter().all(|other| !request.head.has(other))
    }
}

impl Program {
    /// Of these arguments.
    pub(crate) fn of(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { arguments, copied: vec![], links: vec![], caches: vec![] }
    }

    /// A line of the shell, which puts placeholders where they go.
    pub(crate) fn shell(line: &str) -> Self {
        Self::of(&["sh", "-ec", line, "sh"])
    }

    /// With one more argument: `$1` of a line of the shell.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// An interpreter that `tests/run` installed, with a script of `programs/`.
    pub(crate) fn script(interpreter: &str, arguments: &[&str], script: &str) -> Self {
        let interpreter = installed(interpreter);
        let mut all = vec![interpreter.to_str().expect("a path of letters")];
        let path = source(script);
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        all.extend(arguments);
        all.push(name);
        Self::of(&all).with(script)
    }

    /// With a file of `programs/`, or what is in a folder there, in the user's folder.
    pub(crate) fn with(mut self, path: &str) -> Self {
        self.copied.push(source(path));
        self
    }

    /// With a folder for what it compiles, which outlives the test.
    pub(crate) fn cache(mut self, variable: &'static str, folder: &str) -> Self {
        self.caches.push((variable, installed(folder)));
        self
    }

    /// With a link in the user's folder.
    pub(crate) fn linked(mut self, name: &'static str, to: &str) -> Self {
        self.links.push((name, installed(to)));
        self
    }
}

impl Stage {
    /// Agent `ci` with one connection, to this service.
    pub(crate) async fn of(service: &Service) -> Self {
        Self::answering(service, service.answer, |plan| plan).await
    }

    /// The same with answers of its own, and more of a plan.
    pub(crate) async fn answering<F>(
        service: &Service,
        answer: F,
        more: impl FnOnce(Plan) -> Plan,
    ) -> Self
    where
        F: Fn(&Message) -> Vec<u8> + Clone + Send + Sync + 'static,
    {
        let Service { provider, own, fields, hosts, takes, .. } = *service;
        let plan = Plan::api_key();
        let canary = plan.canary().clone();
        let live = canary.text.clone();
        let origin = Origin::named(hosts, move |mut stream: Stream| {
            let (live, answer) = (live.clone(), answer.clone());
            async move {
                while let Some(request) = stream.request().await {
                    let answer = match takes.accepts(&request, &live) {
                        true => answer(&request),
                        false => http("401 Unauthorized", "text/plain", "no such credential\n"),
                    };
                    let answer = match request.head.method() {
                        "HEAD" => head_of(&answer),
                        _ => &answer,
                    };
                    if stream.try_send(answer).await.is_err() {
                        return;
                    }
                }
            }
        });
        let plan = hosts
            .iter()
            .fold(plan, |plan, host| plan.resolve(&format!("{host}: \"{}\"", origin.addr)));
        let plan = match own {
            "" => plan,
            own => plan.provider(own),
        };
        let connection = format!("{{ name: live, provider: {provider}, fields: {fields} }}");
        let plan = more(plan.connection(&connection).no_agents().agent("ci", "live"));
        Self { install: Install::new(&plan, &origin), origin, canary, takes }
    }

    /// `keyward run` with a program.
    pub(crate) fn command(&self, program: &Program) -> Command {
        let folder = self.install.folder();
        for path in &program.copied {
            let name = path.file_name().expect("a name");
            match path.is_dir() {
                true => copy_all(path, folder),
                false => drop(std::fs::copy(path, folder.join(name)).expect("a file of ours")),
            }
        }
        for (name, to) in &program.links {
            std::os::unix::fs::symlink(to, folder.join(name)).expect("a link");
        }
        let mut command = self.install.keyward(&["run", "--agent", "ci", "--"]);
        command.args(&program.arguments);
        command.envs(program.caches.iter().cloned());
        command
    }

    /// The program said `answer: fine`; the origin got these requests, in whatever order, each with
    /// the credential; nothing else has it.
    pub(crate) fn assert_served(self, output: &Output, requests: &[&str]) {
        let said = said(output);
        let received = self.origin.received();
        let line = |request: &Message| {
            let path = request.head.target().split('?').next().unwrap_or_default();
            format!("{} {path}", request.head.method())
        };
        let mut lines: Vec<_> = received.iter().map(line).collect();
        lines.retain(|line| !UNASKED.contains(&line.as_str()));
        lines.sort();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let answered = stdout.lines().any(|line| line.trim() == "answer: fine");
        assert!(output.status.success() && answered, "{}: {said}\n{lines:#?}", output.status);
        assert_eq!(lines, requests, "{said}");
        for request in &received {
            let head = String::from_utf8_lossy(&request.head.raw);
            assert!(self.takes.accepts(request, &self.canary.text), "{head}");
            assert!(!head.to_ascii_lowercase().contains("proxy-"), "{head}");
        }
        let bytes = String::from_utf8_lossy(&self.origin.bytes()).into_owned();
        for stands_for_it in ["kwph", "kwa_"] {
            assert!(!bytes.contains(stands_for_it), "{stands_for_it} arrived: {bytes}");
        }
        self.canary.assert_absent("what the program said", said.as_bytes());
        self.canary.assert_absent_below(self.install.folder());
        self.install.until("the private gateway is gone", || !self.install.is_served());
    }
}

/// Runs a program before a service.
pub(crate) async fn is_served(program: &Program, service: &Service, requests: &[&str]) {
    let stage = Stage::of(service).await;
    let output = run(stage.command(program)).await;
    stage.assert_served(&output, requests);
}

/// One test for each program: its name, the program, the service, and the requests that arrive.
macro_rules! served {
    ($($name:ident: $program:expr, $service:expr, $requests:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            $crate::served::is_served(&$program, &$service, &$requests).await;
        }
    )*};
}
pub(crate) use served;

fn head_of(answer: &[u8]) -> &[u8] {
    let end = wire::find(answer, b"\r\n\r\n").expect("an answer has a head") + 4;
    &answer[..end]
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder of ours") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            std::fs::create_dir_all(&to).expect("a folder");
            copy_all(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a file of ours");
        }
    }
}

fn source(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/programs").join(script)
}

#[test]
fn the_origin_of_these_tests_accepts_only_the_live_credential() {
    let bearer = Takes::Field("authorization", "Bearer ");
    let request = |lines: &[(&str, &str)]| {
        let mut request = Message::default();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        request.head.fields = lines.iter().map(owned).collect();
        request
    };
    let right = ("Authorization", "Bearer live");
    for wrong in [
        &[][..],
        &[("Authorization", "Bearer kwph")],
        &[("Authorization", "token live")],
        &[("X-Api-Key", "live")],
        &[right, right],
        &[right, ("X-Api-Key", "kwph")],
    ] {
        assert!(!bearer.accepts(&request(wrong), "live"), "{wrong:?}");
    }
    assert!(bearer.accepts(&request(&[right]), "live"));
}
