//! The services in memory that the API is tested with.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::watch;

use crate::*;
use keyward_backup::{BackupSettings, Backups};
use keyward_base::limits::Limits;
use keyward_base::time::Clock;
use keyward_base::tokens::TokenSettings;
use keyward_databases::StoredListeners;
use keyward_inbox::Inbox;
use keyward_net::call::HttpClient;
use keyward_net::dial::Dialler;
use keyward_net::guard::Guard;
use keyward_net::tls;
use keyward_proxy::SharedLimits;
use keyward_proxy::ca::authority::Authority;
use keyward_rules::policy::DefaultAction;
use keyward_rules::provider::Catalogue;
use keyward_state::crypto::keyring::Keyring;
use keyward_state::directory::Directory;
use keyward_state::observe::metrics::Metrics;
use keyward_state::observe::trail::Trail;
use keyward_state::rulebook::{PolicyInputs, Rulebook};
use keyward_state::store::Store;
use keyward_state::store::memory::MemoryStore;
use keyward_vault::Vault;
use keyward_vault::events::{self, Events};
use keyward_vault::keys::{KeyLocation, MasterKeys};
use keyward_vault::oauth;

pub(super) async fn services() -> Deps {
    let keyring = Arc::new(Keyring::ephemeral());
    services_over(Arc::new(MemoryStore::new()), keyring, KeyLocation::Memory).await
}

pub(super) async fn services_over(
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    location: KeyLocation,
) -> Deps {
    let clock = Clock::Fixed(Arc::new(AtomicI64::new(0)));
    let directory = Directory::open(store.clone(), keyring.clone(), clock.clone()).await.unwrap();
    let (directory, catalogue) = (Arc::new(directory), Arc::new(Catalogue::built_in()));
    let sources = PolicyInputs::new(catalogue.clone(), DefaultAction::Deny, Vec::new(), 100);
    let keys = MasterKeys::new(store.clone(), keyring.clone(), location).unwrap();
    let vault =
        Vault::open(store.clone(), keyring.clone(), directory.clone(), catalogue, clock.clone())
            .await;
    let vault = Arc::new(vault.unwrap());
    let dialler = Arc::new(Dialler::new(Guard::default(), Vec::new(), 4));
    let (authority, metrics) = (Authority::ephemeral(), Arc::<Metrics>::default());
    let root = CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).unwrap();
    let caller = HttpClient::new(dialler.clone(), tls::client_config(&[root]).unwrap());
    let (events, inbox) = deliveries(&store, &keyring, &directory, &vault, &metrics);
    let flows = oauth::Flows::new(oauth::FlowServices {
        store,
        keyring,
        vault: vault.clone(),
        caller: Arc::new(caller),
        settings: TokenSettings::default(),
        clock: clock.clone(),
        public_url: "http://localhost:8081".to_owned(),
    });
    let rulebook = Rulebook::new(sources, directory.clone()).unwrap();
    let backups = backups(&directory, &clock);
    Deps {
        database_listeners: StoredListeners::new(directory.clone()),
        directory,
        vault,
        flows,
        events,
        inbox,
        rulebook: Arc::new(rulebook),
        refused_rules: Arc::default(),
        authority: Arc::new(authority),
        keys,
        dialler,
        audit: AuditLog::at_rest(Trail::at(Path::new("audit.jsonl"))),
        changes: Default::default(),
        metrics,
        backups,
        telemetry: Default::default(),
        clock,
        public_url: "http://localhost:8081".to_owned(),
        connect: watch::Sender::new(Arc::default()).subscribe(),
        provider_definitions: watch::Sender::new(Arc::from([])).subscribe(),
        secret_variables: Arc::default(),
        limits: Limits::default(),
        shared_limits: SharedLimits::new(None).unwrap(),
        sign_in: Default::default(),
        oidc: None,
        data_path: std::sync::Weak::new(),
    }
}

/// The webhooks that are sent, and those of services.
fn deliveries(
    store: &Arc<dyn Store>,
    keyring: &Arc<Keyring>,
    directory: &Arc<Directory>,
    vault: &Arc<Vault>,
    metrics: &Arc<Metrics>,
) -> (Arc<Events>, Arc<Inbox>) {
    let clock = Clock::Fixed(Arc::new(AtomicI64::new(0)));
    let events = Events::new(events::EventServices {
        store: store.clone(),
        keyring: keyring.clone(),
        directory: directory.clone(),
        metrics: metrics.clone(),
        clock: clock.clone(),
        settings: Default::default(),
    });
    let inbox = Inbox::new(keyward_inbox::InboxServices {
        store: store.clone(),
        keyring: keyring.clone(),
        directory: directory.clone(),
        vault: vault.clone(),
        metrics: metrics.clone(),
        clock,
        settings: Default::default(),
    });
    (events, inbox)
}

fn backups(directory: &Arc<Directory>, clock: &Clock) -> Arc<Backups> {
    let no_ca = || Ok(Vec::new());
    Arc::new(Backups::new(directory.clone(), no_ca, clock.clone(), BackupSettings::default()))
}
