//! Who exists and who may use what: organisations, people, agents, their tokens, connections'
//! metadata, bindings, plugins.
//!
//! Rows are sealed; a read view of everything stands in memory, replaced at each change, so that
//! the data path never waits for the store. Grants are `vault/`'s.
//!
//! Things that the configuration file manages are edited with [`ManagedBy::File`], which only
//! `config/`'s reconciliation passes; for everyone else they are read-only.

mod agents;
mod apps;
mod bindings;
mod changes;
mod check;
mod commit;
mod connect_sessions;
mod connections;
mod database_listeners;
mod deliveries;
mod error;
mod follow;
mod holders;
mod hooks;
mod index;
mod integrity;
mod logins;
mod open;
mod orgs;
mod own_providers;
mod passkeys;
mod passwords;
mod person;
mod personal;
mod plugins;
mod records;
mod remedy;
mod replicas;
mod rows;
mod rule_order;
mod rules;
mod scan;
mod selected;
mod sessions;
mod shared_limits;
mod snapshot;
mod sources;
mod stored;
#[cfg(test)]
mod tests;
mod tokens;
mod totp;
mod usage;
mod users;
mod view;
mod webhooks;

use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{OwnedMutexGuard, watch};

use crate::crypto::keyring::Keyring;
use crate::observe::change::Acting;
use crate::store::Store;
use follow::Following;
use index::Index;
use keyward_base::time::Clock;
use keyward_rules::provider::Catalogue;
use rows::Rows;

pub use check::{editable, may_be_used_by};
pub use connect_sessions::{ConnectStepError, ConnectTokens, NewConnectSession};
pub use deliveries::{Delivery, News, Owed};
pub use error::DirectoryError;
pub use follow::Leftovers;
pub use integrity::{ContentCheck, FaultKind, StoreCheck, StoreFault};
pub use keyward_model::{
    Account, AccountId, AccountSource, BrokenReason, ConnectionState, Due, DueBy, Fault, ManagedBy,
    Manifest, Missing, PLUGINS_MAX, PluginState, REMIND_DAYS, Registered, Reminded, Renewal,
    Rotation, RotationState, Slot, Visibility,
};
pub use logins::{NewLogin, UsedLink, idle_until};
pub use person::{Credential, Person};
pub use plugins::Plugged;
pub use records::{
    AgentRecord, AppRecord, BindingRecord, ConnectionRecord, IssuedToken, PluginRecord, TokenRecord,
};
pub use remedy::{Need, Remedies};
pub use sessions::{NewSession, SessionAccess, SessionTokens};
pub use shared_limits::PublishedLimits;
pub use snapshot::{OpenedRow, StateSnapshot};
pub use stored::Stored;
pub use totp::TotpError;
pub use view::{Differences, Former, View};

/// The directory.
#[derive(Debug)]
pub struct Directory {
    shared: Arc<Shared>,
    /// Writes take turns: a check and the write that relies on it see the same world.
    turns: Arc<tokio::sync::Mutex<()>>,
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Shared {
    rows: Rows,
    index: Index,
    view: ArcSwap<View>,
    /// The providers, for what events say of connections.
    catalogue: ArcSwap<Catalogue>,
    changes: watch::Sender<u64>,
    listener: deliveries::Listener,
    following: Following,
    clock: Clock,
}

/// The turn to write. Moved into the task that writes.
#[doc(hidden)]
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    acting: Acting,
    _turn: OwnedMutexGuard<()>,
}

impl Directory {
    /// Loads everything; repairs index rows (intent first). A row that does not open is an error
    /// naming it.
    ///
    /// # Errors
    /// [`DirectoryError::WrongKey`] when the store was sealed with another master key, and an
    /// error naming the row when one does not open. Nothing is changed or defaulted then.
    pub async fn open(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        clock: Clock,
    ) -> Result<Self, DirectoryError> {
        let following = Following::begin(&*store).await?;
        let rows = Rows::new(store, keyring);
        let loaded = open::load(&rows, &clock, following.leftovers).await?;
        let shared = Shared {
            rows,
            index: loaded.index,
            view: ArcSwap::from_pointee(loaded.view),
            catalogue: ArcSwap::default(),
            changes: watch::Sender::new(0),
            listener: deliveries::Listener::new(),
            following,
            clock,
        };
        Ok(Self { shared: shared.into(), turns: Arc::default() })
    }

    /// Events tell remedies by these providers from now on.
    pub fn know(&self, catalogue: Arc<Catalogue>) {
        self.shared.catalogue.store(catalogue);
    }

    /// Everything, as of now.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// The same for a moment: what each request asks shares no counter with other cores.
    pub fn glance(&self) -> arc_swap::Guard<Arc<View>> {
        self.shared.view.load()
    }

    /// Counts changes; open streams and the rulebook watch it. When it moves, [`Directory::view`]
    /// already shows the change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Waits for the turn to write.
    async fn turn(&self) -> Writer {
        let turn = Arc::clone(&self.turns).lock_owned().await;
        Writer { shared: Arc::clone(&self.shared), acting: Acting::current(), _turn: turn }
    }

    /// Runs `work` when its turn comes, to its end.
    async fn write<T, F, W>(&self, work: F) -> Result<T, DirectoryError>
    where
        T: Send + 'static,
        F: FnOnce(Writer) -> W,
        W: Future<Output = Result<T, DirectoryError>> + Send + 'static,
    {
        let writer = self.turn().await;
        to_the_end(Box::pin(work(writer))).await
    }
}

impl Deref for Writer {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// In a task of its own: a caller that goes away between the store and the view would leave a
/// revoked token working.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, DirectoryError>> + Send + 'static,
) -> Result<T, DirectoryError> {
    tokio::spawn(work).await.unwrap_or(Err(DirectoryError::Interrupted))
}
