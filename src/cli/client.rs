//! [`Client`]: the admin API client of the commands. A gateway that `KEYWARD_URL` names answers over TCP, and a running
//! one of this machine over its socket; otherwise this process opens the services and calls the same router.

pub(crate) mod events;
mod in_process;
mod landing;
mod messages;
mod no_installation;
mod remote;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;
use tower::ServiceExt;

use self::in_process::MissingData;
use super::failure::{Exit, Failure};
use super::settings::Global;
use super::settings::Identity;
use in_process::InProcessApi;
use keyward_api::wire::{List, Status};
use keyward_api::{Admin, SOCKET_NAME, audit_router, socket_router};
use keyward_app::config::Config;
use keyward_app::{Services, is_locked};
use keyward_base::host::Host;
use keyward_base::system_error;
use keyward_state::observe::trail::Trail;
use keyward_state::store::StoreError;
use messages::{closed, decode, request, written};
pub(crate) use messages::{exchange, read};
use no_installation::NoInstallation;
pub(crate) use remote::Remote;

/// How long to wait for the store: a starting gateway holds it before it answers on the socket, and other
/// commands hold it while they run.
const START_PATIENCE: Duration = Duration::from_secs(5);
const START_POLL: Duration = Duration::from_millis(100);

/// How long a gateway may take for an answer from memory. It is longer than a connection to another machine may take.
const PROMPT_WITHIN: Duration = Duration::from_secs(20);

/// RFC 3986 §2.3: unreserved characters of a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A client of the admin API.
pub(crate) struct Client {
    via: Via,
    identity: Identity,
}

/// How requests reach the admin API.
enum Via {
    /// A running gateway.
    Socket(PathBuf),
    /// A gateway that is named by its URL.
    Remote(Remote),
    InProcess(Box<InProcessApi>),
    /// This process, for an installation without a store; the services, since a resource was added.
    NoInstallation(Box<NoInstallation>, OnceCell<Box<Client>>),
}

/// The result of connecting to the socket.
enum SocketAnswer {
    Answers,
    Closed,
}

impl Client {
    /// Uses a running gateway, or else the services in this process.
    ///
    /// # Errors
    /// When the socket is not for us, or the store cannot be opened.
    pub(crate) async fn open(global: &Global) -> Result<Self, Failure> {
        Self::open_as(global, MissingData::Leave, false).await
    }

    /// Whether a resource can be stored, as far as that is known before one is added.
    ///
    /// # Errors
    /// When the data directory is missing and cannot be created, or the store may be elsewhere.
    pub(crate) fn can_store(&self) -> Result<(), Failure> {
        match &self.via {
            Via::NoInstallation(absent, _) => absent.can_be_made(),
            Via::Socket(_) | Via::Remote(_) | Via::InProcess(_) => Ok(()),
        }
    }

