//! [`TokenStatus`]: the state of a connection's tokens, without a request.

use std::time::Duration;

use jiff::Timestamp;

use super::Refresh;
use super::backoff::Backoff;
use crate::context::method;
use crate::grant::oauth::TokenFacts;
use crate::grants::StoredGrant;
use keyward_base::host::{Scheme, Target};
use keyward_model::{Failures, TokenStatus};
use keyward_rules::inject::scrub::is_common_word;
use keyward_rules::provider::oauth::account_host;
use keyward_rules::provider::{AuthKind, AuthMethod, Field};
use keyward_state::directory::ConnectionRecord;

const COMMON_WORD: &str =
    "is a common word, which is masked in every answer that has it: replace it by a longer one";

impl Refresh {
    /// The state of a connection's token; `None` for kinds without tokens, before there is a token, and for a broken
    /// connection, which gives its token to no request.
    /// Sends no request.
    pub async fn status(&self, connection: &ConnectionRecord) -> Option<TokenStatus> {
        let catalogue = self.context.catalogue(&connection.org);
        let found = method(&catalogue, &connection.provider, connection.auth.as_deref());
        found.ok().filter(|(_, auth)| auth.has_tokens())?;
        let is_used =
            |it: &StoredGrant| it.broken.as_ref().is_none_or(|it| it.usable_until.is_some());
        let stored = self.grants.stored(connection).await.ok().filter(is_used)?;
        let grant = stored.grant(&self.context, connection).ok()?;
        let grant = grant.tokens()?;
        let facts = grant.facts();
        Some(TokenStatus {
            generation: stored.version.0,
            expires: facts.expires,
            refreshed: facts.sent,
            keep_alive: match facts.sent.is_some() || grant.revocable().is_some() {
                true => self.kept_until(connection, facts),
                false => None,
            },
            awaited: self.cache.known(&connection.id).and_then(|cell| cell.late_since()),
            account_host: self.account_host(connection, facts),
            asked: self.cache.known(&connection.id).and_then(|cell| Some(cell.asked()?.shown)),
            client_paused: self.client_paused(connection),
            failing: self.failing(connection),
        })
    }

    /// What the secret in force causes beside its use: one that is a common word changes answers. Tokens, and fields whose
    /// values have a known shape, are none; secrets that no request carries change no answer.
    pub async fn secret_warnings(&self, connection: &ConnectionRecord) -> Vec<String> {
        let catalogue = self.context.catalogue(&connection.org);
        let found = method(&catalogue, &connection.provider, connection.auth.as_deref());
        let is_sent =
            |auth: &AuthMethod| auth.kind != AuthKind::Oauth2 && auth.carried().next().is_some();
        let sent = found.iter().filter(|(_, auth)| is_sent(auth));
        let fields = sent.flat_map(|(_, auth)| &auth.fields);
        let mut fields: Vec<&Field> = fields.filter(|it| it.secret && !it.has_shape()).collect();
        let grant = if fields.is_empty() { None } else { self.grants.held_grant(connection).await };
        let value = |field: &Field| grant.as_ref()?.value(&field.name);
        fields.retain(|field| value(field).is_some_and(is_common_word));
        fields.iter().map(|field| format!("its `{}` {COMMON_WORD}", field.name)).collect()
    }

    /// The host that the provider names for the account, if requests of the connection do not go there.
    fn account_host(&self, connection: &ConnectionRecord, facts: &TokenFacts) -> Option<String> {
        let named = account_host(&facts.captured)?;
        let target = Target::parse(Scheme::Https, named).ok()?;
        let token_context = self.token_context(connection).ok()?;
        let mut hosts = token_context.instance().hosts.iter();
        (!hosts.any(|host| host.matches(&target))).then(|| named.to_owned())
    }

    /// When the pause of the connection's client at its server ends.
    fn client_paused(&self, connection: &ConnectionRecord) -> Option<Timestamp> {
        let now = self.clock.moment();
        let asked = self.client_at_server(&self.token_context(connection).ok()?);
        let rest = self.servers.client_pause(&asked, now)?;
        Some(after(now.wall_time(), rest))
    }

    /// The number of connections with failing refreshes, and how many of them exceed `oauth.alert_after`.
    pub fn failing_counts(&self) -> (usize, usize) {
        let backoffs = self.cache.backoffs().into_iter();
        let failing: Vec<_> = backoffs.filter_map(|it| self.failing_of(&it)).collect();
        (failing.len(), failing.iter().filter(|failing| failing.alert).count())
    }

    pub(crate) fn failing(&self, connection: &ConnectionRecord) -> Option<Failures> {
        self.failing_of(&self.cache.known(&connection.id)?.backoff())
    }

    pub(crate) fn failing_of(&self, backoff: &Backoff) -> Option<Failures> {
        let now = self.clock.moment();
        let (since, last) = (backoff.since()?, backoff.last());
        let lasts = Duration::try_from(now.wall_time().duration_since(since)).unwrap_or_default();
        Some(Failures {
            since,
            alert: lasts >= self.context.token_settings().alert_after,
            count: backoff.failures(),
            code: last.code.clone(),
            cause: last.cause.map(|cause| cause.as_str().to_owned()),
            message: last.message.clone(),
            said: last.said.clone(),
            hint: backoff.remedy().map(ToOwned::to_owned),
            next_try: after(now.wall_time(), backoff.rest(now).unwrap_or_default()),
        })
    }
}

/// A time plus a duration.
pub(crate) fn after(now: Timestamp, rest: Duration) -> Timestamp {
    now.checked_add(rest).unwrap_or(Timestamp::MAX)
}
