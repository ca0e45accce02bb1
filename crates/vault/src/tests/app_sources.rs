//! Secrets of apps by reference, with a source that answers slowly.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::rotation::new;
use super::scripted_server::{client_at, json, shown};
use super::simulation::CATALOGUE;
use super::vault_over;
use crate::grant::AppSecret;
use crate::*;
use keyward_base::secret::Secret;
use keyward_model::{AppSpec, FieldReference, ManagedBy, Reference, SourceSpec};
use keyward_net::call::HttpClient;
use keyward_state::directory::AppRecord;
use keyward_state::store::memory::MemoryStore;

/// A key/value engine on this machine that answers when the test permits it.
struct SlowSource {
    port: u16,
    /// One permit for each answer.
    answers: Arc<Semaphore>,
    /// The number of requests.
    asked: watch::Receiver<usize>,
}

/// Replicas over one store, an app, and the source of its secret.
struct World {
    source: SlowSource,
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    caller: Arc<HttpClient>,
    vault: Vault,
    app: Arc<AppRecord>,
}

impl SlowSource {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (tell, asked) = watch::channel(0);
        let (tell, answers) = (Arc::new(tell), Arc::new(Semaphore::new(0)));
        let permits = answers.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answered(stream, tell.clone(), permits.clone()));
            }
        });
        Self { port, answers, asked }
    }

    async fn asked(&self, count: usize) {
        let mut asked = self.asked.clone();
        drop(asked.wait_for(|asked| *asked >= count).await.expect("the source runs"));
    }
}

async fn answered(mut stream: TcpStream, tell: Arc<watch::Sender<usize>>, permits: Arc<Semaphore>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    tell.send_modify(|asked| *asked += 1);
    permits.acquire().await.expect("it is not closed").forget();
    let answer = json("200 OK", r#"{"data":{"value":"fetched"}}"#);
    drop(stream.write_all(answer.as_bytes()).await);
}

impl World {
    async fn new() -> Self {
        let source = SlowSource::start().await;
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (keyring, caller) = (Arc::new(Keyring::ephemeral()), Arc::new(client_at(source.port)));
        let vault = opened(&store, &keyring, &caller).await;
        let (org, by) = (OrgId::default_org(), ManagedBy::Store);
        let address = format!("http://127.0.0.1:{}", source.port);
        let engine = serde_json::json!({ "address": address, "version": 1 });
        let spec = serde_json::json!({ "name": "kept", "vault": engine });
        let spec: SourceSpec = serde_json::from_value(spec).unwrap();
        let token = BTreeMap::from([("token".to_owned(), Secret::new("token-of-the-source"))]);
        vault.lifecycle().add_source(&org, spec, &token, by).await.unwrap();
        let reference = FieldReference { from: "kept".to_owned(), reference: "app".to_owned() };
        let spec = AppSpec {
            name: "acme-app".to_owned(),
            provider: "acme".to_owned(),
            client_id: "client".to_owned(),
            references: BTreeMap::from([("client_secret".to_owned(), reference)]),
            ..AppSpec::default()
        };
        let new = NewApp { id: None, org, spec, registered: None, managed_by: by };
        let app = vault.lifecycle().add_app(new, AppSecret::default()).await.unwrap();
        Self { source, store, keyring, caller, vault, app }
    }
}

async fn opened(store: &Arc<dyn Store>, keyring: &Arc<Keyring>, caller: &Arc<HttpClient>) -> Vault {
    let vault = vault_over(store.clone(), keyring, CATALOGUE.clone()).await;
    vault.refresh().use_client(caller.clone());
    vault
}

fn text(secret: &AppSecret) -> &str {
    shown(secret.client_secret.as_ref().expect("a client secret"))
}

/// Both replicas write the fetched values into the same row.
#[tokio::test]
async fn replicas_that_fetch_the_secret_of_an_app_at_once_all_get_it() {
    let World { source, store, keyring, caller, vault, app } = World::new().await;
    let other = opened(&store, &keyring, &caller).await;
    let fetches = [vault, other].map(|vault| {
        let app = app.clone();
        tokio::spawn(async move { vault.refresh().app_secret(&app).await })
    });
    source.asked(2).await;
    source.answers.add_permits(2);
    for fetch in fetches {
        assert_eq!(text(&fetch.await.unwrap().unwrap()), "fetched");
    }
    let vault = opened(&store, &keyring, &caller).await;
    assert_eq!(text(&vault.refresh().last_secret(&app).await.unwrap()), "fetched", "it is kept");
}

/// Valid tokens are published, and connections removed, with the last secret.
#[tokio::test]
async fn the_last_secret_of_an_app_is_read_while_its_source_does_not_answer() {
    let World { source, vault, app, .. } = World::new().await;
    source.answers.add_permits(1);
    vault.refresh().app_secret(&app).await.unwrap();
    let (fetching, of) = (vault.clone(), app.clone());
    let fetching = tokio::spawn(async move { fetching.refresh().app_secret(&of).await });
    source.asked(2).await;
    let read = async {
        assert_eq!(text(&vault.refresh().last_secret(&app).await.unwrap()), "fetched");
        assert!(vault.refresh().app_problem(&app).await.is_none());
        assert!(vault.refresh().app_reference_status(&app).await.failing.is_none());
    };
    // Less than the time limit of a request to a source.
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("nothing waits for the source");
    assert!(!fetching.is_finished());
    source.answers.add_permits(1);
    assert_eq!(text(&fetching.await.unwrap().unwrap()), "fetched");
}

/// Each token request fetches the secret. A verdict on the request must stay in force meanwhile.
#[tokio::test]
async fn a_fetch_of_an_app_s_secret_changes_no_fingerprint_and_another_reference_does() {
    let World { source, vault, app, .. } = World::new().await;
    let mut tokens = new("acme", Some("oauth"));
    tokens.spec.app = Some(Reference::Id(app.id.clone()));
    let fields = BTreeMap::from([("refresh_token".to_owned(), Secret::new("pasted"))]);
    let connection = vault.lifecycle().add(tokens, fields).await.unwrap();
    let fingerprint = async || {
        let token_context = vault.refresh().token_context(&connection).unwrap();
        vault.refresh().fingerprint_now(&token_context).await.unwrap()
    };
    let before = fingerprint().await;
    source.answers.add_permits(2);
    for _ in 0..2 {
        let (version, _) = vault.grants().opened_row(&app).await.unwrap();
        vault.refresh().app_secret(&app).await.unwrap();
        assert_ne!(vault.grants().opened_row(&app).await.unwrap().0, version, "it is stored");
        assert_eq!(fingerprint().await, before);
    }
    let change = |app: &mut AppRecord| -> Result<(), VaultError> {
        let reference = FieldReference { from: "kept".to_owned(), reference: "other".to_owned() };
        app.spec.references.insert("client_secret".to_owned(), reference);
        Ok(())
    };
    vault.lifecycle().change_app(&app.org, &app.id, &change, None).await.unwrap();
    assert_ne!(fingerprint().await, before);
}
