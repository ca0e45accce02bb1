//! [`StoredListeners`]: opens the listeners that are stored, and closes those that are removed or changed. Those of the
//! configuration are opened by the program. An address in use does not fail the start; it is retried.
//! [`InheritedListeners`]: the sockets of stored listeners that another process has passed to this one.

mod terms;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyward_base::id::{DatabaseListenerId, OrgId};
use keyward_model::{ListenerPlace, Record};
use keyward_proxy::{Cores, HandedOver, Listener, ListenerOwner, OpenListener};
use keyward_state::directory::Directory;
use parking_lot::RwLock;
use tokio::sync::{Mutex, MutexGuard, watch};

pub use self::terms::{ListenerProblem, ListenerTerms};
use crate::listener::DatabaseListener;
use crate::overload_answer;

/// The folder of the listeners' sockets, in the data directory.
pub const DATABASE_SOCKETS: &str = "databases";

/// The retry interval for addresses that cannot be opened.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Changes of the directory within this time are handled together. A removal on another replica closes the port here
/// within a second.
const CHANGES_TOGETHER: Duration = Duration::from_millis(50);

/// The stored listeners of a process.
#[derive(Debug)]
pub struct StoredListeners {
    directory: Arc<Directory>,
    /// Locked by each change, so that a place that is bound for a new record is not tried by the follower meanwhile.
    listeners: Mutex<OpenListeners>,
    /// The statuses that the API shows.
    statuses: RwLock<BTreeMap<DatabaseListenerId, ListenerStatus>>,
}

/// The status of a stored listener while a gateway serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenerStatus {
    /// The terms with which it was opened.
    pub terms: ListenerTerms,
    /// Where it is open, or why it is not.
    pub place: Result<OpenPlace, ListenerProblem>,
}

/// Where a listener is open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OpenPlace {
    /// An address with its real port.
    Tcp(SocketAddr),
    /// A unix socket.
    Socket(PathBuf),
}

#[derive(Debug, Default)]
struct OpenListeners {
    /// `None`: no gateway serves, or it drains.
    serving: Option<ListenerSupplies>,
    all: BTreeMap<DatabaseListenerId, StoredListener>,
}

/// The resources that opening a listener needs.
#[derive(Debug)]
struct ListenerSupplies {
    cores: Arc<Cores>,
    /// The folder of sockets.
    folder: PathBuf,
    /// The sockets of the predecessor that no listener has taken yet.
    inherited: InheritedListeners,
}

#[derive(Debug)]
struct StoredListener {
    terms: ListenerTerms,
    open: Result<OpenListener, ListenerProblem>,
}

/// Exclusive access to the listeners, for a change.
#[derive(Debug)]
pub struct ListenersGuard<'a> {
    stored: &'a StoredListeners,
    listeners: MutexGuard<'a, OpenListeners>,
}

impl StoredListeners {
    /// Opens no listener until [`StoredListeners::begin`] is called.
    pub fn new(directory: Arc<Directory>) -> Arc<Self> {
        let (listeners, statuses) = (Mutex::default(), RwLock::default());
        Arc::new(Self { directory, listeners, statuses })
    }

    /// Opens all stored listeners. `folder`: the directory of sockets. `inherited`: the sockets of the predecessor.
    pub async fn begin(&self, cores: Arc<Cores>, folder: PathBuf, inherited: InheritedListeners) {
        let mut guard = self.lock().await;
        guard.listeners.serving = Some(ListenerSupplies { cores, folder, inherited });
        guard.follow_directory().await;
        if let Some(serving) = &mut guard.listeners.serving {
            serving.inherited.close();
        }
    }

    /// The sockets of all that are open, with their names for [`InheritedListeners`].
    ///
    /// # Errors
    /// When no descriptor is left.
    pub async fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let listeners = self.listeners.lock().await;
        let open = listeners.all.iter().filter_map(|(id, entry)| {
            let open = entry.open.as_ref().ok()?;
            Some((socket_name(id, &entry.terms.place), open))
        });
        open.map(|(name, open)| Ok((name, open.try_clone_socket()?))).collect()
    }

    /// Follows changes of the directory, and retries failed listeners, until `draining` turns true. Open streams then
    /// continue.
    pub async fn follow(self: Arc<Self>, mut draining: watch::Receiver<bool>) {
        let mut changes = self.directory.changes();
        loop {
            changes.borrow_and_update();
            let has_failed = self.lock().await.follow_directory().await;
            let again = async {
                match has_failed {
                    true => tokio::time::sleep(TRY_AGAIN_AFTER).await,
                    false => std::future::pending().await,
                }
            };
            let changed = async {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(CHANGES_TOGETHER).await;
            };
            tokio::select! {
                () = changed => {}
                () = again => {}
                // A dropped sender means the same.
                _ = draining.wait_for(|draining| *draining) => break,
            }
        }
        self.lock().await.end().await;
    }

    /// Waits for exclusive access to the listeners.
    pub async fn lock(&self) -> ListenersGuard<'_> {
        ListenersGuard { stored: self, listeners: self.listeners.lock().await }
    }

    /// The status of a listener; `None`: this process does not serve, or the listener is not stored.
    pub fn status(&self, id: &DatabaseListenerId) -> Option<ListenerStatus> {
        self.statuses.read().get(id).cloned()
    }

    /// The statuses of all listeners, by name.
    pub fn statuses(&self) -> Vec<ListenerStatus> {
        let mut all: Vec<_> = self.statuses.read().values().cloned().collect();
        all.sort_by(|a, b| (&a.terms.name, &a.terms.org).cmp(&(&b.terms.name, &b.terms.org)));
        all
    }
}

