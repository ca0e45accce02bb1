//! [`Directory`]: the resources of the gateway (organisations, users, agents and their tokens, connections without their
//! grants, bindings, plugins) in the store and in memory.
//!
//! Rows are sealed. A [`View`] of all records is in memory and replaced at each change, so that the data path never
//! waits for the store. Grants belong to `vault/`.
//!
//! Records that the configuration file manages are changed only with [`ManagedBy::File`], which the
//! reconciliation (`apply` of `keyward-app`) passes; for all other callers they are read-only.
//!
//! Files build on each other in this order: rows and indexes (`rows`, `index`, `collection`), the view
//! (`view`), the types of this file, resources (`stored` and one file for each kind), then opening and following
//! (`open`, `follow`).

mod agents;
mod bindings;
mod changes;
mod check;
mod collection;
mod commit;
mod connect_sessions;
mod connections;
mod deliveries;
mod directory_event;
mod error;
mod follow;
mod follow_state;
mod holders;
mod index;
mod integrity;
mod logins;
mod open;
mod org_catalogue;
mod orgs;
mod own_providers;
mod passkeys;
mod plain_kinds;
mod plugins;
mod records;
mod remedy;
mod replicas;
mod rows;
mod rules;
mod scan;
mod seen_rows;
mod sessions;
mod shared_limits;
mod snapshot;
mod stored;
mod tables;
#[cfg(test)]
mod tests;
mod usage;
mod users;
mod view;

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, watch};

use crate::observe::change::TaskActor;
use directory_event::UncertainChange;
use follow_state::FollowState;
use index::Index;
use keyward_base::time::Clock;
use keyward_rules::provider::Catalogue;
use rows::DirectoryRows;

pub use check::{editable, may_be_used_by};
pub use collection::FormerToken;
pub use connect_sessions::{ConnectStepError, NewConnectSession};
pub use directory_event::{Delivery, DirectoryEvent, StoredDelivery};
pub use error::DirectoryError;
pub use follow_state::Leftovers;
pub use integrity::{ContentCheck, FaultKind, StoreCheck, StoreFault};
pub use keyward_model::{
    Account, AccountId, AccountSource, BrokenReason, ConnectionState, DynamicRegistration, Fault,
    ManagedBy, Manifest, Missing, PLUGINS_MAX, PluginState, REMIND_DAYS, Reminder, Renewal,
    ReplacementDue, ReplacementReason, Rotation, RotationState, Slot, Visibility,
};
pub use logins::{LoginBounds, LoginTerms, NewLink, NewLogin, UsedLink, idle_until};
pub use passkeys::TotpError;
pub use plugins::NewPlugin;
pub use records::{
    AgentRecord, AppRecord, BindingRecord, ConnectionRecord, IssuedToken, Person, PluginRecord,
    TokenRecord, UserCredential,
};
pub use remedy::{Remedies, RemedyCause};
pub use rows::RowBeside;
pub use seen_rows::SeenRows;
pub use sessions::{NewSession, SessionAccess};
pub use shared_limits::PublishedLimits;
pub use snapshot::{OpenedRow, StateSnapshot};
pub use stored::Stored;
pub use view::{Differences, View};

#[derive(Debug)]
pub struct Directory {
    shared: Arc<Shared>,
    /// The write lock: a check and the write that relies on it see the same records.
    turns: Arc<tokio::sync::Mutex<()>>,
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Shared {
    rows: DirectoryRows,
    index: Index,
    view: ArcSwap<View>,
    /// The providers, for the remedies in events.
    catalogue: ArcSwap<Catalogue>,
    changes: watch::Sender<u64>,
    event_sender: directory_event::EventSender,
    following: FollowState,
    /// Changes that may have been made; `commit.rs` settles them. Empty if the store is shared.
    uncertain_changes: Mutex<Vec<UncertainChange>>,
    clock: Clock,
    opened: Timestamp,
}

/// The held write lock, which is moved into the writing task.
#[doc(hidden)]
#[derive(Debug)]
pub struct DirectoryWriter {
    shared: Arc<Shared>,
    actor: TaskActor,
    _turn: OwnedMutexGuard<()>,
}

impl Directory {
    /// Sets the providers for the remedies in events.
    pub fn replace_catalogue(&self, catalogue: Arc<Catalogue>) {
        self.shared.catalogue.store(catalogue);
    }

    /// All records, as of now.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// Like [`Self::view`], but the guard must be dropped soon. It changes no shared reference count, so requests on
    /// many cores do not contend.
    pub fn view_guard(&self) -> arc_swap::Guard<Arc<View>> {
        self.shared.view.load()
    }

    /// Counts changes; open streams and the rulebook watch it. When it moves, [`Directory::view`]
    /// already shows the change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Waits for the write lock. Settles changes in doubt in a separate task, so that a dropped caller leaves none half
    /// settled.
    async fn turn(&self) -> Result<DirectoryWriter, DirectoryError> {
        let turn = Arc::clone(&self.turns).lock_owned().await;
        let (shared, actor) = (Arc::clone(&self.shared), TaskActor::current());
        let writer = DirectoryWriter { shared, actor, _turn: turn };
        if writer.uncertain_changes.lock().is_empty() {
            return Ok(writer);
        }
        let settled = async move {
            writer.resolve_uncertain_changes().await;
            Ok(writer)
        };
        run_to_completion(Box::pin(settled)).await
    }

    /// Runs `work` with the write lock, to its end.
    async fn write<T, F, W>(&self, work: F) -> Result<T, DirectoryError>
    where
        T: Send + 'static,
        F: FnOnce(DirectoryWriter) -> W,
        W: Future<Output = Result<T, DirectoryError>> + Send + 'static,
    {
        let writer = self.turn().await?;
        run_to_completion(Box::pin(work(writer))).await
    }
}

impl Deref for DirectoryWriter {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// Runs work in its own task, so that it completes even if the caller is dropped: otherwise, between the write to the
/// store and the change of the view, a revoked token would stay valid.
///
/// The future is boxed and of a common type, because the code of a task is compiled for each type that is spawned.
async fn run_to_completion<T: Send + 'static>(
    work: Pin<Box<dyn Future<Output = Result<T, DirectoryError>> + Send>>,
) -> Result<T, DirectoryError> {
    tokio::spawn(work).await.unwrap_or(Err(DirectoryError::Interrupted))
}
