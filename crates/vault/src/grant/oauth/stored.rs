//! [`OAuth`], the stored grant: tokens or what they are minted from, and facts of the last response. Chooses the
//! request that renews it; the requests are in `requests.rs`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::failure::{ActingParty, Failure};
use super::request_context::{RequestContext, incomplete};
use super::requests::{self, Assertion, Subject, exchanges_access};
use super::revoke::Revocable;
use super::{Tokens, imported, service_account};
use crate::grant::{GrantError, MintError};
use keyward_base::secret::Secret;
use keyward_rules::provider::oauth::GrantText;
use keyward_rules::provider::{self, AuthKind, AuthMethod};

/// The access token's field, which placements name.
pub(super) const ACCESS: &str = "access_token";

/// The refresh token's field.
pub(super) const REFRESH: &str = "refresh_token";

/// A private key's field.
pub(super) const PRIVATE_KEY: &str = "private_key";

/// Stands before the name of what is no field; no field's name begins with it.
const FACT: char = '.';

/// Clocks differ: GitHub refuses assertions from its future, and takes those of a minute ago.
const CLOCK_SECONDS: i64 = 60;

/// What a person or a service consented to, or what proves it. Wiped when dropped, as its fields are.
#[derive(Debug)]
pub struct OAuth {
    by: OAuthKind,
    /// `access_token`, `refresh_token`, and what else was given: keys, subjects, names.
    fields: BTreeMap<String, Secret>,
    facts: TokenFacts,
}

/// Which kind of auth method it is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OAuthKind {
    /// `oauth2`, in any of its grants.
    Oauth2,
    /// `service_account`.
    ServiceAccount,
    /// `github_app`.
    GithubApp,
}

/// What the last answer said beside the tokens.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TokenFacts {
    /// When the access token was asked for.
    pub sent: Option<Timestamp>,
    /// When it ends, if that is known.
    pub expires: Option<Timestamp>,
    /// When the refresh token ends, if that is known.
    pub refresh_expires: Option<Timestamp>,
    /// The scopes granted, where the answer told.
    pub scope: Option<Vec<String>>,
    /// Whose account it is, where the answer told.
    pub account: Option<String>,
    /// Variables taken from the answer.
    pub captured: BTreeMap<String, String>,
}

impl OAuth {
    /// The grant of a finished flow.
    pub fn of(tokens: Tokens) -> Self {
        let empty =
            Self { by: OAuthKind::Oauth2, fields: BTreeMap::new(), facts: TokenFacts::default() };
        empty.with(tokens)
    }

    /// From checked fields.
    ///
    /// # Errors
    /// When there is nothing to get a token with, or a key is none.
    pub(in crate::grant) fn from_fields(
        auth: &AuthMethod,
        mut fields: BTreeMap<String, Secret>,
    ) -> Result<Self, GrantError> {
        let by = match auth.kind {
            AuthKind::ServiceAccount => OAuthKind::ServiceAccount,
            AuthKind::GithubApp => OAuthKind::GithubApp,
            _ => OAuthKind::Oauth2,
        };
        let mut facts = TokenFacts::default();
        match by {
            OAuthKind::ServiceAccount => fields = service_account::unpack(fields)?,
            OAuthKind::Oauth2 => (fields, facts) = imported::unpack(fields)?,
            OAuthKind::GithubApp => {}
        }
        let needs_token = auth.oauth.as_ref().is_none_or(|oauth| {
            matches!(oauth.grant, GrantText::AuthorizationCode | GrantText::DeviceCode)
        });
        let has_token = fields.contains_key(ACCESS) || fields.contains_key(REFRESH);
        match by == OAuthKind::Oauth2 && needs_token && !has_token {
            true => Err(GrantError::NoToken),
            false => Ok(Self { by, fields, facts }),
        }
    }