impl ListenersGuard<'_> {
    /// Binds the address of a record before it is stored; `None`: this process does not serve, so nothing is bound.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub async fn bind(&self, place: &ListenerPlace) -> Result<Option<Listener>, ListenerProblem> {
        match &self.listeners.serving {
            None => Ok(None),
            Some(serving) => serving.bind(place).await.map(Some),
        }
    }

    /// Like [`Self::bind`], for a record before it is changed; also `None`: the listener is open there already.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub async fn bind_other(
        &self,
        id: &DatabaseListenerId,
        place: &ListenerPlace,
    ) -> Result<Option<Listener>, ListenerProblem> {
        let open = self.listeners.all.get(id).and_then(|entry| {
            let open = entry.open.as_ref().ok()?;
            Some((&entry.terms.place, open.addr()))
        });
        let is_there = open.is_some_and(|(before, addr)| match place {
            ListenerPlace::Tcp(wanted) => before == place || addr == Some(*wanted),
            ListenerPlace::Socket(_) => before == place,
        });
        if is_there { Ok(None) } else { self.bind(place).await }
    }

    /// Opens the stored record. `bound`: the bound socket, if the address changed.
    pub async fn open(&mut self, org: &OrgId, id: &DatabaseListenerId, bound: Option<Listener>) {
        let view = self.stored.directory.view();
        if let Some(record) = view.one::<keyward_model::DatabaseListener>(org, id) {
            self.put(record, ListenerTerms::of(record, &view), bound).await;
        }
    }

    /// Closes a removed listener, and ends its sessions.
    pub async fn close(&mut self, id: &DatabaseListenerId) {
        if let Some(StoredListener { terms, open }) = self.listeners.all.remove(id) {
            self.stored.statuses.write().remove(id);
            if let Ok(open) = open {
                tracing::info!(listener = terms.name, at = %open, "closing a database listener");
                open.close().await;
            }
        }
    }

    /// Opens and closes listeners as the directory says. Returns whether one cannot be opened.
    async fn follow_directory(&mut self) -> bool {
        if self.listeners.serving.is_none() {
            return false;
        }
        let view = self.stored.directory.view();
        let all = view.orgs().flat_map(|org| view.all::<keyward_model::DatabaseListener>(&org.id));
        let all: Vec<_> = all.cloned().collect();
        let open = self.listeners.all.keys().cloned();
        let gone = open.filter(|id| all.iter().all(|record| record.id != *id));
        for id in gone.collect::<Vec<_>>() {
            self.close(&id).await;
        }
        for record in &all {
            self.put(record, ListenerTerms::of(record, &view), None).await;
        }
        self.listeners.all.values().any(|entry| entry.open.is_err())
    }

    /// Opens it with these terms, unless it is open with them.
    async fn put(
        &mut self,
        record: &Record<keyward_model::DatabaseListener>,
        terms: ListenerTerms,
        bound: Option<Listener>,
    ) {
        let id = &record.id;
        let is_open = |entry: &StoredListener| entry.terms == terms && entry.open.is_ok();
        if bound.is_none() && self.listeners.all.get(id).is_some_and(is_open) {
            return;
        }
        let before = self.listeners.all.remove(id);
        let failed_before = before.as_ref().and_then(|entry| entry.open.as_ref().err().cloned());
        if let Some(StoredListener { open: Ok(open), .. }) = before {
            open.close().await;
        }
        let Some(serving) = &mut self.listeners.serving else { return };
        let bound = bound.or_else(|| serving.taken_over(id, &terms.place));
        let open = serving.open(&terms, bound).await;
        match &open {
            Ok(open) => {
                tracing::info!(listener = terms.name, at = %open, "opened a database listener");
            }
            Err(problem) if failed_before.as_ref() == Some(problem) => {}
            Err(problem) => tracing::warn!(
                id = "database_listener_failed",
                listener = terms.name,
                %problem,
                "a database listener cannot be opened; it is retried"
            ),
        }
        let place = open.as_ref().map(OpenPlace::of).map_err(Clone::clone);
        let status = ListenerStatus { terms: terms.clone(), place };
        self.stored.statuses.write().insert(id.clone(), status);
        self.listeners.all.insert(id.clone(), StoredListener { terms, open });
    }

    /// Waits until all have stopped accepting, and lets go of the cores.
    async fn end(&mut self) {
        self.listeners.serving = None;
        self.stored.statuses.write().clear();
        for entry in std::mem::take(&mut self.listeners.all).into_values() {
            if let Ok(open) = entry.open {
                open.wait_until_stopped().await;
            }
        }
    }
}

