//! [`OAuthGrant`], the stored grant: tokens or the data to mint them, and facts of the last response. Chooses
//! the request that renews it; the requests are in `requests.rs`.

mod successor;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::failure::{ActingParty, TokenFailure};
use super::request_context::{RequestContext, incomplete};
use super::requests::{self, JwtAssertion, RefreshFailure, SubjectToken};
use super::revoke::Revocable;
use super::{
    ACCESS, PRIVATE_KEY, REFRESH, TokenFacts, Tokens, account, aws_role, imported, missing,
    service_account, session, signed,
};
use crate::grant::{GrantError, MintError};
use keyward_base::secret::Secret;
use keyward_rules::provider::oauth::{GrantText, OAuth};
use keyward_rules::provider::{AuthKind, AuthMethod};

/// Prefix of stored names that are not fields; no field name begins with it.
const FACT: char = '.';

/// The name of [`OAuthGrant::earlier`] among the stored fields.
const EARLIER: &str = ".earlier_refresh_token";

/// How far assertions are set back: GitHub rejects assertions from the future, and accepts old ones.
const CLOCK_SECONDS: i64 = 60;

/// The tokens of a consent, or keys that tokens are minted with. Wiped when dropped, as its fields are.
#[derive(Debug)]
pub struct OAuthGrant {
    by: OAuthKind,
    /// `access_token`, `refresh_token`, and other fields: keys, subjects, names.
    fields: BTreeMap<String, Secret>,
    facts: TokenFacts,
    /// The refresh token before the one of an answer that reports an error. It is tried if the newer one is refused.
    earlier: Option<Secret>,
    /// Stored facts of a newer version, which a renewal keeps.
    unknown: BTreeMap<String, Secret>,
    /// See [`OAuthGrant::unusable_answer`]. Not stored.
    unusable: Option<Box<TokenFailure>>,
}

/// The kind of auth method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OAuthKind {
    /// `oauth2`, with any grant type.
    Oauth2,
    /// `service_account`.
    ServiceAccount,
    /// `github_app`.
    GithubApp,
    /// `session`.
    Session,
    /// `signed_jwt`.
    SignedJwt,
    /// `aws_role`.
    AwsRole,
}

impl OAuthKind {
    /// The name in stored grants.
    const NAMES: [(Self, &str); 5] = [
        (Self::ServiceAccount, "service_account"),
        (Self::GithubApp, "github_app"),
        (Self::Session, "session"),
        (Self::SignedJwt, "signed_jwt"),
        (Self::AwsRole, "aws_role"),
    ];
}

impl OAuthGrant {
    /// The grant of a finished flow.
    pub fn of(tokens: Tokens) -> Self {
        Self::stored_as(OAuthKind::Oauth2, BTreeMap::new(), TokenFacts::default()).with(tokens)
    }

    fn stored_as(by: OAuthKind, fields: BTreeMap<String, Secret>, facts: TokenFacts) -> Self {
        Self { by, fields, facts, earlier: None, unknown: BTreeMap::new(), unusable: None }
    }

    /// From checked fields.
    ///
    /// # Errors
    /// When no field gives a token, or a key is invalid.
    pub(in crate::grant) fn from_fields(
        auth: &AuthMethod,
        mut fields: BTreeMap<String, Secret>,
    ) -> Result<Self, GrantError> {
        let by = match auth.kind {
            AuthKind::ServiceAccount => OAuthKind::ServiceAccount,
            AuthKind::GithubApp => OAuthKind::GithubApp,
            AuthKind::Session => OAuthKind::Session,
            AuthKind::SignedJwt => OAuthKind::SignedJwt,
            AuthKind::AwsRole => OAuthKind::AwsRole,
            _ => OAuthKind::Oauth2,
        };
        let mut facts = TokenFacts::default();
        match by {
            OAuthKind::ServiceAccount => fields = service_account::unpack(fields)?,
            OAuthKind::Oauth2 => (fields, facts) = imported::unpack(fields)?,
            OAuthKind::SignedJwt => {
                if let Some(token) = auth.oauth.as_ref().and_then(|oauth| oauth.signed.as_ref()) {
                    signed::check_key(token, &fields)?;
                }
            }
            OAuthKind::GithubApp | OAuthKind::Session | OAuthKind::AwsRole => {}
        }
        let needs_token = auth.oauth.as_ref().is_none_or(|oauth| {
            matches!(oauth.grant, GrantText::AuthorizationCode | GrantText::DeviceCode)
        });
        let has_token = fields.contains_key(ACCESS) || fields.contains_key(REFRESH);
        match by == OAuthKind::Oauth2 && needs_token && !has_token {
            true => Err(GrantError::NoToken),
            false => Ok(Self::stored_as(by, fields, facts)),
        }
    }

