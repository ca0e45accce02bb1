//! `sign_in:`: how people sign in.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_yaml::Value;

use super::oidc::{OidcSources, oidc};
use super::reading::ConfigReading;
use keyward_base::sign_in::{IDLE, LIFE, SignInSettings};
use keyward_rules::provider::document::key_of;

/// Settings, and what they name outside of themselves.
#[derive(Clone, Debug)]
pub struct SignIn {
    pub settings: SignInSettings,
    /// Of `sign_in.oidc`; `None` without it.
    pub oidc: Option<OidcSources>,
}

pub(super) fn sign_in(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> SignIn {
    let settings = reading.section::<SignInSettings>(value, "sign_in").unwrap_or_default();
    let mut within = |key: &str, given: Duration, range: RangeInclusive<Duration>, text: &str| {
        if !range.contains(&given) {
            let remedy = format!("write {text}");
            reading.problems.add(&key_of("sign_in", key), "the time is out of bounds", remedy);
        }
    };
    within("idle", settings.idle, IDLE, "5m to 30d, such as 12h");
    within("life", settings.life, LIFE, "5m to 90d, such as 7d");
    let secret = value.and_then(|value| value.get("oidc")?.get("client_secret"));
    let oidc = settings.oidc.as_ref().and_then(|settings| oidc(settings, secret, reading));
    SignIn { settings, oidc }
}
