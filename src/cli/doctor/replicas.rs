//! Checks a store that replicas share: the view of the gateway that answers is not old, and the replicas work and are alike.

use std::time::Duration;

use super::report::DoctorReport;
use crate::cli::client::Client;
use keyward_api::wire::{List, ReplicaState, ReplicaView, SharedStoreView};
use keyward_base::time::format_duration;

const ID: &str = "replicas";

/// The figure of the alert `KeywardReplicaStale` in `deploy/prometheus`.
const STALE_MS: u64 = 60_000;

/// Reports the view of the gateway, then all replicas.
pub(super) async fn check(store: &SharedStoreView, client: &Client, report: &mut DoctorReport) {
    view(store, report);
    match client.list::<ReplicaView>("/api/v1/replicas", &[]).await {
        Ok(List { items, .. }) => all(&items, report),
        Err(failure) => {
            let message = format!("the replicas cannot be listed: {}", failure.message());
            report.fail(ID, message, "check the database of `store.postgres`");
        }
    }
}

/// The view of the gateway that answers.
fn view(store: &SharedStoreView, report: &mut DoctorReport) {
    if store.outdated {
        let message =
            "a newer version of Keyward changed the store: this gateway writes nothing any more";
        report.fail(ID, message, "update this gateway; `/readyz` answers 503 until then");
    }
    let (age, bound) = (seconds(store.staleness_ms), seconds(store.stale_max_ms));
    let hint = "check the database, and the network between it and this machine; revocations through other replicas may be missing";
    if store.staleness_ms > store.stale_max_ms {
        let message = format!(
            "this gateway has had no changes of the store for {age}; the bound is {bound}, so it is not ready"
        );
        report.fail(ID, message, hint);
    } else if store.staleness_ms > STALE_MS {
        let message = format!(
            "this gateway has had no changes of the store for {age}; from {bound} on it is not ready"
        );
        report.warn(ID, message, hint);
    } else {
        report.ok(
            ID,
            format!("changes of the store until {age} ago are in force; the bound is {bound}"),
        );
    }
}

/// What the replicas say of themselves.
fn all(replicas: &[ReplicaView], report: &mut DoctorReport) {
    let own = replicas.iter().find(|one| one.own);
    if let Some(silent) = own.filter(|one| one.state == ReplicaState::Gone) {
        let message = format!(
            "this gateway has announced itself to no replica since {:.0}: which others run is not known",
            silent.seen
        );
        report.warn(ID, message, "check that the database of `store.postgres` can be written");
        return;
    }
    let own = own.map(|one| one.version.as_str());
    let mut live = 0;
    for one in replicas {
        let name = format!("replica {} at {}", one.host, one.proxy);
        match one.state {
            ReplicaState::Gone => {
                let hint = "start it again, or check the network to the database; after an hour it leaves the list";
                let message = format!("{name} is gone: it was last seen at {:.0}", one.seen);
                report.warn(ID, message, hint);
                continue;
            }
            ReplicaState::Stale => {
                let (lag, bound) = (seconds(one.lag_ms), one.stale_max_ms.map(seconds));
                let bound =
                    bound.map(|bound| format!("; the bound is {bound}")).unwrap_or_default();
                let message = format!("{name} has had no changes of the store for {lag}{bound}");
                report.fail(ID, message, "check the network between it and the database");
            }
            ReplicaState::Outdated => {
                let message =
                    format!("{name} writes nothing: a newer version of Keyward changed the store");
                report.fail(ID, message, format!("update it: it has version {}", one.version));
            }
            ReplicaState::AuditUnavailable => {
                let message =
                    format!("{name} refuses all requests: its audit log cannot be written");
                report.fail(ID, message, "make sure that its disk has room and is writable");
            }
            ReplicaState::Ready | ReplicaState::Draining => live += 1,
        }
        differences(one, &name, own, report);
    }
    let version = own.map(|own| format!(", this one of version {own}")).unwrap_or_default();
    report.ok(ID, format!("running replicas: {live}{version}"));
}

