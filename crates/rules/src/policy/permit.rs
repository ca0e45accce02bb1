//! Proofs that policy allowed something. Only this folder can make one: the fields are private and
//! the constructors `pub(super)`.

use std::sync::Arc;

use crate::inject::credential::Wanted;
use keyward_base::host::Target;
use keyward_base::id::RuleId;
use keyward_base::settings::Settings;

pub use super::reason::Reason;

/// What `route` found for a target.
#[derive(Debug)]
pub enum Route {
    /// Nothing of it will be allowed, and the name is not one we would mint a leaf for.
    Deny(Reason),
    /// Splice bytes without looking.
    Tunnel(TunnelPermit),
    /// Terminate TLS with a leaf and decide each request (also to refuse inside TLS, for known
    /// names).
    Intercept(InterceptPermit),
}

/// Proof that a target may be dialled and spliced.
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
    Inject(Wanted),
    /// Forward without.
    Pass,
}

/// What the dialler is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    pub(super) plaintext: bool,
    pub(super) port_named: bool,
}

impl TunnelPermit {
    pub(super) fn new(target: Target, rule: RuleId) -> Self {
        Self { target, rule }
    }

    /// Where it may go.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What decided.
    pub fn rule(&self) -> &RuleId {
        &self.rule
    }
}

impl InterceptPermit {
    pub(super) fn new(target: Target) -> Self {
        Self { target }
    }

    /// What a leaf may be minted for.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

impl Permit {
    pub(super) fn new(rule: RuleId, target: Target, action: Action, terms: Terms) -> Self {
        Self { rule, target, action, terms }
    }

    /// The same, on no more than the terms of `other` too.
    pub(super) fn within(self, other: &Self) -> Self {
        let terms = Terms {
            plaintext: self.terms.plaintext && other.terms.plaintext,
            port_named: self.terms.port_named && other.terms.port_named,
        };
        Self { terms, ..self }
    }

    /// Where it may go.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What decided.
    pub fn rule(&self) -> &RuleId {
        &self.rule
    }

    /// What is allowed.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The connection whose credential is wanted.
    pub fn wanted(&self) -> Option<&Wanted> {
        match &self.action {
            Action::Inject(wanted) => Some(wanted),
            Action::Pass => None,
        }
    }

    /// How requests with that credential are sent; `None`: as all others.
    pub fn settings(&self) -> Option<&Arc<Settings>> {
        self.wanted()?.settings.as_ref()
    }

    /// `allow_plaintext: true`: the credential may go over cleartext to an address on the private
    /// list.
    pub fn plaintext(&self) -> bool {
        self.terms.plaintext
    }

    /// An explicit rule or a provider host names this port; otherwise only 80 and 443 may be
    /// dialled.
    pub fn port_named(&self) -> bool {
        self.terms.port_named
    }
}
