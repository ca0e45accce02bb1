//! What is said of a connection for people, and of its secret without the secret.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::NewConnection;
use keyward_base::settings::Settings;
use keyward_base::time::written;
use keyward_state::directory::{ConnectionRecord, Due, Rotation};

/// What is known of a connection's secret.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SecretView {
    /// When it was given; absent: with the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Timestamp>,
    /// When it ends, as its owner says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// How long one is to be used, `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_every: Option<String>,
    /// A second one is sealed beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// When another is wanted, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
}

/// What the owner of a new connection says of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AboutGiven {
    /// What it is.
    pub description: Option<String>,
    /// What it is for.
    pub purpose: Option<String>,
    /// To find it by.
    pub tags: BTreeSet<String>,
    /// When its secret ends: `90d`, a day, or a time.
    pub expires: Option<String>,
    /// How long a secret is to be used, `90d`.
    pub rotate_every: Option<String>,
}

/// What a connection may do, against what it was to.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Scopes {
    /// Scopes that are asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requested: Vec<String>,
    /// Those of them that were not granted, as far as the provider tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// How its requests are sent because its app says so, where `settings` say nothing.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub inherited: Settings,
}

impl NewConnection {
    /// What is said of it for people, and of its secret.
    pub fn said(&self) -> AboutGiven {
        AboutGiven {
            description: self.description.clone(),
            purpose: self.purpose.clone(),
            tags: self.tags.clone(),
            expires: self.expires.clone(),
            rotate_every: self.rotate_every.clone(),
        }
    }
}

impl SecretView {
    /// Of a connection.
    pub fn of(connection: &ConnectionRecord) -> Self {
        let secret = &connection.secret;
        Self {
            rotated: secret.rotated,
            expires: secret.expires,
            rotate_every: secret.rotate_every.map(days),
            rotation: secret.rotation.clone(),
            due: connection.due(),
        }
    }
}

/// As people write it: whole days where it is some.
fn days(time: std::time::Duration) -> String {
    match (time.as_secs() / 86_400, time.as_secs() % 86_400, time.subsec_millis()) {
        (days @ 1.., 0, 0) => format!("{days}d"),
        _ => written(time),
    }
}