impl ListenerSupplies {
    /// The listener that the gateway before had for this record at this place.
    fn taken_over(&mut self, id: &DatabaseListenerId, place: &ListenerPlace) -> Option<Listener> {
        let socket = self.inherited.take(id, place)?;
        let listener = match place {
            ListenerPlace::Tcp(_) => Listener::inherited_tcp(socket.into()),
            ListenerPlace::Socket(name) => {
                Listener::inherited_unix_at(socket.into(), self.folder.join(name))
            }
        };
        // If it cannot be used, the place is bound as at a usual start.
        listener.ok()
    }

    async fn bind(&self, place: &ListenerPlace) -> Result<Listener, ListenerProblem> {
        let bound = match place {
            ListenerPlace::Tcp(addr) => Listener::tcp(*addr).await,
            ListenerPlace::Socket(name) => match private_folder(&self.folder) {
                Ok(()) => Listener::unix(self.folder.join(name)).await,
                Err(error) => Err(error),
            },
        };
        bound.map_err(|error| ListenerProblem::of(place, &error))
    }

    async fn open(
        &self,
        terms: &ListenerTerms,
        bound: Option<Listener>,
    ) -> Result<OpenListener, ListenerProblem> {
        let ListenerTerms { org, place, protocol, .. } = terms;
        if let Some(problem) = &terms.problem {
            return Err(problem.clone());
        }
        let listener = match bound {
            Some(bound) => bound,
            None => self.bind(place).await?,
        };
        let listener = listener.kept_when(self.inherited.handed_over.clone());
        let mut listener = listener.with_overload_answer(overload_answer(*protocol));
        if let Some(agent) = &terms.agent {
            let owner = ListenerOwner { org: org.clone(), agent: agent.clone() };
            let owned = listener.owned_by(owner);
            listener = owned.map_err(|error| ListenerProblem::of(place, &error))?;
        }
        let ListenerTerms { server_version, connection, .. } = terms.clone();
        let service = DatabaseListener::new(*protocol, server_version, connection);
        Ok(self.cores.open(listener, service))
    }
}

impl OpenPlace {
    fn of(open: &OpenListener) -> Self {
        match (open.addr(), open.path()) {
            (Some(addr), _) => Self::Tcp(addr),
            (None, path) => Self::Socket(path.map(Path::to_owned).unwrap_or_default()),
        }
    }
}

impl std::fmt::Display for OpenPlace {
    /// `127.0.0.1:6432`, or `unix:` and a path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Its parent, the data directory, is closed to other users as well.
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What the names of these sockets begin with.
const PREFIX: &str = "database-listener ";

/// The sockets of the gateway before, each for one stored listener; and whether the next gateway has those of this one.
#[derive(Debug, Default)]
pub struct InheritedListeners {
    sockets: Vec<(String, OwnedFd)>,
    /// Set when a successor has the listeners of this process: their socket files then stay.
    handed_over: HandedOver,
}

impl InheritedListeners {
    /// Takes the sockets of stored listeners from all received sockets, by their names.
    pub fn taken_from(received: &mut Vec<(String, OwnedFd)>, handed_over: HandedOver) -> Self {
        let sockets = received.extract_if(.., |(name, _)| name.starts_with(PREFIX)).collect();
        Self { sockets, handed_over }
    }

    /// The socket of a listener, if it was open at this place.
    fn take(&mut self, id: &DatabaseListenerId, place: &ListenerPlace) -> Option<OwnedFd> {
        let wanted = socket_name(id, place);
        let at = self.sockets.iter().position(|(name, _)| *name == wanted)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Closes the sockets that no listener has taken.
    fn close(&mut self) {
        self.sockets.clear();
    }
}

/// The name of a listener's socket: another place is another socket.
fn socket_name(id: &DatabaseListenerId, place: &ListenerPlace) -> String {
    format!("{PREFIX}{id} {place}")
}