    /// From stored fields, which include facts.
    pub(in crate::grant) fn stored(
        mut values: BTreeMap<String, Secret>,
    ) -> Result<Self, MintError> {
        let fields = values.extract_if(.., |name, _| !name.starts_with(FACT)).collect();
        let text = |name: &str| -> Option<&str> { values.get(name)?.expose_text() };
        let by = match text(".by") {
            None => OAuthKind::Oauth2,
            Some(name) => {
                let mut kinds = OAuthKind::NAMES.into_iter();
                let newer = || MintError::Malformed {
                    what: "its kind is newer than this program".to_owned(),
                };
                kinds.find(|(_, known)| *known == name).ok_or_else(newer)?.0
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
            subject: text(".subject").map(str::to_owned),
            keeps_refresh: values.contains_key(".keeps_refresh"),
            captured: captured.collect(),
        };
        let earlier = values.get(EARLIER).cloned();
        let mut grant = Self { earlier, ..Self::stored_as(by, fields, facts) };
        let known = grant.to_fields();
        values.retain(|name, _| !known.contains_key(name));
        grant.unknown = values;
        Ok(grant)
    }

    /// The stored fields: fields and facts.
    pub(in crate::grant) fn to_fields(&self) -> BTreeMap<String, Secret> {
        let mut all = self.fields.clone();
        all.extend(self.unknown.clone());
        all.extend(self.earlier.clone().map(|token| (EARLIER.to_owned(), token)));
        let mut put = |name: String, text: String| drop(all.insert(name, Secret::from(text)));
        let by = OAuthKind::NAMES.into_iter().find(|(kind, _)| *kind == self.by);
        if let Some((_, by)) = by {
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
        if let Some(subject) = &facts.subject {
            put(".subject".to_owned(), subject.clone());
        }
        if facts.keeps_refresh {
            put(".keeps_refresh".to_owned(), "true".to_owned());
        }
        for (name, value) in &facts.captured {
            put(format!(".captured.{name}"), value.clone());
        }
        all
    }

    /// The fields for placements.
    pub(in crate::grant) fn fields(&self) -> &BTreeMap<String, Secret> {
        &self.fields
    }

    /// Whether responses are searched for this field. Keys are never sent.
    pub(in crate::grant) fn may_come_back(name: &str) -> bool {
        matches!(name, ACCESS | REFRESH | "subject_token")
    }

    /// Whether secret fields are sent to the service, which may repeat them.
    pub(in crate::grant) fn logs_in(&self) -> bool {
        matches!(self.by, OAuthKind::Session | OAuthKind::AwsRole)
    }

    /// The keys that sign requests, under the names of an access key's fields.
    pub(in crate::grant) fn role_keys(&self) -> Option<BTreeMap<String, Secret>> {
        if self.by != OAuthKind::AwsRole {
            return None;
        }
        let mut keys = self.fields.clone();
        let token = keys.remove(ACCESS)?;
        keys.insert("session_token".to_owned(), token);
        Some(keys)
    }

    /// Whether it can end: a person consented to it, or gave a token to exchange. The others are requested with a key, a
    /// password or the app alone.
    pub fn is_of_person(&self, oauth: &OAuth) -> bool {
        let is_given = oauth.is_of_consent() || oauth.grant == GrantText::TokenExchange;
        self.by == OAuthKind::Oauth2 && is_given
    }

    /// Whether its tokens are those of a login.
    pub fn is_session(&self) -> bool {
        self.by == OAuthKind::Session
    }

    /// The facts of the last response.
    pub fn facts(&self) -> &TokenFacts {
        &self.facts
    }

    /// Why the answer that this grant is from has no usable access token, but only a newer refresh token.
    pub fn unusable_answer(&self) -> Option<&TokenFailure> {
        self.unusable.as_deref()
    }

    /// Whether there is an access token that has not expired. A token of unknown lifetime is used until the
    /// API rejects it.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.fields.contains_key(ACCESS) && self.facts.expires.is_none_or(|end| now < end)
    }

    /// Whether a newer token can be requested without a person.
    pub fn is_renewable(&self, ask: &RequestContext<'_>) -> bool {
        let oauth = ask.oauth;
        match self.by {
            OAuthKind::ServiceAccount
            | OAuthKind::GithubApp
            | OAuthKind::Session
            | OAuthKind::AwsRole
            | OAuthKind::SignedJwt => true,
            OAuthKind::Oauth2 => match oauth.grant {
                GrantText::AuthorizationCode | GrantText::DeviceCode => {
                    self.fields.contains_key(REFRESH) || self.exchangeable(ask).is_some()
                }
                _ => true,
            },
        }
    }

    /// The access token, if it can be exchanged for a newer one: after its end, no server accepts it for that.
    fn exchangeable(&self, ask: &RequestContext<'_>) -> Option<&Secret> {
        let is_live = ask.oauth.exchanges_access_token() && self.is_live(ask.now);
        self.fields.get(ACCESS).filter(|_| is_live)
    }

    /// The tokens that the provider can revoke.
    pub fn revocable(&self) -> Option<Revocable> {
        let field = |name| self.fields.get(name).cloned();
        let expires = self.facts.expires;
        let (refresh, access) = (field(REFRESH), field(ACCESS));
        let what = Revocable { refresh, earlier: self.earlier.clone(), access, expires };
        (what.refresh.is_some() || what.access.is_some()).then_some(what)
    }

    /// Requests newer tokens. The result must be stored before it is used. It may have a newer refresh token alone:
    /// [`OAuthGrant::unusable_answer`].
    ///
    /// # Errors
    /// When the server issues none, or the grant cannot be renewed.
    pub async fn renewed(&self, ask: &RequestContext<'_>) -> Result<Self, TokenFailure> {
        let before = ask.caller.clocks().count();
        match self.renewed_once(ask).await {
            // The answer shows that this machine's clock is wrong: the key signs the service's time.
            Err(_) if !self.is_of_person(ask.oauth) && ask.caller.clocks().count() != before => {
                self.renewed_once(ask).await
            }
            renewed => renewed,
        }
    }

    async fn renewed_once(&self, ask: &RequestContext<'_>) -> Result<Self, TokenFailure> {
        match self.by {
            OAuthKind::Session => return Ok(self.with(session::renewed(ask, &self.fields).await?)),
            OAuthKind::SignedJwt => return Ok(self.with(signed::minted(ask, &self.fields)?)),
            OAuthKind::AwsRole => {
                return Ok(self.with(aws_role::assumed(ask, &self.fields).await?));
            }
            _ => {}
        }
        let values = self.values(ask);
        let ask = RequestContext { variables: &values, ..*ask };
        let tokens = match self.by {
            OAuthKind::ServiceAccount => service_account::minted(&ask, &self.fields).await?,
            OAuthKind::GithubApp => requests::installation(&ask, &self.assertion(&ask)?).await?,
            _ => match self.request_tokens(&ask).await {
                Ok(tokens) => self.of_same_subject(tokens)?,
                Err(RefreshFailure { failure, next: Some(next) }) => {
                    return Ok(self.with_next(next, ask.now, failure));
                }
                Err(RefreshFailure { failure, next: None }) => {
                    return self.with_earlier(ask.now, failure);
                }
            },
        };
        Ok(self.with(tokens))
    }

    /// The tokens, unless their ID token is of another subject than the consent (OpenID Connect Core §12.2): they would act
    /// for another account.
    fn of_same_subject(&self, tokens: Tokens) -> Result<Tokens, TokenFailure> {
        let now = tokens.id_token.as_ref().and_then(account::subject);
        match self.facts.subject.as_ref().zip(now) {
            Some((before, now)) if *before != now => {
                let said = "the ID token of the refresh is of another account than the consent";
                Err(TokenFailure::ours(ActingParty::Person, "other_account", said))
            }
            _ => Ok(tokens),
        }
    }

    /// Whether a lost answer to the next refresh may lose the grant: its server replaces the refresh token, or has not
    /// shown yet that it keeps it.
    pub fn may_be_spent(&self) -> bool {
        self.fields.contains_key(REFRESH) && !self.facts.keeps_refresh
    }

    async fn request_tokens(&self, ask: &RequestContext<'_>) -> Result<Tokens, RefreshFailure> {
        Ok(match ask.oauth.grant {
            GrantText::AuthorizationCode | GrantText::DeviceCode => self.refreshed(ask).await?,
            GrantText::ClientCredentials => requests::client_credentials(ask).await?,
            GrantText::JwtBearer => requests::jwt_bearer(ask, &self.assertion(ask)?).await?,
            GrantText::TokenExchange => requests::token_exchange(ask, &self.subject()?).await?,
        })
    }

    async fn refreshed(&self, ask: &RequestContext<'_>) -> Result<Tokens, RefreshFailure> {
        if let Some(token) = self.exchangeable(ask) {
            return Ok(requests::renew_access(ask, token).await?);
        }
        match self.fields.get(REFRESH) {
            Some(token) => requests::refresh(ask, token, self.may_be_spent()).await,
            None => Err(no_refresh_token().into()),
        }
    }

    /// The values for URLs, parameters and claims.
    fn values(&self, ask: &RequestContext<'_>) -> BTreeMap<String, String> {
        // Values from a response must not enter an endpoint's URL unless they were checked; checked ones
        // are among the variables.
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
            // Names of accounts, apps and installations, but no secrets.
            let is_name = !Self::may_come_back(name) && name != PRIVATE_KEY;
            if let (true, Some(text)) = (is_name, value.expose_text()) {
                values.insert(name.clone(), text.to_owned());
            }
        }
        values
    }

