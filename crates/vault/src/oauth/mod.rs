//! Consents: a person authorizes a connection to use an account, in a browser or with a device code, and
//! the resulting grant is stored in the vault. Start and callback need the same browser. Agents can neither
//! start, see nor finish a flow: their tokens are not accepted on these pages. Requests to authorization
//! servers, and the meaning of their responses, are in `grant::oauth`.

mod account;
mod apps;
pub(crate) mod authorize;
mod callback;
pub(crate) mod callback_query;
mod complete;
mod confirm;
mod connect_session;
mod device;
mod disconnect;
mod endpoints;
pub(crate) mod error;
pub(crate) mod flow;
mod forgotten;
mod oauth1;
mod open;
mod pushed;
mod register;
mod resource;
mod revocation_attempt;
mod revoke;
mod start;
#[cfg(test)]
mod tests;
mod unfinished;
mod view;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use callback::{CallbackRequest, Cookies};
pub use callback_query::FORM_BYTES_MAX;
pub use connect_session::{BrowserBinding, StartedConsent};
pub use error::{CallbackRefusal, FlowError};
pub use resource::NewMcp;
pub use revocation_attempt::Revoked;
pub use start::{ConsentRequest, DeviceCode, StartPage, Started};
pub use view::{FlowState, FlowView};

use self::flow::{Flow, FormPost, PendingRevocation, Pointer};
use crate::{SealedRows, Vault};
use keyward_base::time::Clock;
use keyward_base::tokens::TokenSettings;
use keyward_net::call::HttpClient;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{Directory, OpenedRow};
use keyward_state::store::{Store, Table};

/// The services that consents need.
pub struct FlowServices {
    /// The store of flows.
    pub store: Arc<dyn Store>,
    /// Seals flows.
    pub keyring: Arc<Keyring>,
    /// Stores grants.
    pub vault: Arc<Vault>,
    /// The client for authorization servers.
    pub caller: Arc<HttpClient>,
    pub settings: TokenSettings,
    pub clock: Clock,
    /// Base of redirect URIs, without a trailing slash. Never from a request.
    pub public_url: String,
}

/// All flows of a gateway.
pub struct Flows {
    vault: Arc<Vault>,
    caller: Arc<HttpClient>,
    settings: ArcSwap<TokenSettings>,
    clock: Clock,
    public_url: String,
    store: Arc<dyn Store>,
    flows: SealedRows<Flow>,
    /// By hash of `state`: the task that takes the row continues the flow.
    states: SealedRows<Pointer>,
    /// By hash of the start link.
    tickets: SealedRows<Pointer>,
    /// Forms of callbacks by POST, by hash of the secret of the continuation.
    posted: SealedRows<FormPost>,
    outbox: SealedRows<PendingRevocation>,
    /// Held while flows are counted and stored, so that the limit holds. Never during a request to a server, which
    /// would delay the consents of all organisations.
    turn: tokio::sync::Mutex<()>,
    ongoing: Ongoing,
    tasks: Mutex<JoinSet<()>>,
    stop: watch::Sender<bool>,
}

/// Checks an opened row of consents or pending revocations, for `keyward store check`. Other rows are not looked at.
///
/// # Errors
/// The problem.
pub fn check_content(row: &OpenedRow) -> Result<(), String> {
    let id = row.place().map_or_else(String::new, |(_, id)| id.to_owned());
    match (row.table, id.split_once('-').map(|(kind, _)| kind)) {
        (Table::Outbox, _) => row.decode::<PendingRevocation>().map(drop),
        (Table::Flows, Some("flow")) => row.decode::<Flow>().map(drop),
        (Table::Flows, Some("state" | "start")) => row.decode::<Pointer>().map(drop),
        (Table::Flows, Some("posted")) => row.decode::<FormPost>().map(drop),
        (Table::Flows, _) => Err("has a key that names no kind of row".to_owned()),
        _ => Ok(()),
    }
}

impl Flows {
    pub fn new(parts: FlowServices) -> Arc<Self> {
        let (store, keyring) = (|| parts.store.clone(), || parts.keyring.clone());
        Arc::new(Self {
            flows: SealedRows::new(store(), keyring(), Table::Flows, "flow-"),
            states: SealedRows::new(store(), keyring(), Table::Flows, "state-"),
            tickets: SealedRows::new(store(), keyring(), Table::Flows, "start-"),
            posted: SealedRows::new(store(), keyring(), Table::Flows, "posted-"),
            outbox: SealedRows::new(store(), keyring(), Table::Outbox, ""),
            vault: parts.vault,
            caller: parts.caller,
            settings: ArcSwap::from_pointee(parts.settings),
            clock: parts.clock,
            public_url: parts.public_url,
            store: parts.store,
            turn: tokio::sync::Mutex::default(),
            ongoing: Ongoing::default(),
            tasks: Mutex::default(),
            stop: watch::channel(false).0,
        })
    }

    pub fn set(&self, settings: TokenSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// The base of redirect URIs.
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Stops polls and retries; pending writes are completed.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }

    fn directory(&self) -> &Arc<Directory> {
        self.vault.directory()
    }

    /// Runs `work` until its end or [`Flows::close`].
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work.boxed());
    }

    /// Sleeps; returns false if flows are closed before.
    async fn wait(&self, time: std::time::Duration) -> bool {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }

    /// Awaits a response to a request that may spend a code; after [`Flows::close`] only for `exchange_timeout`.
    async fn unless_closed<T>(&self, response: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.subscribe();
        let given_up = async {
            drop(stop.wait_for(|stop| *stop).await);
            tokio::time::sleep(self.settings.load().exchange_timeout).await;
        };
        tokio::select! {
            biased;
            response = response => Some(response),
            () = given_up => None,
        }
    }
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flows").field("public_url", &self.public_url).finish_non_exhaustive()
    }
}

/// The running jobs.
#[derive(Clone, Debug, Default)]
struct Ongoing(Arc<Mutex<HashSet<String>>>);

/// A job that runs until this is dropped.
#[must_use = "the work ends when it is dropped"]
struct OngoingWork {
    all: Ongoing,
    name: String,
}

impl Ongoing {
    /// `None` if a job with this name runs.
    fn begin(&self, name: String) -> Option<OngoingWork> {
        let is_new = self.0.lock().insert(name.clone());
        is_new.then(|| OngoingWork { all: self.clone(), name })
    }
}

impl Drop for OngoingWork {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod ongoing_tests {
    use super::*;

    #[test]
    fn a_running_job_is_not_started_twice_and_may_start_again_after_its_end() {
        let ongoing = Ongoing::default();
        let first = ongoing.begin("a".to_owned());
        assert!(first.is_some() && ongoing.begin("a".to_owned()).is_none());
        assert!(ongoing.begin("b".to_owned()).is_some());
        drop(first);
        assert!(ongoing.begin("a".to_owned()).is_some());
    }
}
