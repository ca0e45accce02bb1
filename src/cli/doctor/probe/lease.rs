//! [`ProbeLease`]: keeps the program's streams away from the gateway during a probe. The gateway hands streams of
//! this process's descendants to the probe. If it cannot identify them, a program whose arguments or
//! variables name one of its listeners is not started.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::net::UnixStream;

use crate::cli::client::{Client, segment};
use crate::cli::failure::{Exit, Failure};
use crate::cli::settings::Global;
use keyward_api::SOCKET_NAME;
use keyward_api::wire::Status;
use keyward_app::config::Config;

/// How often a starting gateway is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Keeps the gateway from serving the program until it is dropped.
pub(super) struct ProbeLease {
    isolation: Isolation,
    /// Its TCP listeners for agents.
    pub(super) listeners: Vec<SocketAddr>,
}

enum Isolation {
    /// The gateway hands over the program's streams until this response ends.
    ByGateway(Body),
    /// No gateway answers on this socket.
    NoGateway(PathBuf),
    /// Neither arguments nor variables name one of the gateway's listeners.
    Unnamed,
}

/// The input that may lead a program to the gateway.
pub(super) struct ProgramInput<'a> {
    pub(super) program: &'a [OsString],
    /// Variables that Keyward sets; they replace inherited ones.
    pub(super) set: &'a [(String, String)],
}

impl ProbeLease {
    /// Requests the lease for the probe at `at`.
    ///
    /// # Errors
    /// When the gateway cannot identify the program's streams, and the program's input names its address.
    pub(super) async fn take(
        global: &Global,
        config: Option<&Config>,
        at: SocketAddr,
        given: &ProgramInput<'_>,
    ) -> Result<Self, Failure> {
        let Ok(data) = global.data_dir() else {
            return Ok(Self { isolation: Isolation::Unnamed, listeners: Vec::new() });
        };
        let client = match Client::running(global).await {
            Ok(client) => client,
            Err(failure) if failure.exit() == Exit::Unreachable => {
                let isolation = Isolation::NoGateway(data.join(SOCKET_NAME));
                return Ok(Self { isolation, listeners: Vec::new() });
            }
            // Another user's gateway: its listeners are known from the configuration at most.
            Err(failure) => return Self::unnamed(configured(config), given, &failure),
        };
        let listeners =
            client.status().await.map_or_else(|| configured(config), |it| listeners_of(&it));
        match requested(&client, at).await {
            Ok(body) => {
                Ok(Self { isolation: Isolation::ByGateway(body), listeners: tcp(&listeners) })
            }
            Err(failure) => Self::unnamed(listeners, given, &failure),
        }
    }

    fn unnamed(
        listeners: Vec<String>,
        given: &ProgramInput<'_>,
        failure: &Failure,
    ) -> Result<Self, Failure> {
        match listeners.iter().find(|at| given.names(at)) {
            None => Ok(Self { isolation: Isolation::Unnamed, listeners: tcp(&listeners) }),
            Some(at) => {
                let message = format!(
                    "the program is set to use {at}, where the gateway listens, and would get \
                     credentials: {}",
                    failure.message()
                );
                Err(Failure::new(Exit::Failed, message)
                    .hint("stop the gateway, or omit the address: the environment names the probe"))
            }
        }
    }

    /// Resolves when the lease is lost: the gateway has stopped, or one has started.
    pub(super) async fn broken(&mut self) -> &'static str {
        match &mut self.isolation {
            Isolation::ByGateway(body) => {
                while let Some(Ok(_)) = body.frame().await {}
                "the gateway stopped or was restarted"
            }
            Isolation::NoGateway(socket) => {
                while UnixStream::connect(&*socket).await.is_err() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                "a gateway was started"
            }
            Isolation::Unnamed => std::future::pending().await,
        }
    }
}

/// The response whose body is the lease, once its first frame has arrived.
async fn requested(client: &Client, at: SocketAddr) -> Result<Body, Failure> {
    let path = format!("/api/v1/probes?at={}", segment(&at.to_string()));
    let mut body = client.stream(&path).await?;
    match body.frame().await {
        Some(Ok(_)) => Ok(body),
        _ => Err(Failure::new(Exit::Unreachable, "the gateway closed the connection")),
    }
}

