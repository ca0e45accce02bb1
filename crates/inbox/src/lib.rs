//! Webhooks of services for programs: a request to a hook is verified (`accept.rs`, by the schemes of `keyward-hooks`),
//! stored before it is answered, and delivered at least once, in the order of its hook: posted to the program's URL
//! (`deliver.rs`), or read from the queue (`waiting.rs`). The program never holds the secret of the service: its
//! deliveries are signed by Standard Webhooks with a key of its own
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

mod accept;
mod deliver;
mod error;
mod event;
mod fetch;
mod fetched;
mod keys;
mod queue;
mod replicas;
mod secret;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};

use keyward_base::id::{ConnectionId, HookId, OrgId};
use keyward_base::time::Clock;
use keyward_base::webhooks::WebhookSettings;
use keyward_hooks::{BODY_BYTES_MAX, Scheme};
use keyward_model::{Hook, HookFacts, HookSpec, ManagedBy, Record, Reference};
use keyward_net::call::HttpClient;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::{Directory, OpenedRow, RowBeside};
use keyward_state::observe::metrics::Metrics;
use keyward_state::store::{Lease, Store, StoreError, Table};
use keyward_vault::{RowError, SealedRows, Vault};

pub use accept::Accepted;
pub use error::{InboxError, InboxRefusal};
use event::EventRow;
pub use event::{EventList, EventState, HookEvent};
use fetched::FetchedKeys;
use keys::HookKeys;
pub use keys::NewKeys;
use queue::InboxQueue;
pub use queue::{HookStatus, SecretStatus};
pub use waiting::QueueReader;

/// Records a minute of requests to one hook that were refused, and of repeated ones. Anyone can send them; further ones
/// are counted in one record.
pub const RECORDS_MAX: u32 = 60;

/// The bodies of deliveries at the same time. Each is in memory about five times: in its row and out of it.
const BODIES_KIB_MAX: u32 = 64 * 1024;

/// The services that the inbox needs.
#[derive(Debug)]
pub struct InboxServices {
    /// The store of events and keys.
    pub store: Arc<dyn Store>,
    /// Seals them.
    pub keyring: Arc<Keyring>,
    /// The hooks.
    pub directory: Arc<Directory>,
    /// The catalogues of providers.
    pub vault: Arc<Vault>,
    /// Counts requests and deliveries.
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    /// Limits of deliveries.
    pub settings: WebhookSettings,
}

/// Events of all hooks.
pub struct Inbox {
    store: Arc<dyn Store>,
    directory: Arc<Directory>,
    vault: Arc<Vault>,
    keys: SealedRows<HookKeys>,
    events: SealedRows<EventRow>,
    metrics: Arc<Metrics>,
    clock: Clock,
    settings: ArcSwap<WebhookSettings>,
    /// Base of the URLs of hooks, without a trailing slash.
    public_url: OnceLock<String>,
    queue: Mutex<InboxQueue>,
    /// The leases of the hooks whose events this replica delivers.
    owned: Mutex<HashMap<HookId, Lease>>,
    /// Wakes the delivery job when the queue changes.
    delivery_wake: Notify,
    /// Counts changes of the queue, for those who read from it.
    changed: watch::Sender<u64>,
    caller: OnceLock<Arc<HttpClient>>,
    /// A cache of public keys of services.
    fetched: FetchedKeys,
    /// The memory of bodies that are delivered, in KiB.
    delivered_kib: Semaphore,
}

/// A request to a service for the key that verifies a webhook. It is sent with the credential of a connection.
#[derive(Clone, Debug)]
pub struct HookKeyRequest {
    /// The organisation of the hook.
    pub org: OrgId,
    /// The connection of the hook.
    pub connection: ConnectionId,
    /// The path and query at the service's API.
    pub path: &'static str,
    /// The JSON to post.
    pub body: String,
}

/// Checks an opened row of a hook's keys or events, for `keyward store check`. Other rows are ignored.
///
/// # Errors
/// With what is wrong.
pub fn check_content(row: &OpenedRow) -> Result<(), String> {
    match row.table {
        Table::HookKeys => row.decode::<HookKeys>().map(drop),
        Table::HookEvents => row.decode::<EventRow>().map(drop),
        _ => Ok(()),
    }
}

impl Inbox {
    /// Uses the shared store.
    pub fn new(parts: InboxServices) -> Arc<Self> {
        parts.metrics.hooks.expect_refusals(&InboxRefusal::codes());
        let (store, keyring) = (|| parts.store.clone(), || parts.keyring.clone());
        Arc::new(Self {
            keys: SealedRows::new(store(), keyring(), Table::HookKeys, ""),
            events: SealedRows::new(store(), keyring(), Table::HookEvents, ""),
            store: parts.store,
            directory: parts.directory,
            vault: parts.vault,
            metrics: parts.metrics,
            clock: parts.clock,
            settings: ArcSwap::from_pointee(parts.settings),
            owned: Mutex::default(),
            public_url: OnceLock::new(),
            queue: Mutex::default(),
            delivery_wake: Notify::new(),
            changed: watch::channel(0).0,
            caller: OnceLock::new(),
            fetched: FetchedKeys::default(),
            delivered_kib: Semaphore::new(BODIES_KIB_MAX as usize),
        })
    }

