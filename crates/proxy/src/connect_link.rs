//! Links in refusals that a person can resolve by connecting an account: a page of the console, where the owner signs in.
//! A link is made of names that the agent knows. It costs nothing on the request path, and shows nothing by itself.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::refusal::Refusal;
use keyward_base::agent::Agent;
use keyward_base::connect::ConnectSettings;
use keyward_base::host::Target;
use keyward_rules::policy::{Reason, SlotProblem};
use keyward_rules::provider::Catalogue;
use keyward_vault::VaultError;

/// The settings of links in refusals.
#[derive(Clone)]
pub struct ConnectLinks {
    /// The URL of the admin listener for browsers; `None` where it would not lead to this gateway later.
    pub base: Option<String>,
    /// Whether refusals have links.
    pub settings: watch::Receiver<Arc<ConnectSettings>>,
}

/// What an agent is given to pass on to a person.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ConnectLink {
    /// The page.
    pub(crate) url: Option<String>,
    /// The id of the provider of the host, if no connection for it exists yet.
    pub(crate) provider: Option<Arc<str>>,
}

/// What would resolve a refusal.
enum Resolution<'a> {
    /// This connection is connected again.
    Reconnect(&'a str),
    /// An account at the provider of the host is connected.
    Connect,
}

impl ConnectLinks {
    /// The link for an agent, if the refusal can be resolved by connecting an account. In a session of an end user, who
    /// cannot sign in, it has no URL.
    pub(crate) fn link(
        &self,
        refusal: &Refusal,
        agent: &Agent,
        target: Option<&Target>,
        catalogue: &Catalogue,
    ) -> ConnectLink {
        let Some(resolution) = resolution(refusal) else { return ConnectLink::default() };
        let has_links = self.settings.borrow().links_in_refusals;
        let is_of_end_user = agent.session.as_ref().is_some_and(|session| session.user.is_some());
        let base = self.base.as_deref().filter(|_| has_links && !is_of_end_user);
        match resolution {
            Resolution::Reconnect(name) => {
                let url = base.map(|base| format!("{base}/connections/{name}"));
                ConnectLink { url, provider: None }
            }
            Resolution::Connect => {
                let host = target.map(|target| target.host().to_string());
                let provider = host.and_then(|host| catalogue.owner_of(&host).cloned());
                let page = |id: &Arc<str>| {
                    base.map(|base| format!("{base}/connect?provider={id}&agent={}", agent.name))
                };
                ConnectLink { url: provider.as_ref().and_then(page), provider }
            }
        }
    }
}

impl fmt::Debug for ConnectLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectLinks").field("base", &self.base).finish_non_exhaustive()
    }
}

fn resolution(refusal: &Refusal) -> Option<Resolution<'_>> {
    match refusal {
        Refusal::Policy(reason) => of_policy(reason),
        Refusal::Vault(error) => match error.root() {
            VaultError::GrantMissing { connection, .. }
            | VaultError::Draft { connection, .. }
            | VaultError::Broken { connection, .. }
            | VaultError::ByHand { connection, .. } => Some(Resolution::Reconnect(connection)),
            _ => None,
        },
        _ => None,
    }
}

fn of_policy(reason: &Reason) -> Option<Resolution<'_>> {
    match reason {
        Reason::ConnectionDraft { name, .. } | Reason::ConnectionBroken { name, .. } => {
            Some(Resolution::Reconnect(name))
        }
        Reason::ConnectionMissing { .. }
        | Reason::Unbound { .. }
        | Reason::NoneInSession
        | Reason::DefaultDeny { others: false, set: None } => Some(Resolution::Connect),
        Reason::PluginBlocked(blocked) => match (&blocked.problem, &blocked.connection) {
            (SlotProblem::Draft | SlotProblem::Broken(_), Some(name)) => {
                Some(Resolution::Reconnect(name))
            }
            (SlotProblem::Empty, _) => Some(Resolution::Connect),
            _ => None,
        },
        _ => None,
    }
}