/// The listeners of a running gateway.
fn listeners_of(status: &Status) -> Vec<String> {
    let own = status.agents.iter().map(|own| own.at.clone());
    status.proxy.iter().cloned().chain(own).collect()
}

fn configured(config: Option<&Config>) -> Vec<String> {
    let Some(config) = config else { return Vec::new() };
    let own = config.listen.agents.iter().map(|own| own.at.to_string());
    config.listen.proxy.iter().map(ToString::to_string).chain(own).collect()
}

fn tcp(listeners: &[String]) -> Vec<SocketAddr> {
    let plain = |at: &String| at.strip_prefix("https://").unwrap_or(at).parse().ok();
    listeners.iter().filter_map(plain).collect()
}

impl ProgramInput<'_> {
    /// Whether an argument contains the listener's port or path, or a variable contains its address.
    fn names(&self, listener: &str) -> bool {
        let at = listener.strip_prefix("https://").unwrap_or(listener);
        if let Some(path) = at.strip_prefix("unix:") {
            return self.words().chain(self.variables()).any(|text| text.contains(path));
        }
        let Some((_, port)) = at.rsplit_once(':') else { return false };
        let address = format!(":{port}");
        self.words().any(|word| has_number(&word, port))
            || self.variables().any(|value| {
                let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_digit());
                value.match_indices(&address).any(|(at, _)| ends(&value[at + address.len()..]))
            })
    }

    fn words(&self) -> impl Iterator<Item = String> {
        self.program.iter().map(|word| word.to_string_lossy().into_owned())
    }

    fn variables(&self) -> impl Iterator<Item = String> {
        let is_set = |name: &OsString| self.set.iter().any(|(set, _)| name == set.as_str());
        let inherited = std::env::vars_os().filter(move |(name, _)| !is_set(name));
        inherited.map(|(_, value)| value.to_string_lossy().into_owned())
    }
}

/// Whether `number` occurs, but not as part of a longer number.
fn has_number(text: &str, number: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|found| found == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_that_names_a_listener_is_recognised_in_all_common_forms() {
        let listener = "127.0.0.1:8090";
        for word in [
            "--proxy-server=http://127.0.0.1:8090",
            "-Dhttps.proxyPort=8090",
            "http://localhost:8090/to/work/v1",
            "http://work.localhost:8090",
            "curl -x [::1]:8090 https://a.test",
            "8090",
        ] {
            let given = ProgramInput { program: &[OsString::from(word)], set: &[] };
            assert!(given.names(listener), "{word}");
            assert!(!given.names("127.0.0.1:809"), "{word}");
        }
        let other = ProgramInput { program: &["https://a.test:18090/x80901".into()], set: &[] };
        assert!(!other.names(listener));
        let unix = ProgramInput { program: &["--unix-socket=/run/k/ci.sock".into()], set: &[] };
        assert!(unix.names("unix:/run/k/ci.sock") && !unix.names("unix:/run/k/other.sock"));
        let tls = ProgramInput { program: &["https://x:8443".into()], set: &[] };
        assert!(tls.names("https://0.0.0.0:8443"));
    }

    #[tokio::test]
    async fn a_probe_without_isolation_refuses_a_program_that_names_a_listener() {
        let cannot = Failure::new(Exit::Failed, "the gateway cannot tell");
        let listeners = || vec!["127.0.0.1:8080".to_owned(), "127.0.0.1:8090".to_owned()];
        let named = ProgramInput { program: &["--proxy-server=127.0.0.1:8090".into()], set: &[] };
        let refused = ProbeLease::unnamed(listeners(), &named, &cannot).err().unwrap();
        assert!(refused.message().contains("set to use 127.0.0.1:8090"), "{refused}");
        assert!(refused.advice().unwrap().contains("stop the gateway"), "{refused}");
        let other = ProgramInput { program: &["curl".into(), "https://a.test".into()], set: &[] };
        let lease = ProbeLease::unnamed(listeners(), &other, &cannot).ok().unwrap();
        assert_eq!(lease.listeners.len(), 2);
    }
}
