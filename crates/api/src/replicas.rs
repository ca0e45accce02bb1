//! `/replicas`: the gateways that use the same store, as they announced themselves there.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::context::Context;
use super::database_listeners;
use super::error::{ApiError, shown, shown_long};
use super::health::word;
use super::openapi::Routes;
use super::state::{Admin, Locations};
use super::wire::{List, ReplicaInfo, ReplicaState, ReplicaView};
use keyward_state::crypto::keyring::KeyId;
use keyward_state::directory::DirectoryError;
use keyward_state::store::AnnouncedReplica;

/// Between two announcements.
const ANNOUNCED_EVERY: Duration = Duration::from_secs(5);

/// A replica that is silent for so long has crashed, or cannot reach the store.
const GONE_AFTER: Duration = Duration::from_secs(20);

/// Digits of the hash of a configuration.
const HASH_DIGITS: usize = 12;

pub(super) fn routes() -> Routes {
    Routes::new().get(
        "/replicas",
        ["listReplicas", "List the gateways that use the same store"],
        replicas,
    )
}

/// Announces this gateway to the replicas of its store, until dropped. Returns at once if the store is not
/// shared.
pub async fn announce(admin: Admin) {
    let Some(places) = admin.locations().cloned() else { return };
    let mut told = BTreeSet::new();
    while admin.deps().directory.is_shared() {
        let about = about(&admin, &places).await;
        let text = serde_json::to_string(&about).unwrap_or_default();
        // The feed of changes reports a store that does not answer.
        match admin.deps().directory.announce_replica(&text).await {
            Ok(()) => warn_of_differences(&admin, &about, &mut told).await,
            Err(error) => tracing::debug!(%error, "the replica is not announced"),
        }
        tokio::time::sleep(ANNOUNCED_EVERY).await;
    }
}

pub(super) async fn about(admin: &Admin, places: &Locations) -> ReplicaInfo {
    let file = places.config.clone();
    // It may be absent.
    let config = tokio::task::spawn_blocking(move || std::fs::read(file).unwrap_or_default());
    let config = config.await.unwrap_or_default();
    let digits = HEXLOWER.encode(&Sha256::digest(config));
    let lag = admin.deps().directory.staleness();
    ReplicaInfo {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        proxy: places.proxy.first().cloned().unwrap_or_default(),
        admin: places.admin.clone(),
        started: admin.started().unwrap_or_default(),
        config: digits[..HASH_DIGITS].to_owned(),
        ca: Some(admin.deps().authority.fingerprint()),
        keys: Some(admin.deps().keys.ids().iter().map(ToString::to_string).collect()),
        lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
        status: word(admin).to_owned(),
        clock: Some(admin.deps().clock.now()),
        stale_max_ms: u64::try_from(admin.deps().directory.stale_max().as_millis()).ok(),
        database_listeners: database_listeners::on_replica(&admin.deps().database_listeners),
    }
}

/// Warns once about each other CA, configuration and version: the last two are usual during an upgrade.
async fn warn_of_differences(
    admin: &Admin,
    own: &ReplicaInfo,
    told: &mut BTreeSet<(String, String, Option<String>)>,
) {
    let Ok(others) = running_others(admin).await else { return };
    for other in others {
        let other_ca = own.ca_differs(&other);
        let is_same = (&other.version, &other.config) == (&own.version, &own.config) && !other_ca;
        let key = (other.version.clone(), other.config.clone(), other.ca.clone());
        if !is_same && told.insert(key) {
            tracing::warn!(
                id = "replica_differs",
                host = other.host,
                version = other.version,
                own_version = own.version,
                config = other.config,
                own_config = own.config,
                other_ca,
                "another replica has another version, configuration or CA: replicas need the same files"
            );
        }
    }
}

/// What the other replicas that run announced. Replicas of other versions may announce something else.
async fn running_others(admin: &Admin) -> Result<Vec<ReplicaInfo>, DirectoryError> {
    let all = admin.deps().directory.replicas().await?;
    let running = all.iter().filter(|one| !one.is_own && one.ago <= GONE_AFTER);
    Ok(running.filter_map(|one| serde_json::from_str(&one.about).ok()).collect())
}