    pub fn set(&self, settings: WebhookSettings) {
        self.settings.store(Arc::new(settings));
        self.delivery_wake.notify_one();
    }

    /// Delivers events with `caller` from now on. `public_url` is the base of the URLs of hooks, without a trailing slash.
    pub fn serve(&self, caller: Arc<HttpClient>, public_url: String) {
        // The first call decides: a gateway has one client.
        let _ = self.public_url.set(public_url);
        let _ = self.caller.set(caller);
    }

    /// The URL that the service is given.
    pub fn url(&self, hook: &Record<Hook>) -> String {
        let org = match hook.org == OrgId::default_org() {
            true => String::new(),
            false => format!("{}/", hook.org.name()),
        };
        let base = self.public_url.get().map_or("", String::as_str);
        format!("{base}/hooks/{org}{}", hook.name())
    }

    /// How the service of a hook signs; `None` if its connection or provider is gone, or has no scheme.
    pub fn scheme(&self, hook: &Record<Hook>) -> Option<&'static Scheme> {
        if let Some(id) = &hook.scheme {
            return keyward_hooks::get(id);
        }
        let id = hook.connection.as_ref().and_then(Reference::id)?;
        let view = self.directory.view();
        let connection = view.connection(&hook.org, id)?;
        let catalogue = self.vault.catalogue(&hook.org);
        let scheme = catalogue.get(&connection.provider)?.about.webhook_scheme.clone()?;
        keyward_hooks::get(&scheme)
    }

    /// Longest body that the hook accepts, in bytes.
    pub fn body_bytes_max(&self, hook: &Record<Hook>) -> usize {
        let usual = || self.scheme(hook).map_or(BODY_BYTES_MAX, Scheme::body_bytes_max);
        hook.body_max.unwrap_or_else(usual)
    }

    pub fn status(&self, hook: &HookId) -> HookStatus {
        self.queue.lock().status(hook)
    }

    /// A hook for [`Inbox::add`]. It is not stored yet.
    pub fn new_hook(&self, org: &OrgId, by: ManagedBy, spec: HookSpec) -> Record<Hook> {
        Record::new(org, by, spec, HookFacts::default(), self.clock.now())
    }

    /// Adds a hook with its keys.
    ///
    /// # Errors
    /// When the spec or the secret is refused, the name is taken, there are too many, or the store fails.
    pub async fn add(
        &self,
        hook: Record<Hook>,
        keys: NewKeys,
    ) -> Result<Arc<Record<Hook>>, InboxError> {
        self.check_secret(&hook, &keys)?;
        let keys = HookKeys::default().with(&keys, self.clock.now());
        let row = RowBeside::json(Table::HookKeys, &keys)?;
        Ok(self.directory.add_with(hook, Some(row)).await?)
    }

    /// Stores new keys of a hook. Those before stay valid for a day.
    ///
    /// # Errors
    /// When the secret does not have the form of the scheme, or the store fails.
    pub async fn set_keys(&self, hook: &Record<Hook>, new: NewKeys) -> Result<(), InboxError> {
        self.check_secret(hook, &new)?;
        let (org, id) = (&hook.org, hook.id.as_str());
        loop {
            let (known, over) = self.keys.get(org, id).await?.unzip();
            let known = known.unwrap_or_default();
            if over.is_some() && known.already_has(&new) {
                return Ok(());
            }
            let keys = known.with(&new, self.clock.now());
            match self.keys.put(org, id, &keys, over).await {
                Err(RowError::Store(StoreError::Conflict { .. })) => {}
                other => return Ok(other.map(|_| ())?),
            }
        }
    }

    /// Checks a new secret of a hook.
    ///
    /// # Errors
    /// When it does not have the form of the scheme.
    pub fn check_secret(&self, hook: &Record<Hook>, new: &NewKeys) -> Result<(), InboxError> {
        let (Some(secret), Some(scheme)) = (&new.secret, self.scheme(hook)) else { return Ok(()) };
        scheme.check_secret(secret).map_err(|error| InboxError::Secret(error.to_string()))
    }

    /// Deletes the keys and events of a removed hook.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget(&self, org: &OrgId, hook: &HookId) -> Result<(), InboxError> {
        self.queue.lock().forget(hook);
        self.owned.lock().remove(hook);
        self.keys.delete(org, hook.as_str()).await?;
        for row in self.events.ids(org, &event::row(hook, "")).await? {
            self.events.delete(org, &row).await?;
        }
        self.signal_change();
        Ok(())
    }

    /// Wakes the delivery job and those who read from the queue.
    fn signal_change(&self) {
        let (waiting, dead) = self.queue.lock().totals();
        self.metrics.hooks.events(waiting, dead);
        self.changed.send_modify(|count| *count += 1);
        self.delivery_wake.notify_one();
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("public_url", &self.public_url.get()).finish_non_exhaustive()
    }
}
