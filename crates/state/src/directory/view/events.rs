//! Look-ups of the view for events: the record of a changed row, a token that is no longer valid, and a honeytoken.

use std::sync::Arc;

use jiff::Timestamp;

use super::View;
use crate::crypto::token::TokenHash;
use crate::directory::rows::RowId;
use crate::directory::token_index::FormerToken;
use crate::store::Table;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_model::{
    App, ConnectSession, DatabaseListener, Honeytoken, Hook, Login, OwnProvider, Plugin, Record,
    Rule, Session, Source, User, Webhook,
};
use keyward_rules::inject::placeholder::PlaceholderCore;

impl View {
    /// The record of a row: its kind, id and name.
    pub(in crate::directory) fn describe_row(
        &self,
        at: &RowId,
    ) -> Option<(&'static str, String, String)> {
        let org = self.orgs.get(&at.org)?;
        let (what, name) = match at.table {
            Table::Agents => return self.describe_record::<keyward_model::Agent>(at),
            Table::Apps => return self.describe_record::<App>(at),
            Table::Connections => {
                let id = ConnectionId::parse(&at.id).ok()?;
                ("connection", org.connections.get(&id)?.name.clone())
            }
            Table::Hooks => return self.describe_record::<Hook>(at),
            Table::DatabaseListeners => return self.describe_record::<DatabaseListener>(at),
            Table::Honeytokens => return self.describe_record::<Honeytoken>(at),
            Table::Logins => return self.describe_record::<Login>(at),
            Table::Orgs => ("org", org.record.as_ref()?.id.name().to_owned()),
            Table::Plugins => return self.describe_record::<Plugin>(at),
            Table::Providers => return self.describe_record::<OwnProvider>(at),
            Table::Rules => return self.describe_record::<Rule>(at),
            Table::Sessions => return self.describe_record::<Session>(at),
            Table::ConnectSessions => return self.describe_record::<ConnectSession>(at),
            Table::Sources => return self.describe_record::<Source>(at),
            Table::Users => return self.describe_record::<User>(at),
            Table::Webhooks => return self.describe_record::<Webhook>(at),
            _ => return None,
        };
        Some((what, at.id.clone(), name))
    }

    /// A token that was revoked or has expired, as far as it is remembered.
    pub fn former_token(&self, token: &str, now: Timestamp) -> Option<FormerToken> {
        let hash = TokenHash::of(token);
        let expired = self.tokens.get(&hash).filter(|holder| {
            holder.hash.matches(&hash) && holder.expires.is_some_and(|expires| expires <= now)
        });
        let expired = expired.and_then(|holder| {
            let token = holder.agent.token.clone()?;
            Some(FormerToken { agent: holder.agent.clone(), token, reason: "expired" })
        });
        expired.or_else(|| self.revoked.get(&hash).cloned())
    }

    pub fn honeytoken(
        &self,
        org: &OrgId,
        core: &PlaceholderCore,
    ) -> Option<&Arc<Record<Honeytoken>>> {
        let id = self.orgs.get(org)?.honeytoken_cores.get(core)?;
        self.one::<Honeytoken>(org, id)
    }
}
