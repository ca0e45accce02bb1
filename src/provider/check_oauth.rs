//! The OAuth side of an auth method: endpoints, parameters, times and what is peculiar to the
//! service, from YAML to [`OAuth`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::AuthKind;
use super::document::{Problems, key_of};
use super::oauth::{
    ClientAuthText, Expired, ExpiresText, GrantText, Jwt, OAuth, Quirks, UrlTemplate,
};
use super::own::Own;
use super::schema::{AuthText, ExpiredText};
use crate::base::time::parse_duration;

/// Checks the token endpoint of an auth method and all around it; nothing for kinds without one.
pub(super) fn oauth(
    text: &AuthText,
    path: &str,
    own: &Own<'_>,
    problems: &mut Problems<'_>,
) -> Option<OAuth> {
    if !matches!(text.kind, AuthKind::Oauth2 | AuthKind::ServiceAccount | AuthKind::GithubApp) {
        return None;
    }
    Some(Check { text, path, own }.oauth(problems))
}

struct Check<'a> {
    text: &'a AuthText,
    path: &'a str,
    own: &'a Own<'a>,
}

impl Check<'_> {
    fn oauth(&self, problems: &mut Problems<'_>) -> OAuth {
        let text = self.text;
        let default_grant = match text.kind {
            AuthKind::Oauth2 => GrantText::AuthorizationCode,
            _ => GrantText::JwtBearer,
        };
        let token_path = match text.token_path.is_empty() {
            true => vec!["access_token".to_owned()],
            false => text.token_path.clone(),
        };
        OAuth {
            grant: text.grant.unwrap_or(default_grant),
            issuer: self.url("issuer", text.issuer.as_deref(), problems),
            authorize: self.url("authorize", text.authorize.as_deref(), problems),
            token: self.url("token", text.token.as_deref(), problems),
            renew: self.url("renew", text.renew.as_deref(), problems),
            device: self.url("device", text.device.as_deref(), problems),
            revoke: self.url("revoke", text.revoke.as_deref(), problems),
            register: self.url("register", text.register.as_deref(), problems),
            scopes: text.scopes.clone(),
            scope_separator: text.scope_separator.clone().unwrap_or_else(|| " ".to_owned()),
            client_auth: text.client_auth.unwrap_or(ClientAuthText::Basic),
            token_body: text.token_body.unwrap_or_default(),
            authorize_params: text.authorize_params.clone(),
            token_params: text.token_params.clone(),
            renew_params: text.renew_params.clone(),
            renames: text.renames.clone(),
            extra_headers: text.extra_headers.clone(),
            grant_type: text.grant_type.clone(),
            pkce: text.pkce.unwrap_or_default(),
            refresh: text.refresh.unwrap_or_default(),
            access_ttl: self.time("access_ttl", text.access_ttl.as_deref(), problems),
            refresh_ttl: self.time("refresh_ttl", text.refresh_ttl.as_deref(), problems),
            token_path,
            expires_path: text.expires_path.clone(),
            expires_format: text.expires_format.unwrap_or(ExpiresText::Seconds),
            capture: text.capture.clone(),
            callback_capture: text.callback_capture.clone(),
            jwt: self.jwt(problems),
            says: self.quirks(problems),
        }
    }

    fn url(
        &self,
        key: &str,
        url: Option<&str>,
        problems: &mut Problems<'_>,
    ) -> Option<UrlTemplate> {
        // Scheme and host are judged with the provider's endpoints.
        let _ = (key, self.own, problems);
        url.map(UrlTemplate::new)
    }

    fn time(&self, key: &str, time: Option<&str>, problems: &mut Problems<'_>) -> Option<Duration> {
        match parse_duration(time?) {
            Ok(time) => Some(time),
            Err(error) => {
                problems.add(&key_of(self.path, key), error, "");
                None
            }
        }
    }

    fn jwt(&self, problems: &mut Problems<'_>) -> Option<Jwt> {
        let jwt = self.text.jwt.as_ref()?;
        Some(Jwt {
            alg: jwt.alg.clone(),
            key: jwt.key.clone(),
            kid: jwt.kid.clone(),
            iss: jwt.iss.clone(),
            aud: jwt.aud.clone(),
            sub: jwt.sub.clone(),
            scope_claim: jwt.scope_claim,
            ttl: self.time("jwt.ttl", jwt.ttl.as_deref(), problems),
            claims: jwt.claims.clone(),
        })
    }

    fn quirks(&self, problems: &mut Problems<'_>) -> Quirks {
        let text = self.text;
        Quirks {
            permanent: text.says.permanent.clone(),
            rejected: text.says.rejected.clone(),
            temporary: text.says.temporary.clone(),
            expired: text.says.expired.as_ref().map(expired),
            keeps_unsafe: !text.replay_unsafe,
            revoke_via: text.revoke_via,
            access_page: text.access_page.clone(),
            account: text.account.clone(),
            keep_alive: self.time("keep_alive", text.keep_alive.as_deref(), problems),
            renew_scopes: text.renew_scopes,
        }
    }
}

fn expired(text: &ExpiredText) -> Expired {
    let json = |value: &serde_yaml::Value| serde_json::to_value(value).unwrap_or_default();
    let any = |value: &serde_yaml::Value| match json(value) {
        serde_json::Value::Array(any) => any,
        one => vec![one],
    };
    let members: BTreeMap<_, _> =
        text.json.iter().map(|(path, of)| (path.clone(), any(of))).collect();
    Expired { status: text.status, members: members.into_iter().collect() }
}
