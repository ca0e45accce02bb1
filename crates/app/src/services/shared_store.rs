//! The store of a configuration: embedded, or that of several replicas, from its configuration to a connected
//! [`PostgresStore`].

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::ClientConfig;
use tokio_postgres::config::{Host, SslMode};

use crate::config::{Config, PostgresChoice, PostgresTls, StoreChoice};
use crate::restore;
use keyward_net::tls;
use keyward_state::store::memory::MemoryStore;
use keyward_state::store::postgres::{PostgresSettings, PostgresStore};
use keyward_state::store::sled::SledStore;
use keyward_state::store::{Store, StoreError};

/// Connects to the database.
pub(super) async fn open_postgres(
    config: &Config,
    choice: &PostgresChoice,
) -> anyhow::Result<PostgresStore> {
    let url = choice.url.load(&config.environment, &config.secret_variables());
    let url = url.context("`store.postgres.url`")?;
    let text = std::str::from_utf8(url.expose()).ok();
    // The parser's error may quote a part of the password.
    let mut database = text.and_then(|text| without_ssl_mode(text).parse().ok()).context(
        "`store.postgres.url`: this is not the URL of a database: write `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, \
         with `%40` for `@` in the password",
    )?;
    let tls = encryption(choice, &mut database)?;
    let PostgresChoice { streams_max, timeout, .. } = *choice;
    let settings = PostgresSettings { database, tls, streams_max, timeout };
    Ok(PostgresStore::open(settings).await?)
}

/// TLS for databases that are reached by TCP.
fn encryption(
    choice: &PostgresChoice,
    database: &mut tokio_postgres::Config,
) -> anyhow::Result<Option<Arc<ClientConfig>>> {
    let by_tcp = |host: &Host| matches!(host, Host::Tcp(_));
    if choice.tls == PostgresTls::Off || !database.get_hosts().iter().any(by_tcp) {
        database.ssl_mode(SslMode::Disable);
        return Ok(None);
    }
    let mut roots = Vec::new();
    for path in &choice.trust {
        let found = tls::load_pem_certs(path);
        roots.extend(found.context("`store.postgres.trust`")?);
    }
    database.ssl_mode(SslMode::Require);
    let mut config = ClientConfig::clone(&*tls::client_config(&roots)?);
    // It names HTTP, which a server of version 17 refuses.
    config.alpn_protocols = Vec::new();
    Ok(Some(config.into()))
}

/// `tls` decides; and `verify-full` is a word that the parser does not know.
fn without_ssl_mode(url: &str) -> String {
    let Some((base, query)) = url.split_once('?') else { return url.to_owned() };
    let kept: Vec<_> = query.split('&').filter(|it| !it.starts_with("sslmode=")).collect();
    if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) }
}

/// How long [`leave_store`] waits.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Opens it, and completes a restore that was interrupted.
pub(crate) async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match &config.store {
        StoreChoice::Memory => Arc::new(MemoryStore::new()),
        StoreChoice::Postgres(choice) => Arc::new(open_postgres(config, choice).await?),
        StoreChoice::Sled { path } => match SledStore::open(path).await {
            Ok(store) => {
                restore::complete(config, path)?;
                Arc::new(store)
            }
            // The system's message does not name the path.
            Err(error @ StoreError::Io { .. }) => {
                return Err(error).with_context(|| format!("cannot use {}", path.display()));
            }
            Err(error) => return Err(error.into()),
        },
    })
}

/// Ends the presence of this process, so that the next command does not wait for it.
pub(crate) async fn leave_store(store: &dyn Store) {
    let Some(shared) = store.shared() else { return };
    let error = match tokio::time::timeout(LEAVE_MAX, shared.leave()).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the store does not answer".to_owned(),
    };
    tracing::debug!(
        error,
        "cannot remove this process from the list of replicas: its entry expires"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sslmode_is_removed_from_the_database_url() {
        for (given, kept) in [
            ("postgres://a:b@h/d", "postgres://a:b@h/d"),
            ("postgres://a:b@h/d?sslmode=verify-full", "postgres://a:b@h/d"),
            ("postgres://h/d?a=b&sslmode=disable&c=d", "postgres://h/d?a=b&c=d"),
        ] {
            assert_eq!(without_ssl_mode(given), kept);
        }
    }
}