    /// Like `open`, and creates what is missing: for commands that print it.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn open_or_make(global: &Global) -> Result<Self, Failure> {
        Self::open_as(global, MissingData::Make, false).await
    }

    /// Like `open`, for commands that test connections: without a gateway, this process sends the test.
    ///
    /// # Errors
    /// As there, and when the audit log cannot be opened.
    pub(crate) async fn open_to_send(global: &Global) -> Result<Self, Failure> {
        Self::open_as(global, MissingData::Leave, true).await
    }

    async fn open_as(
        global: &Global,
        missing: MissingData,
        to_send: bool,
    ) -> Result<Self, Failure> {
        if let Some(remote) = Self::remote(global)? {
            return Ok(remote);
        }
        let identity = Identity::of(global)?;
        let path = global.data_dir()?.join(SOCKET_NAME);
        if let SocketAnswer::Answers = look(&path).await? {
            return Ok(Self { via: Via::Socket(path), identity });
        }
        if missing == MissingData::Leave
            && let Some(absent) = NoInstallation::find(global, to_send).await?
        {
            return Ok(Self {
                via: Via::NoInstallation(Box::new(absent), OnceCell::new()),
                identity,
            });
        }
        let until = Instant::now() + START_PATIENCE;
        loop {
            match InProcessApi::open(global, missing, to_send).await {
                Ok(services) => {
                    return Ok(Self { via: Via::InProcess(Box::new(services)), identity });
                }
                Err(error) if !is_locked(&error) => return Err(error.into()),
                Err(error) if Instant::now() > until => return Err(locked(&error)),
                Err(_) => tokio::time::sleep(START_POLL).await,
            }
            if let SocketAnswer::Answers = look(&path).await? {
                break;
            }
        }
        Ok(Self { via: Via::Socket(path), identity })
    }

    /// Uses a running gateway, or else the files of the audit log, which need neither store nor keys.
    ///
    /// # Errors
    /// When the socket is not for us, the configuration cannot be read, or the log may be elsewhere.
    pub(crate) async fn for_audit(global: &Global) -> Result<Self, Failure> {
        match Self::running(global).await {
            Err(failure) if failure.exit() == Exit::Unreachable => {
                let config = global.load()?;
                Services::check_audit_log(&config).map_err(anyhow::Error::from)?;
                let router = audit_router(Trail::at(&config.audit.file));
                let identity = Identity::of(global)?;
                Ok(Self { via: Via::InProcess(Box::new(InProcessApi::only(router))), identity })
            }
            found => found,
        }
    }

    /// Uses a running gateway, or else only the providers, which need neither store nor keys.
    ///
    /// # Errors
    /// When the socket is not for us, or the configuration cannot be read.
    pub(crate) async fn for_providers(global: &Global) -> Result<Self, Failure> {
        match Self::running(global).await {
            Err(failure) if failure.exit() == Exit::Unreachable => {
                let services = Services::empty(&global.load()?).await?;
                let router = socket_router(Admin::in_process(services.deps.clone()));
                let via = Via::InProcess(Box::new(InProcessApi::only(router)));
                // Built-in providers are the same for all users.
                Ok(Self { via, identity: Identity::default() })
            }
            found => found,
        }
    }

    /// Reads only what the configuration file declares: opens no store, key or secret.
    ///
    /// # Errors
    /// All errors of the configuration.
    pub(crate) async fn of_file(config: &Config) -> Result<Self, Failure> {
        let services = Services::declared_only(config).await.map_err(|error| {
            Failure::from(error).hint(
                "without a gateway, only the configuration file is read: declare the resource in it",
            )
        })?;
        let router = socket_router(Admin::in_process(services.deps.clone()));
        // The file is read with the rights of this user.
        let identity = Identity::default();
        Ok(Self { via: Via::InProcess(Box::new(InProcessApi::only(router))), identity })
    }

    /// Uses only a running gateway.
    ///
    /// # Errors
    /// Exit code 3 when none runs.
    pub(crate) async fn running(global: &Global) -> Result<Self, Failure> {
        match Self::remote(global)? {
            Some(remote) => Ok(remote),
            None => Self::running_as(global, Identity::of(global)?).await,
        }
    }

    /// The gateway of this data directory.
    ///
    /// # Errors
    /// As [`Client::running`].
    pub(crate) async fn running_as(global: &Global, identity: Identity) -> Result<Self, Failure> {
        let path = global.data_dir()?.join(SOCKET_NAME);
        match look(&path).await? {
            SocketAnswer::Answers => Ok(Self { via: Via::Socket(path), identity }),
            SocketAnswer::Closed => {
                Err(unreachable(&path).hint(format!("start one: {} serve", global.keyward())))
            }
        }
    }

    /// The gateway of this data directory, on this machine; `None` if none answers.
    pub(crate) async fn running_here(global: &Global) -> Option<Self> {
        Self::running(global).await.ok().filter(|client| client.host().is_none())
    }

    /// The gateway that `--gateway` or `KEYWARD_URL` names. It is reached with the first request.
    fn remote(global: &Global) -> Result<Option<Self>, Failure> {
        let Some(remote) = Remote::of(global)? else { return Ok(None) };
        let identity = Identity::of(global)?;
        remote.known_to(&identity)?;
        Ok(Some(Self { via: Via::Remote(remote), identity }))
    }

    /// The status of the running gateway; `None` if this process answers, or if the status cannot be read.
    pub(crate) async fn status(&self) -> Option<Status> {
        self.read_status().await.ok().flatten()
    }

    /// The status of the running gateway; `None` if this process answers.
    ///
    /// # Errors
    /// When the gateway refuses the request, or its answer cannot be read.
    pub(crate) async fn read_status(&self) -> Result<Option<Status>, Failure> {
        match self.via {
            Via::Socket(_) | Via::Remote(_) => self.get_promptly("/api/v1/status").await.map(Some),
            Via::InProcess(_) | Via::NoInstallation(..) => Ok(None),
        }
    }

    /// Whether this process answers, because no gateway runs.
    pub(crate) fn is_in_process(&self) -> bool {
        !matches!(self.via, Via::Socket(_) | Via::Remote(_))
    }

    /// The host of a gateway that is named by its URL.
    pub(crate) fn host(&self) -> Option<&Host> {
        match &self.via {
            Via::Remote(remote) => Some(remote.host()),
            Via::Socket(_) | Via::InProcess(_) | Via::NoInstallation(..) => None,
        }
    }

    /// GET of one resource.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        decode(&self.call(Method::GET, path, Body::empty()).await?)
    }

    /// GET of what a gateway has in memory.
    ///
    /// # Errors
    /// Exit code 3 also when no answer comes in time.
    pub(crate) async fn get_promptly<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = tokio::time::timeout(PROMPT_WITHIN, self.get(path)).await;
        answer.unwrap_or_else(|_| {
            let seconds = PROMPT_WITHIN.as_secs();
            let message = format!("the gateway gave no answer within {seconds} s");
            Err(Failure::new(Exit::Unreachable, message)
                .hint("its process is stopped or overloaded: see its log, or restart it"))
        })
    }

    /// GET of a text.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Failure> {
        let bytes = self.call(Method::GET, path, Body::empty()).await?;
        String::from_utf8(bytes.to_vec())
            .map_err(|error| Failure::failed("the gateway's answer is not text", &error))
    }

    /// Reads a whole list, page by page. Filters without a value are omitted.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        filters: &[(&str, Option<&str>)],
    ) -> Result<List<T>, Failure> {
        let mut all = List::default();
        loop {
            let given = filters.iter().copied().chain([("after", all.next.as_deref())]);
            let pairs = given.filter_map(|(k, v)| Some(format!("{k}={}", segment(v?))));
            let pairs: Vec<_> = pairs.collect();
            let page: List<T> = self.get(&format!("{path}?{}", pairs.join("&"))).await?;
            all.items.extend(page.items);
            all.next = page.next;
            if all.next.is_none() {
                return Ok(all);
            }
        }
    }

    /// POST: creates a resource.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        decode(&self.call(Method::POST, path, written(body)?).await?)
    }

    /// PUT, of a body that may hold a secret; the answer has none.
    pub(crate) async fn put(&self, path: &str, body: &impl Serialize) -> Result<(), Failure> {
        self.call(Method::PUT, path, written(body)?).await.map(drop)
    }

    /// PATCH: `body` is a merge patch.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let json = serde_json::to_vec(body)
            .map_err(|error| Failure::failed("cannot write the request", &error))?;
        decode(&self.call(Method::PATCH, path, Body::from(json)).await?)
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.call(Method::DELETE, path, Body::empty()).await.map(drop)
    }

    /// DELETE, with the answer's body.
    pub(crate) async fn delete_for<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        decode(&self.call(Method::DELETE, path, Body::empty()).await?)
    }

    /// The control plane of this process, if it answers itself.
    pub(crate) fn own_admin(&self) -> Option<&Admin> {
        match &self.via {
            Via::Socket(_) | Via::Remote(_) => None,
            Via::InProcess(in_process) => in_process.admin.as_ref(),
            Via::NoInstallation(_, made) => made.get().and_then(|made| made.own_admin()),
        }
    }

    /// Reads a streaming answer, which ends with the gateway.
    pub(crate) async fn stream(&self, path: &str) -> Result<Body, Failure> {
        self.streamed(self.request(Method::GET, path, Body::empty())?).await
    }

    /// POST, with an answer that is read piece by piece.
    pub(crate) async fn download(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Body, Failure> {
        let json = written(body)?;
        self.streamed(self.request(Method::POST, path, json)?).await
    }

    async fn streamed(&self, request: Request<Body>) -> Result<Body, Failure> {
        let path = request.uri().path().to_owned();
        let answer = match &self.via {
            Via::InProcess(services) => match services.router.clone().oneshot(request).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            },
            Via::NoInstallation(absent, _) => return Err(absent.refusal()),
            Via::Remote(remote) => Box::pin(remote.send(request)).await?,
            Via::Socket(at) => {
                let stream = UnixStream::connect(at).await.map_err(|_| unreachable(at))?;
                let (mut sender, stream) = handshake(TokioIo::new(stream)).await.map_err(closed)?;
                tokio::spawn(stream);
                sender.send_request(request).await.map_err(closed)?.map(Body::new)
            }
        };
        match answer.status().is_success() {
            true => Ok(answer.into_body()),
            false => Err(read(answer).await.err().unwrap_or_else(|| unreachable(Path::new(&path)))),
        }
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Result<Request<Body>, Failure> {
        let mut request = request(method, path, body)?;
        self.identity.mark(request.headers_mut());
        Ok(request)
    }

    /// The services that answer this request where nothing was stored; the first addition creates the data directory.
    async fn made_for(&self, method: &Method, path: &str) -> Result<Option<&Self>, Failure> {
        let Via::NoInstallation(absent, made) = &self.via else { return Ok(None) };
        if made.get().is_none() && !no_installation::adds(method, path) {
            return Ok(None);
        }
        let make = || async {
            Self::open_as(&absent.global, MissingData::Make, absent.to_send).await.map(Box::new)
        };
        let made = Box::pin(made.get_or_try_init(make)).await?;
        Ok(Some(made))
    }

    async fn call(&self, method: Method, path: &str, body: Body) -> Result<Bytes, Failure> {
        no_empty_name(path)?;
        if let Some(made) = self.made_for(&method, path).await? {
            return Box::pin(made.call(method, path, body)).await;
        }
        let request = self.request(method, path, body)?;
        let answer = match &self.via {
            Via::InProcess(services) => services.answer(request).await,
            Via::NoInstallation(absent, _) => absent.answer(request).await,
            Via::Remote(remote) => read(Box::pin(remote.send(request)).await?).await,
            Via::Socket(at) => match UnixStream::connect(at).await {
                Ok(stream) => exchange(stream, request).await,
                Err(_) => Err(unreachable(at)),
            },
        };
        answer.map_err(|failure| self.identity.explained(failure))
    }
}

