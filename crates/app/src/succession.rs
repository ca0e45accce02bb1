//! The order in which a gateway takes over from another. With a shared store, both serve for a moment. The embedded
//! store belongs to one process at a time, so streams wait until the new process owns it.

use std::time::{Duration, Instant};

use super::error::{AppError, is_locked};
use super::hand_over::{HandOver, Predecessor, Sockets, Successor};
use super::last_config;
use super::patience::Patience;
use super::services::{OpenedServices, Opening};
use super::start_check::check_start;
use crate::config::{Config, StoreChoice};
use keyward_api::{AdminSocket, SOCKET_NAME};
use keyward_databases::StoredListeners;

/// The lock of a store ends with its process; each try waits for it for a moment.
const UNLOCKED_WITHIN: Duration = Duration::from_secs(10);

/// Opens the services, after the gateway before has ended if only one process can have the store; what this one needs
/// beside the store is read first. Also that gateway, and its sockets.
pub(super) async fn opened(
    config: &Config,
) -> anyhow::Result<(OpenedServices, Option<Predecessor>, Sockets)> {
    let mut found = match config.takes_over {
        true => {
            last_config::check_place(config)?;
            if !matches!(config.store, StoreChoice::Postgres(_)) {
                check_start(config).await?;
            }
            Predecessor::find(&config.data_dir)?
        }
        false => None,
    };
    let sockets = Sockets::of(found.as_mut());
    match (found, &config.store) {
        (Some(before), StoreChoice::Sled { .. } | StoreChoice::Memory) => {
            let before = before.ended().await?;
            Ok((open_when_unlocked(config).await?, Some(before), sockets))
        }
        (found, StoreChoice::Postgres(_)) => {
            Ok((open_when_answered(config).await?, found, sockets))
        }
        (None, _) => Ok((OpenedServices::open(config, Opening::Make).await?, None, sockets)),
    }
}

/// The admin socket of the gateway before, or a new one.
pub(super) async fn admin_socket(
    config: &Config,
    sockets: &mut Sockets,
) -> anyhow::Result<AdminSocket> {
    let socket = match sockets.take(SOCKET_NAME) {
        Some(socket) => AdminSocket::from_predecessor(&config.data_dir, socket.into())?,
        None => {
            let bound = AdminSocket::bind(&config.data_dir).await;
            bound.map_err(|error| AppError::data_file(&config.data_dir, error))?
        }
    };
    sockets.give(SOCKET_NAME.to_owned(), &socket)?;
    Ok(socket.kept_when(sockets.handed_over.clone()))
}

/// Offers the sockets to the next process, but for a gateway of one run, and for sockets that a service manager passes on.
pub(super) fn offered(config: &Config, sockets: Sockets) -> anyhow::Result<Option<HandOver>> {
    let is_private = config.ends_with_runs || config.environment.path("LISTEN_FDS").is_some();
    (!is_private).then(|| sockets.offer(&config.data_dir)).transpose()
}

pub(super) async fn handed_over(offered: Option<HandOver>, stored: &StoredListeners) -> Successor {
    match offered {
        Some(offered) => offered.wait_for_successor(stored).await,
        None => std::future::pending().await,
    }
}

/// Opens the services once the process before has let go of the store.
async fn open_when_unlocked(config: &Config) -> anyhow::Result<OpenedServices> {
    let until = Instant::now() + UNLOCKED_WITHIN;
    loop {
        match OpenedServices::open(config, Opening::Make).await {
            Err(error) if is_locked(&error) && Instant::now() < until => {}
            opened => return opened,
        }
    }
}

/// Opens the services once the database of the store answers.
async fn open_when_answered(config: &Config) -> anyhow::Result<OpenedServices> {
    let mut patience = Patience::begin();
    loop {
        match OpenedServices::open(config, Opening::Make).await {
            Err(error) if patience.waits(&error).await => {}
            opened => return opened,
        }
    }
}
