//! Permits: proofs that policy allowed something. Only this module can make them: the fields are private and
//! the constructors `pub(super)`.

use std::sync::Arc;

use crate::inject::credential::RequiredConnection;
use keyward_base::host::Target;
use keyward_base::id::RuleId;
use keyward_base::settings::Settings;

pub use super::reason::Reason;

/// The decision about a target.
#[derive(Debug)]
pub enum Route {
    /// No request would be allowed, and no leaf is minted for this name.
    Deny {
        /// The rule or default that refuses.
        rule: Option<RuleId>,
        /// Why.
        reason: Reason,
    },
    /// Copy bytes without inspection.
    Tunnel(TunnelPermit),
    /// Terminate TLS with a leaf and decide each request. Known names are also refused inside TLS.
    Intercept(InterceptPermit),
}

/// Proof that a target may be dialled and its bytes copied.
#[must_use]
#[derive(Debug)]
pub struct TunnelPermit {
    target: Target,
    rule: RuleId,
}

/// Proof that a leaf may be minted for the target.
#[must_use]
#[derive(Debug)]
pub struct InterceptPermit {
    target: Target,
}

/// Proof that a request may be sent.
#[must_use]
#[derive(Debug)]
pub struct Permit {
    rule: RuleId,
    target: Target,
    action: Action,
    terms: Terms,
}

/// What a permit allows.
#[derive(Clone, Debug)]
pub enum Action {
    /// Forward with a connection's credential.
    Inject(RequiredConnection),
    /// Forward without a credential.
    Pass,
}

/// Conditions for the dialler.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    pub(super) plaintext: bool,
    pub(super) port_named: bool,
}

impl TunnelPermit {
    pub(super) fn new(target: Target, rule: RuleId) -> Self {
        Self { target, rule }
    }

    /// The permitted target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The rule that decided.
    pub fn rule(&self) -> &RuleId {
        &self.rule
    }
}

impl InterceptPermit {
    pub(super) fn new(target: Target) -> Self {
        Self { target }
    }

    /// The target that a leaf may be minted for.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

impl Permit {
    pub(super) fn new(rule: RuleId, target: Target, action: Action, terms: Terms) -> Self {
        Self { rule, target, action, terms }
    }

    /// Restricts this permit to the terms of `other`.
    pub(super) fn within(self, other: &Self) -> Self {
        let terms = Terms {
            plaintext: self.terms.plaintext && other.terms.plaintext,
            port_named: self.terms.port_named && other.terms.port_named,
        };
        Self { terms, ..self }
    }

    /// The permitted target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The rule that decided.
    pub fn rule(&self) -> &RuleId {
        &self.rule
    }

    /// The permitted action.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The connection whose credential is required.
    pub fn wanted(&self) -> Option<&RequiredConnection> {
        match &self.action {
            Action::Inject(wanted) => Some(wanted),
            Action::Pass => None,
        }
    }

    /// The settings for requests with that credential; `None` for the defaults.
    pub fn settings(&self) -> Option<&Arc<Settings>> {
        self.wanted()?.settings.as_ref()
    }

    /// `allow_plaintext: true`: the credential may be sent in cleartext to an address on the private list.
    pub fn plaintext(&self) -> bool {
        self.terms.plaintext
    }

    /// Whether a rule or provider host names this port; otherwise only 80 and 443 may be dialled.
    pub fn port_named(&self) -> bool {
        self.terms.port_named
    }
}