    fn assertion(&self, ask: &RequestContext<'_>) -> Result<JwtAssertion, TokenFailure> {
        let jwt = ask.oauth.jwt.clone().unwrap_or_default();
        let filled = |template: Option<String>| match template {
            None => Ok(None),
            Some(text) => {
                let one = BTreeMap::from([(String::new(), text)]);
                let filled = OAuth::params(&one, ask.variables).map_err(incomplete)?;
                Ok(filled.into_values().next())
            }
        };
        let key = self.fields.get(PRIVATE_KEY).or(ask.client.secret.private_key.as_ref());
        Ok(JwtAssertion {
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

    fn subject(&self) -> Result<SubjectToken, TokenFailure> {
        let text = |name: &str| Some(self.fields.get(name)?.expose_text()?.to_owned());
        let actor = self.fields.get("actor_token").cloned();
        let actor_kind =
            || text("actor_token_type").unwrap_or_else(|| requests::ACCESS_TOKEN_TYPE.to_owned());
        Ok(SubjectToken {
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

    /// The grant with newer tokens. The refresh token stays if the response has none.
    fn with(&self, tokens: Tokens) -> Self {
        let mut fields = self.fields.clone();
        fields.extend(tokens.more);
        fields.insert(ACCESS.to_owned(), tokens.access);
        let rotated = tokens.refresh.is_some();
        if let Some(refresh) = tokens.refresh {
            fields.insert(REFRESH.to_owned(), refresh);
        }
        let old = &self.facts;
        let sent = self.fields.get(REFRESH).zip(fields.get(REFRESH));
        let same =
            |(sent, now): (&Secret, &Secret)| now.expose_text().is_some_and(|it| sent.is_text(it));
        let mut captured = old.captured.clone();
        captured.extend(tokens.captured);
        let kept = old.refresh_expires.filter(|_| !rotated);
        let facts = TokenFacts {
            sent: Some(tokens.sent),
            expires: tokens.expires,
            refresh_expires: tokens.refresh_expires.or(kept),
            scope: tokens.scope.or_else(|| old.scope.clone()),
            account: tokens.account.or_else(|| old.account.clone()),
            subject: old.subject.clone().or(tokens.id_token.as_ref().and_then(account::subject)),
            keeps_refresh: sent.is_some_and(same),
            captured,
        };
        Self { unknown: self.unknown.clone(), ..Self::stored_as(self.by, fields, facts) }
    }
}

/// The failure without a request: the grant cannot be renewed.
fn no_refresh_token() -> TokenFailure {
    let said = "there is no refresh token: connect the account again, with access while offline";
    TokenFailure::ours(ActingParty::Person, super::NO_REFRESH_TOKEN, said)
}

#[cfg(test)]
mod tests;