/// A value as a path segment or a query value.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Refuses the path of a resource whose name is empty.
fn no_empty_name(path: &str) -> Result<(), Failure> {
    let path = path.split('?').next().unwrap_or_default();
    match path.ends_with('/') || path.contains("//") {
        true => Err(Failure::usage("the name is empty").hint("give a name or an id")),
        false => Ok(()),
    }
}

/// Whether a gateway answers on the socket.
async fn look(path: &Path) -> Result<SocketAnswer, Failure> {
    match UnixStream::connect(path).await {
        Ok(_) => Ok(SocketAnswer::Answers),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let message = format!("no permission to use {}", path.display());
            Err(Failure::new(Exit::Forbidden, message)
                .hint("run this as the gateway's user, or choose another directory with --data"))
        }
        Err(error) if system_error::is_out_of_descriptors(&error) => {
            Err(Failure::failed(&format!("cannot use {}", path.display()), &error))
        }
        // The file does not exist, is stale, or its path is too long for a socket.
        Err(_) => Ok(SocketAnswer::Closed),
    }
}

/// Another process has locked the store, but answers on no socket.
fn locked(error: &anyhow::Error) -> Failure {
    let mut causes = error.chain();
    let cause = causes.find(|cause| cause.downcast_ref::<StoreError>().is_some());
    let message = cause.map_or_else(|| error.to_string(), ToString::to_string);
    Failure::new(Exit::Unreachable, message)
        .hint("a gateway that starts or ends, or another command, has it: try again in a moment")
}

