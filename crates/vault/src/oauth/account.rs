//! Determines the account of a consent: from the token response or its ID token, else from the userinfo
//! endpoint, else by the provider's test request. The account is shown and compared with the connection's;
//! it does not authenticate.

use std::collections::BTreeMap;

use super::Flows;
use super::flow::ReceivedTokens;
use super::start::{FlowContext, asked_scopes};
use crate::grant::Grant;
use crate::grant::oauth::{self, AccountClaims, ExpectedClaims, Tokens, id_token_claims};
use futures_util::FutureExt;
use keyward_model::Connection;
use keyward_state::directory::{
    Account, AccountId, AccountSource, ConnectionRecord, ConnectionState,
};

/// The scope of ID tokens and the userinfo endpoint (OpenID Connect Core §3.1.2.1).
const OPENID: &str = "openid";

/// The sources of an account, in order.
const SOURCES: [AccountSource; 4] =
    [AccountSource::Answer, AccountSource::IdToken, AccountSource::Userinfo, AccountSource::Test];

/// A grant whose account is determined.
struct ConsentedGrant<'a> {
    /// The connection, with captured variables.
    connection: &'a ConnectionRecord,
    grant: &'a Grant,
    granted: &'a [String],
    /// The account in the token response.
    reported_accounts: &'a [Account],
}

impl Flows {
    /// The accounts in the token response: in the members that the provider's file names, and in its ID token.
    pub(super) fn accounts_in_response(
        &self,
        asking: &FlowContext,
        tokens: &Tokens,
        captured: &BTreeMap<String, String>,
    ) -> Vec<Account> {
        let paths = &asking.oauth.says.account;
        let named = tokens.account.clone();
        let named = named.or_else(|| paths.iter().find_map(|name| captured.get(name).cloned()));
        let named = named.map(|name| Account::named(name, AccountSource::Answer));
        named.into_iter().chain(self.of_id_token(asking, tokens)).collect()
    }

    /// The account in the ID token, which is not trusted without a known issuer.
    fn of_id_token(&self, asking: &FlowContext, tokens: &Tokens) -> Option<Account> {
        let (token, issuer) = (tokens.id_token.as_ref()?, asking.issuer.as_deref()?);
        let client_id = &asking.app.client_id;
        match id_token_claims(token, &ExpectedClaims { issuer, client_id, now: self.clock.now() }) {
            Ok(claims) => Some(account(claims, AccountSource::IdToken)),
            Err(error) => {
                let connection = &asking.connection.id;
                tracing::warn!(%connection, %error, "an ID token is not believed");
                None
            }
        }
    }

    /// The account of a consent's tokens, within `oauth.account_timeout`. The source `preferred` is tried
    /// first, because identifiers of two sources cannot be compared.
    pub(super) async fn account_of(
        &self,
        connection: &ConnectionRecord,
        received: &ReceivedTokens,
        preferred: Option<AccountSource>,
    ) -> Option<Account> {
        let catalogue = self.vault.catalogue(&connection.org);
        let provider = catalogue.get(&connection.provider)?;
        let captured = provider.captured(&received.captured);
        let mut connection = connection.clone();
        connection.facts.captured = captured;
        let (granted, reported_accounts) = (&received.granted, &received.reported_accounts);
        let grant = received.grant()?;
        let it =
            ConsentedGrant { connection: &connection, grant: &grant, granted, reported_accounts };
        self.found(&it, preferred).await
    }

    /// The current account of a connection. If it is unknown, it is requested from the provider with the grant in
    /// force.
    pub(super) async fn account_so_far(&self, connection: &ConnectionRecord) -> Option<Account> {
        if let Some(known) = connection.known_account() {
            return Some(known);
        }
        if let ConnectionState::Draft { .. } = connection.facts.state {
            return None;
        }
        let grant = self.vault.grants().live_grant(connection).await.ok().flatten()?;
        let it = ConsentedGrant {
            connection,
            grant: &grant,
            granted: &connection.facts.granted,
            reported_accounts: &[],
        };
        let found = self.found(&it, None).await?;
        self.keep_account(connection, &found).await;
        Some(found)
    }

    /// Determines and stores the account of a connection in use.
    pub(super) async fn learn_account(
        &self,
        connection: &ConnectionRecord,
        received: &ReceivedTokens,
    ) {
        if let Some(found) = self.account_of(connection, received, None).await {
            self.keep_account(connection, &found).await;
        }
    }

    async fn keep_account(&self, connection: &ConnectionRecord, found: &Account) {
        let learnt = |record: &mut ConnectionRecord| {
            record.facts.account = Some(found.name.clone());
            record.facts.account_id = Some(found.id.clone());
        };
        let (org, id) = (&connection.org, &connection.id);
        if let Err(error) = self.directory().change::<Connection>(org, id, learnt).await {
            tracing::warn!(connection = %id, %error, "the account could not be stored");
        }
    }

    async fn found(
        &self,
        it: &ConsentedGrant<'_>,
        preferred: Option<AccountSource>,
    ) -> Option<Account> {
        let within = self.settings.load().account_timeout;
        let ask = async {
            let others = SOURCES.into_iter().filter(|source| Some(*source) != preferred);
            for source in preferred.into_iter().chain(others) {
                if let Some(account) = self.at_source(it, source).await {
                    return Some(account);
                }
            }
            None
        };
        tokio::time::timeout(within, ask.boxed()).await.ok().flatten()
    }