/// Refuses a rotation of the master key to `next` while another replica runs that does not have that key: it could not
/// read what is sealed with it. `None`: a key that the rotation makes here.
pub(super) async fn all_have_key(admin: &Admin, next: Option<KeyId>) -> Result<(), ApiError> {
    let next = next.map(|key| key.to_string());
    let others = running_others(admin).await?;
    others.iter().try_for_each(|other| has_key(other, next.as_deref()))
}

fn has_key(replica: &ReplicaInfo, next: Option<&str>) -> Result<(), ApiError> {
    let place = shown_long(&format!("{} at {}", replica.host, replica.proxy));
    match (next, &replica.keys) {
        (Some(next), Some(keys)) if keys.iter().any(|key| key == next) => Ok(()),
        (Some(next), Some(_)) => Err(ApiError::refused(format!(
            "replica {place} does not have the master key {next}, and could not read what is sealed with it"
        ))
        .hint(format!(
            "add the key to `master_key` there, reload or restart it, and rotate {} seconds later",
            ANNOUNCED_EVERY.as_secs()
        ))),
        (Some(next), None) => Err(ApiError::refused(format!(
            "replica {place} runs version {}, which does not announce whether it has the master key {next}",
            shown(&replica.version)
        ))
        .hint(format!(
            "upgrade or stop that replica, then rotate; one that crashed counts for {} seconds",
            GONE_AFTER.as_secs()
        ))),
        (None, _) => Err(ApiError::refused(format!(
            "this rotation would make a master key that replica {place} does not have"
        ))
        .hint(
            "name a new key and the present one under `master_key` of every replica, or stop the other replicas; \
             then rotate",
        )),
    }
}

/// Empty where the gateway has its store for itself.
async fn replicas(context: Context) -> Result<Json<List<ReplicaView>>, ApiError> {
    let all = context.deps().directory.replicas().await?;
    let now = context.deps().clock.now();
    // Replicas of other versions may tell something else.
    let told: Vec<(AnnouncedReplica, ReplicaInfo)> = all
        .into_iter()
        .filter_map(|one| serde_json::from_str(&one.about).ok().map(|about| (one, about)))
        .collect();
    let own = told.iter().find(|(one, _)| one.is_own).map(|(_, about)| about.clone());
    let items = told.into_iter().map(|(one, about)| view(&one, about, own.as_ref(), now));
    let mut items = without_replaced(items.collect());
    items.sort_by(|a, b| (&a.host, &a.proxy, a.seen).cmp(&(&b.host, &b.proxy, b.seen)));
    Ok(Json(List { items, next: None }))
}

/// Without those that crashed and were started again since, at the same address.
fn without_replaced(mut items: Vec<ReplicaView>) -> Vec<ReplicaView> {
    let started: Vec<_> =
        items.iter().map(|it| (it.host.clone(), it.proxy.clone(), it.started)).collect();
    let is_replaced = |it: &ReplicaView| {
        let is_later = |(host, proxy, at): &(String, String, Timestamp)| {
            *host == it.host && *proxy == it.proxy && *at > it.seen
        };
        started.iter().any(is_later)
    };
    items.retain(|it| it.state != ReplicaState::Gone || !is_replaced(it));
    items
}