/// In what a replica differs from the others.
fn differences(one: &ReplicaView, name: &str, own: Option<&str>, report: &mut DoctorReport) {
    if own.is_some_and(|own| own != one.version) {
        let message = format!("{name} has version {}", one.version);
        report.warn(ID, message, "complete the upgrade: replicas should have the same version");
    }
    if one.config_differs {
        let message = format!("{name} has another configuration file");
        report.warn(ID, message, "give all replicas the same file, then reload or restart them");
    }
    if one.ca_differs {
        let hint = "copy `ca.cert` and `ca.key` of one replica to all, then restart them";
        let message = format!("{name} has another CA: agents that trust this one refuse it");
        report.fail(ID, message, hint);
    }
    if let Some(ahead) = one.clock_differs() {
        let by = seconds(ahead.unsigned_abs());
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let message = format!("the clock of {name} is {by} {way} that of the database");
        report.warn(ID, message, "set the clock there (systemd: timedatectl set-ntp true)");
    }
}

/// Whole seconds; a bound may be without end.
fn seconds(ms: u64) -> String {
    match ms {
        u64::MAX => "any time".to_owned(),
        1_000.. => format_duration(Duration::from_secs(ms / 1_000)),
        _ => format_duration(Duration::from_millis(ms)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn replica(host: &str, more: serde_json::Value) -> ReplicaView {
        let mut replica = json!({
            "host": host, "proxy": "0.0.0.0:8080", "admin": "127.0.0.1:8081", "version": "0.1.0",
            "started": "2025-01-02T09:00:00Z", "seen": "2025-01-02T11:59:57Z", "lag_ms": 210,
            "state": "ready", "own": false, "config_differs": false, "clock_ahead_ms": -12,
            "stale_max_ms": 300_000,
        });
        replica.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(replica).unwrap()
    }

    #[test]
    fn each_replica_that_differs_is_named_with_a_remedy() {
        let replicas = [
            replica("own", json!({ "own": true })),
            replica("late", json!({ "state": "stale", "lag_ms": 301_000 })),
            replica("lost", json!({ "state": "gone" })),
            replica("older", json!({ "version": "0.0.9", "clock_ahead_ms": 61_000 })),
            replica("other", json!({ "config_differs": true, "state": "outdated" })),
            replica("alone", json!({ "ca_differs": true })),
        ];
        let mut report = DoctorReport::default();
        all(&replicas, &mut report);
        insta::assert_snapshot!(report.text(false));
    }

    /// While the database is read-only, no replica can announce itself.
    #[test]
    fn no_replica_is_called_gone_by_one_that_cannot_announce_itself() {
        let gone = |host: &str, own: bool| replica(host, json!({ "state": "gone", "own": own }));
        let mut report = DoctorReport::default();
        all(&[gone("own", true), gone("other", false)], &mut report);
        let told: Vec<_> = report.checks.iter().map(|check| check.message.as_str()).collect();
        let expected = "this gateway has announced itself to no replica since 2025-01-02T11:59:57Z: which others run is not known";
        assert_eq!(told, [expected]);
    }

    #[test]
    fn a_stale_view_of_the_store_is_a_warning_and_above_its_bound_a_failure() {
        let told = |staleness_ms, outdated| {
            let mut report = DoctorReport::default();
            let store =
                SharedStoreView { staleness_ms, stale_max_ms: 300_000, outdated, replicas: 2 };
            view(&store, &mut report);
            (report.failed(), report.checks[0].message.clone(), report.checks[0].hint.is_some())
        };
        let fresh = "changes of the store until 240ms ago are in force; the bound is 5m";
        assert_eq!(told(240, false), (false, fresh.to_owned(), false));
        let late =
            "this gateway has had no changes of the store for 61s; from 5m on it is not ready";
        assert_eq!(told(61_000, false), (false, late.to_owned(), true));
        assert!(told(301_000, false).0 && told(240, true).0);
    }
}