    async fn at_source(&self, it: &ConsentedGrant<'_>, source: AccountSource) -> Option<Account> {
        match source {
            AccountSource::Answer | AccountSource::IdToken => {
                it.reported_accounts.iter().find(|account| account.id.source == source).cloned()
            }
            AccountSource::Userinfo => self.of_userinfo(it).await,
            AccountSource::Test => {
                let name = self.vault.refresh().tested_account(it.connection, it.grant).await?;
                Some(Account::named(name, AccountSource::Test))
            }
        }
    }

    async fn of_userinfo(&self, it: &ConsentedGrant<'_>) -> Option<Account> {
        let asking = self.context_of_connection(it.connection).await.ok()?;
        let auth = asking.provider.auth(it.connection.auth.as_deref())?;
        let declared = auth.oauth.as_ref().is_some_and(|oauth| oauth.userinfo.is_some());
        let asked = asked_scopes(&asking);
        let scopes = if it.granted.is_empty() { &asked[..] } else { it.granted };
        // The metadata's endpoint is trusted only for its own issuer.
        let is_for_us = declared || scopes.iter().any(|scope| scope == OPENID);
        asking.oauth.userinfo.as_ref().filter(|_| is_for_us)?;
        let token = it.grant.revocable()?.access?;
        let client = self.client(&asking.app).await.ok()?;
        let settings = self.settings.load_full();
        match oauth::userinfo(&self.ask(&asking, &client, &settings), &token).await {
            Ok(claims) => claims.map(|claims| account(claims, AccountSource::Userinfo)),
            Err(failure) => {
                tracing::info!(connection = %it.connection.id, %failure, "no userinfo");
                None
            }
        }
    }
}

fn account(claims: AccountClaims, source: AccountSource) -> Account {
    let AccountClaims { subject, name } = claims;
    Account { name: name.unwrap_or_else(|| subject.clone()), id: AccountId { source, id: subject } }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use keyward_rules::provider::oauth::GrantText;
    use keyward_rules::provider::{AuthMethod, Catalogue, Provider};

    /// Auth methods of the catalogue whose provider file does not determine the account, and why.
    const WITHOUT: &[(&str, &str, &str)] = &[(
        "mcp",
        "oauth",
        "whose account it is depends on the server's authorization server: an ID token or its userinfo \
         endpoint, where `openid` is among the scopes",
    )];

    /// Providers with consents that, as far as is known, name the account in no token response, ID token or harmless
    /// request. Their connections have no account name.
    const UNNAMED: &[&str] = &[
        "amazon-selling-partner",
        "auth0",
        "azure",
        "azure-devops",
        "datadog",
        "etsy",
        "fathom",
        "highlevel",
        "microsoft-teams",
        "mollie",
        "netsuite",
        "outlook",
        "outreach",
        "pagerduty",
        "servicenow",
        "snowflake",
        "supabase-management",
        "twitch",
        "zendesk",
    ];

    /// Where the provider file says to read the account.
    fn sources(provider: &Provider, auth: &AuthMethod) -> Vec<AccountSource> {
        let Some(oauth) = &auth.oauth else { return vec![] };
        let has_openid = oauth.scopes.iter().any(|scope| scope == OPENID);
        let test = provider.test(auth);
        let has = |source: &AccountSource| match source {
            // If there is a userinfo endpoint, these members are read from its response.
            AccountSource::Answer => !oauth.says.account.is_empty() && oauth.userinfo.is_none(),
            AccountSource::IdToken => oauth.issuer.is_some() && has_openid,
            AccountSource::Userinfo => oauth.userinfo.is_some(),
            AccountSource::Test => test.is_some_and(|test| !test.account.is_empty()),
        };
        SOURCES.into_iter().filter(has).collect()
    }

    /// oauth 2.account-source
    #[test]
    fn every_consent_of_the_catalogue_names_its_account_or_why_it_does_not() {
        let catalogue = Catalogue::built_in();
        let consents = |auth: &&AuthMethod| {
            auth.oauth.as_ref().is_some_and(|oauth| {
                matches!(oauth.grant, GrantText::AuthorizationCode | GrantText::DeviceCode)
            })
        };
        let (mut table, mut missing) = (String::new(), vec![]);
        // The reason of `mcp` applies to named MCP servers too.
        let is_named_mcp = |it: &&Arc<Provider>| it.id.ends_with("-mcp") || it.about.mcp.is_some();
        for provider in catalogue.all().filter(|it| !is_named_mcp(it)) {
            for auth in provider.auth.iter().filter(consents) {
                let found = sources(provider, auth);
                table += &format!("{} {}: {found:?}\n", provider.id, auth.id);
                if found.is_empty() && !UNNAMED.contains(&&*provider.id) {
                    missing.push((provider.id.to_string(), auth.id.clone()));
                }
            }
        }
        let named: Vec<_> =
            WITHOUT.iter().map(|(id, auth, _)| ((*id).to_owned(), (*auth).to_owned())).collect();
        assert_eq!(missing, named, "give it `account`, `userinfo` or a test with `account`");
        insta::assert_snapshot!(table);
    }
}