fn view(
    announced: &AnnouncedReplica,
    about: ReplicaInfo,
    own: Option<&ReplicaInfo>,
    now: Timestamp,
) -> ReplicaView {
    let state = match &*about.status {
        _ if announced.ago > GONE_AFTER => ReplicaState::Gone,
        "draining" => ReplicaState::Draining,
        "stale" => ReplicaState::Stale,
        "outdated" => ReplicaState::Outdated,
        "audit_unavailable" => ReplicaState::AuditUnavailable,
        _ => ReplicaState::Ready,
    };
    let times = about.clock.zip(announced.seen);
    ReplicaView {
        clock_ahead_ms: times.map(|(own, store)| own.as_millisecond() - store.as_millisecond()),
        stale_max_ms: about.stale_max_ms,
        state,
        own: announced.is_own,
        config_differs: own.is_some_and(|own| own.config != about.config),
        ca_differs: own.is_some_and(|own| own.ca_differs(&about)),
        seen: now.checked_sub(announced.ago).unwrap_or(now),
        host: about.host,
        proxy: about.proxy,
        admin: about.admin,
        version: about.version,
        started: about.started,
        lag_ms: about.lag_ms,
        database_listeners: about.database_listeners,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> ReplicaInfo {
        ReplicaInfo {
            host: "a".to_owned(),
            version: "0.1.0".to_owned(),
            proxy: "0.0.0.0:8080".to_owned(),
            admin: "127.0.0.1:8081".to_owned(),
            started: Timestamp::UNIX_EPOCH,
            config: "one".to_owned(),
            ca: Some("AA".to_owned()),
            keys: None,
            lag_ms: 7,
            status: "stale".to_owned(),
            clock: Some(Timestamp::UNIX_EPOCH + Duration::from_secs(50)),
            stale_max_ms: Some(300_000),
            database_listeners: Vec::new(),
        }
    }

    #[test]
    fn a_different_ca_is_reported_only_if_both_replicas_name_one() {
        let named = |ca: Option<&str>| ReplicaInfo { ca: ca.map(str::to_owned), ..said() };
        let one = AnnouncedReplica {
            is_own: false,
            about: String::new(),
            ago: Duration::ZERO,
            seen: Some(Timestamp::UNIX_EPOCH),
        };
        let differs = |other, own| {
            view(&one, named(other), Some(&named(own)), Timestamp::UNIX_EPOCH).ca_differs
        };
        assert!(!differs(Some("AA"), Some("AA")));
        assert!(!differs(None, Some("AA")) && !differs(Some("AA"), None));
        assert!(differs(Some("BB"), Some("AA")));
    }

    #[test]
    fn a_silent_replica_is_gone_whatever_state_it_reported_last() {
        let about = said();
        let with = |config: &str| ReplicaInfo { config: config.to_owned(), ..about.clone() };
        let (same, other) = (with("one"), with("other"));
        let seen = |seconds, own: Option<&ReplicaInfo>| {
            let ago = Duration::from_secs(seconds);
            let seen = Some(Timestamp::UNIX_EPOCH + Duration::from_secs(60));
            let one = AnnouncedReplica { is_own: false, about: String::new(), ago, seen };
            let now = Timestamp::UNIX_EPOCH + Duration::from_secs(60);
            let view = view(&one, about.clone(), own, now);
            assert_eq!((view.clock_ahead_ms, view.clock_differs()), (Some(-10_000), Some(-10_000)));
            (view.state, view.config_differs, view.seen.as_second())
        };
        assert_eq!(seen(20, Some(&same)), (ReplicaState::Stale, false, 40));
        assert_eq!(seen(21, Some(&other)), (ReplicaState::Gone, true, 39));
        assert_eq!(seen(21, None), (ReplicaState::Gone, false, 39));
    }

    #[test]
    fn a_crashed_replica_leaves_the_list_once_it_was_started_again_and_others_do_not() {
        let now = Timestamp::UNIX_EPOCH + Duration::from_secs(100);
        let with = |proxy: &str, started: u64, ago: u64| {
            let ago = Duration::from_secs(ago);
            let one = AnnouncedReplica { is_own: false, about: String::new(), ago, seen: None };
            let started = Timestamp::UNIX_EPOCH + Duration::from_secs(started);
            view(&one, ReplicaInfo { proxy: proxy.to_owned(), started, ..said() }, None, now)
        };
        // Seen last at 50. The second one runs at the same address, since before that or after.
        let shown = |others: &[ReplicaView]| {
            let all = [with("a", 0, 50)].iter().chain(others).cloned().collect();
            without_replaced(all).iter().filter(|it| it.state == ReplicaState::Gone).count()
        };
        assert_eq!(shown(&[]), 1);
        assert_eq!(shown(&[with("b", 60, 0)]), 1);
        assert_eq!(shown(&[with("a", 40, 0)]), 1);
        assert_eq!(shown(&[with("a", 60, 0)]), 0);
        // It crashed as well.
        assert_eq!(shown(&[with("a", 60, 30)]), 1);
    }
}
