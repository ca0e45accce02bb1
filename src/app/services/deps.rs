//! The services of the control plane.

use std::sync::Weak;

use super::Services;
use keyward_api::{AuditLog, Deps};
use keyward_state::observe::change_log::ChangeRecorder;

impl Services {
    /// The services for the control plane.
    pub fn deps(&self) -> Deps {
        Deps {
            directory: self.directory.clone(),
            vault: self.vault.clone(),
            rulebook: self.rulebook.clone(),
            refused_rules: self.refused_rules.clone(),
            authority: self.authority.clone(),
            keys: self.keys.clone(),
            flows: self.flows.clone(),
            events: self.events.clone(),
            inbox: self.inbox.clone(),
            database_listeners: self.database_listeners.clone(),
            dialler: self.dialler.clone(),
            audit: AuditLog::at_rest(self.audit.clone()),
            changes: ChangeRecorder::default(),
            backups: self.backups.clone(),
            metrics: self.metrics.clone(),
            telemetry: self.telemetry.switch().clone(),
            clock: self.clock.clone(),
            public_url: self.public_url.clone(),
            connect: self.connect.subscribe(),
            provider_definitions: self.provider_definitions.subscribe(),
            limits: self.limits.clone(),
            shared_limits: self.shared_limits.clone(),
            sign_in: self.sign_in.clone(),
            oidc: self.oidc.clone(),
            data_path: Weak::new(),
        }
    }
}
