//! The clocks of services: signatures are dated by them where this machine's clock is wrong.

use http::HeaderMap;
use jiff::Timestamp;

use super::Vault;

impl Vault {
    /// The time of a service by its own clock, for signatures.
    pub fn time_at(&self, authority: &str, now: Timestamp) -> Timestamp {
        match &*self.asker.0.load() {
            Some(by) => by.caller.clocks().at(authority, now),
            None => now,
        }
    }

    /// Learns the clock of a service from its refusal of a signed request, over verified TLS.
    pub fn learn_clock(&self, authority: &str, headers: &HeaderMap) {
        if let Some(by) = &*self.asker.0.load() {
            by.caller.clocks().learn(authority, headers, self.clock.now());
        }
    }

    /// What is wrong with this machine's clock, by the answers of services.
    pub fn clock_warning(&self) -> Option<String> {
        self.asker.0.load().as_ref()?.caller.clocks().warning()
    }
}