fn unreachable(path: &Path) -> Failure {
    let message = format!("no gateway answers on {}", path.display());
    Failure::new(Exit::Unreachable, message).hint("start one: keyward serve")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its process is stopped: the system still accepts connections to its socket.
    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_gives_no_answer_is_reported_as_not_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET_NAME);
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        let client = Client { via: Via::Socket(path), identity: Identity::default() };
        let failure = client.read_status().await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert_eq!(failure.message(), "the gateway gave no answer within 20 s");
        assert!(failure.advice().is_some_and(|hint| hint.contains("see its log")));
    }

    #[test]
    fn a_path_segment_is_percent_encoded() {
        for (text, coded) in [("a/b", "a%2Fb"), ("a?b#c", "a%3Fb%23c"), ("é", "%C3%A9")] {
            assert_eq!(segment(text), coded);
        }
        assert_eq!(segment("claude-code_1.2~x"), "claude-code_1.2~x");
    }

    #[test]
    fn a_path_with_an_empty_name_is_refused() {
        for path in ["/api/v1/rules/", "/api/v1/agents//tokens", "/api/v1/connections/?revoke=true"]
        {
            let refused = no_empty_name(path).map_err(|failure| failure.message());
            assert_eq!(refused, Err("the name is empty".to_owned()), "{path}");
        }
        for path in ["/api/v1/rules", "/readyz", "/api/v1/audit?exchange=//"] {
            assert_eq!(no_empty_name(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_locked_store_is_recognised_below_any_context() {
        let locked_by = || StoreError::Locked { pid: Some(4121) };
        let error = anyhow::Error::new(locked_by()).context("cannot open the store");
        assert!(is_locked(&error));
        assert!(!is_locked(&anyhow::Error::msg("something else")));
        insta::assert_snapshot!(locked(&error), @r"
        error: store is locked by process 4121
        hint: a gateway that starts or ends, or another command, has it: try again in a moment
        ");
    }
}
