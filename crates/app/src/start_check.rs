//! Reads what a start reads beside the store, before the gateway that serves is asked to end for this one. With the
//! embedded store it ends before the new process can go on, so an error found later leaves no gateway.

use super::error::refused;
use super::keys;
use super::listener_certificates::ListenerCertificates;
use super::plan::Inputs;
use super::plan::problem::unplaced;
use super::telemetry::Collector;
use super::upstream_settings::UpstreamSettings;
use crate::config::Config;
use keyward_base::time::Clock;
use keyward_proxy::ca::authority::{Authority, CaError};
use keyward_rules::provider::document::Problem;

/// Reads secrets, manifests, keys, roots and certificates, and drops them.
///
/// # Errors
/// All that cannot be read.
pub(super) async fn check_start(config: &Config) -> anyhow::Result<()> {
    let config = config.clone();
    // Files may be slow, and key commands take time.
    let problems = tokio::task::spawn_blocking(move || unreadable(&config)).await?;
    if problems.is_empty() { Ok(()) } else { Err(refused(problems).into()) }
}

fn unreadable(config: &Config) -> Vec<Problem> {
    let upstream = UpstreamSettings::load(config).err().map(|error| format!("{error:#}"));
    // The default file is the running gateway's own.
    let keys = (!config.default_master_key).then(|| keys::read(config)).and_then(Result::err);
    let keys = keys.map(|error| format!("`master_key`: {error}"));
    let ca = check_ca(config).err().map(|error| format!("`ca`: {error}"));
    let certificates = ListenerCertificates::check(config).err().map(|error| format!("{error:#}"));
    let texts = [upstream, keys, ca, certificates].into_iter().flatten();
    let inputs = Inputs::load(config).err().into_iter().chain(Collector::load(config).err());
    inputs.flatten().chain(texts.map(|text| unplaced(&text))).collect()
}

/// A missing CA is made by the start.
fn check_ca(config: &Config) -> Result<(), CaError> {
    let (cert, key) = (&config.ca.cert, &config.ca.key);
    match Authority::is_made(cert, key)? {
        true => Authority::read(cert, key, &Clock::System).map(drop),
        false => Ok(()),
    }
}
