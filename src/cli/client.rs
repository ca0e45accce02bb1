//! [`Client`]: the admin API client of the commands. A gateway that `KEYWARD_URL` names answers over TCP, and a running
//! one of this machine over its socket; otherwise the command has a private one, which calls the same router.
//!
//! Every command reaches the state by [`Client::open`], but for those that need the store closed, or judge a file:
//! `init`, `restore`, `store copy`, `store check` (also of a store that does not open), `plan`, `apply` and `doctor` without
//! a gateway, `config check`, and `serve`. Their functions are those of `keyward_app`.

mod absent;
pub(crate) mod events;
mod messages;
mod private;
mod remote;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

use self::absent::adds;
use self::private::PrivateGateway;
use super::failure::{Exit, Failure};
use super::output;
use super::settings::{Global, Identity, named};
use keyward_api::wire::{List, Status};
use keyward_api::{Admin, SOCKET_NAME};
use keyward_app::config::Config;
use keyward_app::{Opening, is_locked};
use keyward_base::host::Host;
use keyward_base::system_error;
use keyward_state::store::StoreError;
use messages::{closed, decode, request, sent, written};
pub(crate) use messages::{exchange, read, segment, streamed};
pub(crate) use remote::Remote;

/// How long to wait for the store: a starting gateway holds it before it answers on the socket, and other
/// commands hold it while they run.
const START_PATIENCE: Duration = Duration::from_secs(5);
const START_POLL: Duration = Duration::from_millis(100);

/// How long a gateway may take for an answer from memory. It is longer than a connection to another machine may take.
const PROMPT_WITHIN: Duration = Duration::from_secs(20);

/// A client of the admin API.
pub(crate) struct Client {
    way: Way,
    identity: Identity,
    /// Answers since the first addition, where nothing was stored before.
    made: OnceCell<Box<Self>>,
}

/// How requests reach the admin API.
enum Way {
    /// A running gateway of this machine.
    Socket(PathBuf),
    /// A gateway that is named by its URL.
    Remote(Remote),
    /// The gateway of this command.
    Private(Box<PrivateGateway>),
}

/// The result of connecting to the socket.
enum SocketAnswer {
    Answers,
    Closed,
}

impl Client {
    fn new(way: Way, identity: Identity) -> Self {
        Self { way, identity, made: OnceCell::new() }
    }

    /// Uses a running gateway, or else a private one.
    ///
    /// # Errors
    /// When the socket is not for us, or the store cannot be opened.
    pub(crate) async fn open(global: &Global) -> Result<Self, Failure> {
        Self::open_as(global, Opening::Stored).await
    }