    /// From opened fields, where facts stand beside them.
    pub(in crate::grant) fn stored(
        mut values: BTreeMap<String, Secret>,
    ) -> Result<Self, MintError> {
        let fields = values.extract_if(.., |name, _| !name.starts_with(FACT)).collect();
        let text = |name: &str| -> Option<&str> { values.get(name)?.expose_text() };
        let by = match text(".by") {
            None => OAuthKind::Oauth2,
            Some("service_account") => OAuthKind::ServiceAccount,
            Some("github_app") => OAuthKind::GithubApp,
            Some(_) => {
                let what = "its kind is newer than this program".to_owned();
                return Err(MintError::Malformed { what });
            }
        };
        let moment = |name| Timestamp::from_millisecond(text(name)?.parse().ok()?).ok();
        let captured = values.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix(".captured.")?;
            Some((name.to_owned(), value.expose_text()?.to_owned()))
        });
        let facts = TokenFacts {
            sent: moment(".sent"),
            expires: moment(".expires"),
            refresh_expires: moment(".refresh_expires"),
            scope: text(".scope").map(|all| all.split_whitespace().map(str::to_owned).collect()),
            account: text(".account").map(str::to_owned),
            captured: captured.collect(),
        };
        Ok(Self { by, fields, facts })
    }

    /// To be sealed: fields and facts.
    pub(in crate::grant) fn to_fields(&self) -> BTreeMap<String, Secret> {
        let mut all = self.fields.clone();
        let mut put = |name: String, text: String| drop(all.insert(name, Secret::from(text)));
        let by = match self.by {
            OAuthKind::Oauth2 => None,
            OAuthKind::ServiceAccount => Some("service_account"),
            OAuthKind::GithubApp => Some("github_app"),
        };
        if let Some(by) = by {
            put(".by".to_owned(), by.to_owned());
        }
        let facts = &self.facts;
        let moments = [
            (".sent", facts.sent),
            (".expires", facts.expires),
            (".refresh_expires", facts.refresh_expires),
        ];
        for (name, moment) in moments {
            if let Some(moment) = moment {
                put(name.to_owned(), moment.as_millisecond().to_string());
            }
        }
        if let Some(scope) = &facts.scope {
            put(".scope".to_owned(), scope.join(" "));
        }
        if let Some(account) = &facts.account {
            put(".account".to_owned(), account.clone());
        }
        for (name, value) in &facts.captured {
            put(format!(".captured.{name}"), value.clone());
        }
        all
    }

    /// The fields, which placements are rendered from.
    pub(in crate::grant) fn fields(&self) -> &BTreeMap<String, Secret> {
        &self.fields
    }

    /// Whether a field of this name is worth looking for in answers. Keys never leave us.
    pub(in crate::grant) fn may_come_back(name: &str) -> bool {
        matches!(name, ACCESS | REFRESH | "subject_token")
    }

    /// What the last answer said.
    pub fn facts(&self) -> &TokenFacts {
        &self.facts
    }

    /// Whether there is an access token that has not expired. One of unknown life is used until the API
    /// refuses it.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.fields.contains_key(ACCESS) && self.facts.expires.is_none_or(|end| now < end)
    }

    /// Whether a newer token can be got without a person.
    pub fn is_renewable(&self, ask: &RequestContext<'_>) -> bool {
        let oauth = ask.oauth;
        match self.by {
            OAuthKind::ServiceAccount | OAuthKind::GithubApp => true,
            OAuthKind::Oauth2 => match oauth.grant {
                GrantText::AuthorizationCode | GrantText::DeviceCode => {
                    self.fields.contains_key(REFRESH)
                        || exchanges_access(oauth.refresh) && self.fields.contains_key(ACCESS)
                }
                _ => true,
            },
        }
    }

    /// What can be taken back at the provider.
    pub fn revocable(&self) -> Option<Revocable> {
        let field = |name| self.fields.get(name).cloned();
        let what = Revocable { refresh: field(REFRESH), access: field(ACCESS) };
        (what.refresh.is_some() || what.access.is_some()).then_some(what)
    }

    /// Asks for newer tokens, by whichever grant this is. The answer is to be stored before it is used.
    ///
    /// # Errors
    /// When the server gives none, or there is nothing to ask with.
    pub(in crate::grant) async fn renewed(
        &self,
        ask: &RequestContext<'_>,
    ) -> Result<Self, Failure> {
        let values = self.values(ask);
        let ask = RequestContext { variables: &values, ..*ask };
        let tokens = match self.by {
            OAuthKind::ServiceAccount => service_account::minted(&ask, &self.fields).await?,
            OAuthKind::GithubApp => requests::installation(&ask, &self.assertion(&ask)?).await?,
            OAuthKind::Oauth2 => self.asked(&ask).await?,
        };
        Ok(self.with(tokens))
    }

    async fn asked(&self, ask: &RequestContext<'_>) -> Result<Tokens, Failure> {
        match ask.oauth.grant {
            GrantText::AuthorizationCode | GrantText::DeviceCode => self.refreshed(ask).await,
            GrantText::ClientCredentials => requests::client_credentials(ask).await,
            GrantText::JwtBearer => requests::jwt_bearer(ask, &self.assertion(ask)?).await,
            GrantText::TokenExchange => requests::token_exchange(ask, &self.subject()?).await,
        }
    }

    async fn refreshed(&self, ask: &RequestContext<'_>) -> Result<Tokens, Failure> {
        if exchanges_access(ask.oauth.refresh)
            && let Some(token) = self.fields.get(ACCESS)
        {
            return requests::renew_access(ask, token).await;
        }
        match self.fields.get(REFRESH) {
            Some(token) => requests::refresh(ask, token).await,
            None => Err(no_refresh_token()),
        }
    }

    /// The values that URLs, parameters and claims are filled with.
    fn values(&self, ask: &RequestContext<'_>) -> BTreeMap<String, String> {
        // What an answer gave is no part of an endpoint's URL unless it was checked, and stands among
        // the variables.
        let oauth = ask.oauth;
        let urls = [&oauth.token, &oauth.renew, &oauth.revoke, &oauth.issuer];
        let in_urls: Vec<&str> =
            urls.into_iter().flatten().flat_map(|url| url.variables()).collect();
        let captured = self.facts.captured.iter();
        let captured = captured.filter(|(name, _)| !in_urls.contains(&name.as_str()));
        let mut values: BTreeMap<String, String> =
            captured.map(|(name, value)| (name.clone(), value.clone())).collect();
        values.extend(ask.variables.clone());
        if !ask.client.id.is_empty() {
            values.insert("client_id".to_owned(), ask.client.id.clone());
        }
        for (name, value) in &self.fields {
            // Names of accounts, apps and installations; never what proves anything.
            let is_name = !Self::may_come_back(name) && name != PRIVATE_KEY;
            if let (true, Some(text)) = (is_name, value.expose_text()) {
                values.insert(name.clone(), text.to_owned());
            }
        }
        values
    }

    fn assertion(&self, ask: &RequestContext<'_>) -> Result<Assertion, Failure> {
        let jwt = ask.oauth.jwt.clone().unwrap_or_default();
        let filled = |template: Option<String>| match template {
            None => Ok(None),
            Some(text) => {
                let one = BTreeMap::from([(String::new(), text)]);
                let filled =
                    provider::oauth::OAuth::params(&one, ask.variables).map_err(incomplete)?;
                Ok(filled.into_values().next())
            }
        };
        let key = self.fields.get(PRIVATE_KEY).or(ask.client.secret.private_key.as_ref());
        Ok(Assertion {
            key: key.cloned().ok_or_else(|| missing(PRIVATE_KEY))?,
            key_id: filled(jwt.kid)?,
            algorithm: jwt.alg,
            issuer: filled(jwt.iss)?.unwrap_or_else(|| ask.client.id.clone()),
            subject: filled(jwt.sub)?.or_else(|| ask.variables.get("subject").cloned()),
            audience: filled(jwt.aud)?,
            seconds: jwt.ttl.and_then(|ttl| i64::try_from(ttl.as_secs()).ok()),
            backdated: if self.by == OAuthKind::GithubApp { CLOCK_SECONDS } else { 0 },
            scope_as_claim: jwt.scope_claim,
        })
    }

    fn subject(&self) -> Result<Subject, Failure> {
        let text = |name: &str| Some(self.fields.get(name)?.expose_text()?.to_owned());
        let actor = self.fields.get("actor_token").cloned();
        let actor_kind =
            || text("actor_token_type").unwrap_or_else(|| requests::ACCESS_TOKEN_TYPE.to_owned());
        Ok(Subject {
            token: self
                .fields
                .get("subject_token")
                .cloned()
                .ok_or_else(|| missing("subject_token"))?,
            kind: text("subject_token_type"),
            actor: actor.map(|token| (token, actor_kind())),
            wanted: text("requested_token_type"),
            audience: text("audience"),
            resource: text("resource"),
        })
    }

    /// The same grant with newer tokens. A refresh token that did not come stays.
    fn with(&self, tokens: Tokens) -> Self {
        let mut fields = self.fields.clone();
        fields.insert(ACCESS.to_owned(), tokens.access);
        let rotated = tokens.refresh.is_some();
        if let Some(refresh) = tokens.refresh {
            fields.insert(REFRESH.to_owned(), refresh);
        }
        let old = &self.facts;
        let mut captured = old.captured.clone();
        captured.extend(tokens.captured);
        let kept = old.refresh_expires.filter(|_| !rotated);
        let facts = TokenFacts {
            sent: Some(tokens.sent),
            expires: tokens.expires,
            refresh_expires: tokens.refresh_expires.or(kept),
            scope: tokens.scope.or_else(|| old.scope.clone()),
            account: tokens.account.or_else(|| old.account.clone()),
            captured,
        };
        Self { by: self.by, fields, facts }
    }
}

/// There is nothing to ask with; no request was made.
fn no_refresh_token() -> Failure {
    let said = "there is no refresh token: connect the account again, with access while offline";
    Failure::ours(ActingParty::Person, super::NO_REFRESH_TOKEN, said)
}

fn missing(field: &'static str) -> Failure {
    Failure::ours(ActingParty::Person, "field_missing", format!("the grant has no `{field}`"))
}

#[cfg(test)]
mod tests;
