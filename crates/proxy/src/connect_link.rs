//! Links in refusals that a person can resolve by connecting an account: a page of the console, where the owner signs
//! in, or, in a session of an end user, the link of a connect session. The URL of the page needs no request; the
//! control plane creates the link, and a refusal waits briefly for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::refusal::Refusal;
use keyward_base::agent::Agent;
use keyward_base::connect::ConnectSettings;
use keyward_base::host::Target;
use keyward_base::id::{AgentId, OrgId, SessionId, UserId};
use keyward_rules::policy::{Reason, SlotProblem};
use keyward_rules::provider::Catalogue;
use keyward_vault::VaultError;

/// How long a refusal waits for the link of an end user; then it is sent without one.
const MADE_WITHIN: Duration = Duration::from_secs(1);

/// How many refusals may wait for a link; others are sent without one.
const WAITING_MAX: usize = 64;

/// The settings of links in refusals.
#[derive(Clone)]
pub struct ConnectLinks {
    /// The URL of the admin listener for browsers; `None` where it would not lead to this gateway later.
    pub base: Option<String>,
    /// Whether refusals have links.
    pub settings: watch::Receiver<Arc<ConnectSettings>>,
    /// The queue of wanted links of end users; `None` in a process without a control plane that makes them.
    pub wanted: Option<mpsc::Sender<WantedLink>>,
}

/// A link that an end user needs because a request in their session was refused.
#[derive(Debug)]
pub struct WantedLink {
    pub org: OrgId,
    /// The end user, who alone gets the link.
    pub user: UserId,
    /// The agent whose request was refused.
    pub agent: AgentId,
    /// The session that the agent acts in.
    pub session: SessionId,
    /// The account that is missing.
    pub account: WantedAccount,
    /// Receives the link; `None`: no link is created.
    pub answer: oneshot::Sender<Option<String>>,
}

/// The account that a person should connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WantedAccount {
    /// Of the connection with this name.
    Connection(String),
    /// A new one at this provider.
    Provider(Arc<str>),
}

/// The link for a person, in the refusal that the agent gets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct ConnectLink {
    /// The page.
    pub(crate) url: Option<String>,
    /// In a session of an end user: the account that a link could be made for.
    account: Option<WantedAccount>,
    /// The id of the provider of the host, if no connection for it exists yet.
    pub(crate) provider: Option<Arc<str>>,
}

/// The action that would resolve a refusal.
enum Resolution<'a> {
    /// This connection is connected again.
    Reconnect(&'a str),
    /// An account at the provider of the host is connected.
    Connect,
}

impl ConnectLinks {
    /// The queue of links for end users, for the control plane that makes them.
    pub fn for_end_users(&mut self) -> mpsc::Receiver<WantedLink> {
        let (wanted, asked) = mpsc::channel(WAITING_MAX);
        self.wanted = Some(wanted);
        asked
    }

    /// The link for an agent, if the refusal can be resolved by connecting an account. An end user cannot sign in: in
    /// their session there is no page of the console.
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
        let base = self.base.as_deref().filter(|_| has_links);
        let account = |account: WantedAccount| Some(account).filter(|_| is_of_end_user);
        let page = base.filter(|_| !is_of_end_user);
        match resolution {
            Resolution::Reconnect(name) => {
                let url = page.map(|base| format!("{base}/connections/{name}"));
                let account = account(WantedAccount::Connection(name.to_owned()));
                ConnectLink { url, account, provider: None }
            }
            Resolution::Connect => {
                let host = target.map(|target| target.host().to_string());
                let provider = host.and_then(|host| catalogue.owner_of(&host).cloned());
                let url = provider.as_ref().zip(page);
                let url = url
                    .map(|(id, base)| format!("{base}/connect?provider={id}&agent={}", agent.name));
                let account = provider.clone().map(WantedAccount::Provider).and_then(account);
                ConnectLink { url, account, provider }
            }
        }
    }

    async fn made(&self, agent: &Agent, account: WantedAccount) -> Option<String> {
        let wanted = self.wanted.as_ref().filter(|_| self.makes_links())?;
        let session = agent.session.as_deref()?;
        let (user, _) = session.user.as_ref()?;
        let (answer, made) = oneshot::channel();
        let link = WantedLink {
            org: agent.org.clone(),
            user: user.clone(),
            agent: agent.id.clone(),
            session: session.id.clone(),
            account,
            answer,
        };
        wanted.try_send(link).ok()?;
        tokio::time::timeout(MADE_WITHIN, made).await.ok()?.ok()?
    }

    /// Whether links for end users are made: they must lead to this gateway.
    fn makes_links(&self) -> bool {
        let settings = self.settings.borrow();
        self.base.is_some() && settings.links_in_refusals && settings.links_for_end_users
    }
}

impl ConnectLink {
    /// With a link for the agent's end user, if the settings allow it and it is made in time.
    pub(crate) async fn for_end_user(mut self, links: &ConnectLinks, agent: &Agent) -> Self {
        if let Some(account) = self.account.take() {
            self.url = links.made(agent, account).await;
        }
        self
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
        | Reason::ConnectionRemoved { .. }
        | Reason::Unbound { .. }
        | Reason::NoneInSession => Some(Resolution::Connect),
        Reason::DefaultDeny { others: false, way } if way.sets.is_empty() => {
            Some(Resolution::Connect)
        }
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