    /// Like `open`, and creates what is missing: for commands that print it.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn open_or_make(global: &Global) -> Result<Self, Failure> {
        Self::open_as(global, Opening::Make).await
    }

    /// Like `open`, but without what is stored where the store cannot be opened: for the catalogue and the audit log, which
    /// need no store.
    ///
    /// # Errors
    /// When a gateway that is named is not reached, or the configuration cannot be read.
    pub(crate) async fn open_or_empty(global: &Global) -> Result<Self, Failure> {
        let failure = match Self::open(global).await {
            Err(failure) if failure.exit() != Exit::Forbidden && named(global).is_none() => failure,
            opened => return opened,
        };
        match Box::pin(PrivateGateway::open(global, Opening::Empty)).await {
            Ok(private) => {
                output::note(&format!("note: without what is stored: {}", failure.message()));
                Ok(Self::of_private(private, Identity::of(global)?))
            }
            Err(_) => Err(failure),
        }
    }

    /// Like `open`, for commands that add something: whether it can be stored is known before people give it.
    ///
    /// # Errors
    /// As there; and when the data directory is missing and cannot be created, or the store may be elsewhere.
    pub(crate) async fn open_to_add(global: &Global) -> Result<Self, Failure> {
        let client = Self::open(global).await?;
        match client.private().and_then(PrivateGateway::absent) {
            Some(absent) => absent.check_place().map(|()| client),
            None => Ok(client),
        }
    }

    async fn open_as(global: &Global, opening: Opening) -> Result<Self, Failure> {
        if let Some(remote) = Self::remote(global)? {
            return Ok(remote);
        }
        let identity = Identity::of(global)?;
        let path = global.data_dir()?.join(SOCKET_NAME);
        let until = Instant::now() + START_PATIENCE;
        loop {
            if let SocketAnswer::Answers = look(&path).await? {
                return Ok(Self::new(Way::Socket(path), identity));
            }
            match Box::pin(PrivateGateway::open(global, opening)).await {
                Ok(private) => return Ok(Self::of_private(private, identity)),
                Err(error) if !is_locked(&error) => return Err(error.into()),
                Err(error) if Instant::now() > until => return Err(locked(&error)),
                Err(_) => tokio::time::sleep(START_POLL).await,
            }
        }
    }

    fn of_private(private: PrivateGateway, identity: Identity) -> Self {
        let is_absent = private.absent().is_some();
        let identity = if is_absent { identity.without_token() } else { identity };
        Self::new(Way::Private(Box::new(private)), identity)
    }

    /// Reads only what the configuration file declares: opens no store, key or secret.
    ///
    /// # Errors
    /// All errors of the configuration.
    pub(crate) async fn of_file(config: &Config) -> Result<Self, Failure> {
        let private = PrivateGateway::of_file(config).await.map_err(|error| {
            Failure::from(error).hint(
                "without a gateway, only the configuration file is read: declare the resource in it",
            )
        })?;
        // The file is read with the rights of this user.
        Ok(Self::new(Way::Private(Box::new(private)), Identity::default()))
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

    /// The running gateway; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) async fn if_running(global: &Global) -> Result<Option<Self>, Failure> {
        match Self::running(global).await {
            Err(failure) if failure.exit() == Exit::Unreachable => Ok(None),
            found => found.map(Some),
        }
    }

    /// The gateway of this data directory.
    ///
    /// # Errors
    /// As [`Client::running`].
    pub(crate) async fn running_as(global: &Global, identity: Identity) -> Result<Self, Failure> {
        let path = global.data_dir()?.join(SOCKET_NAME);
        match look(&path).await? {
            SocketAnswer::Answers => Ok(Self::new(Way::Socket(path), identity)),
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
        Ok(Some(Self::new(Way::Remote(remote), identity)))
    }

    /// The status of the running gateway; `None` for a private one, or if the status cannot be read.
    pub(crate) async fn status(&self) -> Option<Status> {
        self.read_status().await.ok().flatten()
    }

    /// The status of the running gateway; `None` for a private one.
    ///
    /// # Errors
    /// When the gateway refuses the request, or its answer cannot be read.
    pub(crate) async fn read_status(&self) -> Result<Option<Status>, Failure> {
        match self.is_private() {
            true => Ok(None),
            false => self.get_promptly("/api/v1/status").await.map(Some),
        }
    }

    /// Whether the gateway ends with this command, because no other runs.
    pub(crate) fn is_private(&self) -> bool {
        self.private().is_some()
    }

    fn private(&self) -> Option<&PrivateGateway> {
        match &self.current().way {
            Way::Private(private) => Some(private),
            Way::Socket(_) | Way::Remote(_) => None,
        }
    }

    /// The client that answers now.
    fn current(&self) -> &Self {
        self.made.get().map_or(self, AsRef::as_ref)
    }

    /// The host of a gateway that is named by its URL.
    pub(crate) fn host(&self) -> Option<&Host> {
        match &self.way {
            Way::Remote(remote) => Some(remote.host()),
            Way::Socket(_) | Way::Private(_) => None,
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

    /// The control plane of a private gateway, for pages of a consent.
    pub(crate) fn own_admin(&self) -> Option<&Admin> {
        self.private().and_then(PrivateGateway::admin)
    }

    /// Awaits work during which a private gateway may receive tokens: a signal does not lose them.
    ///
    /// # Errors
    /// Those of `work`, and after a signal.
    pub(crate) async fn until_landed<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self.private() {
            Some(private) => private.until_landed(work).await,
            None => work.await,
        }
    }

    /// GET, with an answer that is read piece by piece.
    pub(crate) async fn stream(&self, path: &str) -> Result<Body, Failure> {
        streamed(self.current().send(Method::GET, path, Body::empty()).await?).await
    }

    /// POST, with an answer that [`streamed`] reads piece by piece.
    pub(crate) async fn begin(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Response<Body>, Failure> {
        self.current().send(Method::POST, path, written(body)?).await
    }

    /// The client that answers this request: where nothing was stored, the first addition creates the data directory.
    async fn for_request(&self, method: &Method, path: &str) -> Result<&Self, Failure> {
        match self.private().and_then(PrivateGateway::absent) {
            Some(absent) if adds(method, path) => {
                let make =
                    || async { Self::open_as(&absent.global, Opening::Make).await.map(Box::new) };
                Ok(self.made.get_or_try_init(make).await?)
            }
            _ => Ok(self.current()),
        }
    }

    async fn call(&self, method: Method, path: &str, body: Body) -> Result<Bytes, Failure> {
        let client = self.for_request(&method, path).await?;
        let answer = match client.private() {
            Some(private) => {
                let request = client.request(method, path, body)?;
                Box::pin(private.answer(request)).await
            }
            None => match client.send(method, path, body).await {
                Ok(answer) => read(answer).await,
                Err(failure) => Err(failure),
            },
        };
        answer.map_err(|failure| self.identity.explained(failure))
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Result<Request<Body>, Failure> {
        let mut request = request(method, path, body)?;
        self.identity.mark(request.headers_mut());
        Ok(request)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Response<Body>, Failure> {
        let request = self.request(method, path, body)?;
        match &self.way {
            Way::Private(private) => Box::pin(private.send(request)).await,
            Way::Remote(remote) => Box::pin(remote.send(request)).await,
            Way::Socket(at) => {
                let stream = UnixStream::connect(at).await.map_err(|_| unreachable(at))?;
                sent(stream, request).await.map_err(closed)
            }
        }
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
        let client = Client::new(Way::Socket(path), Identity::default());
        let failure = client.read_status().await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert_eq!(failure.message(), "the gateway gave no answer within 20 s");
        assert!(failure.advice().is_some_and(|hint| hint.contains("see its log")));
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
