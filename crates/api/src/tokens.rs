//! `/agents/{id}/tokens`: an agent's tokens. The text of a new one is answered once.

use std::time::Duration;

use axum::Json;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

use super::audit_log::Run;
use super::body::{Params, Segments};
use super::context::Context;
use super::error::ApiError;
use super::input::SpecInput;
use super::openapi::Routes;
use super::page::Page;
use super::resource::found;
use super::wire::{List, Rejected, RunRefusals, TokenIssued};
use keyward_base::id::TokenId;
use keyward_base::secret::Secret;
use keyward_base::time::parse_duration;
use keyward_model::{Agent, TokenCreateOptions, TokenRecord, TokenShown, TokenSpec};
use keyward_state::directory::{IssuedToken, Remedies, RemedyCause};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/agents/{agent}/tokens", ["listAgentTokens", "List the tokens of an agent"], list)
        .post("/agents/{agent}/tokens", ["addAgentToken", "Add a token of an agent"], add)
        .delete(
            "/agents/{agent}/tokens/{token}",
            ["revokeAgentToken", "Revoke a token of an agent"],
            revoke,
        )
        .get(
            "/agents/{agent}/tokens/{token}/refusals",
            ["getRefusals", "Show what was refused to a run"],
            refusals,
        )
}

pub(super) fn shown(context: &Context, token: &TokenRecord) -> TokenShown {
    TokenShown {
        id: token.id.clone(),
        spec: token.spec.clone(),
        created: token.created,
        expires: token.expires,
        last_used: context.deps().metrics.usage.token(&token.id).last,
    }
}

async fn list(
    context: Context,
    Segments(agent): Segments<String>,
    Params(page): Params<Page>,
) -> Result<Json<List<TokenShown>>, ApiError> {
    let agent = found::<Agent>(&context, &agent)?;
    let wants = |token: &&TokenRecord| {
        page.wants(&[token.id.as_str(), token.spec.label.as_deref().unwrap_or("")])
    };
    let wanted = agent.facts.tokens.iter().filter(wants).map(|token| shown(&context, token));
    page.cut(wanted.collect(), |token: &TokenShown| token.id.as_str()).map(Json)
}

async fn add(
    context: Context,
    Segments(agent): Segments<String>,
    SpecInput { spec, options }: SpecInput<TokenSpec, TokenCreateOptions>,
) -> Result<(StatusCode, Json<TokenIssued>), ApiError> {
    let agent = found::<Agent>(&context, &agent)?;
    let now = context.deps().clock.now();
    let expires = expiry(options.ttl.as_deref(), options.expires_in, now)?;
    let (label, chosen) = (spec.label, options.token.map(|token| token.0));
    let directory = &context.deps().directory;
    let issued = directory.add_token(&agent.org, &agent.id, label.clone(), expires, chosen).await?;
    Ok((StatusCode::CREATED, Json(shown_once(&issued, label)?)))
}

/// Shows a new token.
pub(super) fn shown_once(
    issued: &IssuedToken,
    label: Option<String>,
) -> Result<TokenIssued, ApiError> {
    let token = text_of(&issued.text)?;
    Ok(TokenIssued { id: issued.id.clone(), label, expires: issued.expires, token })
}

/// The text of a new token: the one place of the control plane that exposes a secret.
pub(super) fn text_of(token: &Secret) -> Result<String, ApiError> {
    let refused = || ApiError::field("token", "must be text");
    Ok(token.expose_text().ok_or_else(refused)?.to_owned())
}

async fn revoke(
    context: Context,
    Segments((agent, token)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let Context { admin, caller } = &context;
    let agent = found::<Agent>(&context, &agent)?;
    let id = TokenId::parse(&token).map_err(|_| ApiError::not_found("token", &token))?;
    let known = agent.facts.tokens.iter().find(|token| token.id == id);
    let known = known.ok_or_else(|| ApiError::not_found("token", &token))?;
    if admin.runs().mark_ended_by_request(&id) {
        let (agent, label) = (agent.name.clone(), known.spec.label.clone());
        caller.record_run(Run { action: "ended", agent, token: Some(id.clone()), label });
    }
    let revoked = admin.deps().directory.revoke_token(caller.org(), &agent.id, &id).await;
    if revoked.is_err() {
        admin.runs().unmark_ended(&id);
    }
    revoked?;
    Ok(StatusCode::NO_CONTENT)
}

/// What was refused to the token of an open run.
async fn refusals(
    context: Context,
    Segments((agent, token)): Segments<(String, String)>,
) -> Result<Json<RunRefusals>, ApiError> {
    let agent = found::<Agent>(&context, &agent)?;
    let is_it = |known: &&TokenRecord| known.id.as_str() == token;
    let known = agent.facts.tokens.iter().find(is_it);
    let known = known.ok_or_else(|| ApiError::not_found("token", &token))?;
    let counts = context.deps().metrics.run_refusals.of(&known.id);
    let counts = counts.ok_or_else(|| ApiError::not_found("run", &token))?;
    let (view, catalogue) =
        (context.deps().directory.view(), context.deps().vault.catalogue(&agent.org));
    let rejected = counts.rejected.into_iter().filter_map(|it| {
        let connection = view.connection(&agent.org, &it.connection)?;
        let provider = catalogue.get(&connection.provider);
        Some(Rejected {
            connection: connection.name.clone(),
            provider: provider.map_or(&*connection.provider, |known| &known.name).to_owned(),
            requests: it.requests,
            hint: Remedies::in_view(connection, &catalogue, &view).remedy(RemedyCause::Credential),
        })
    });
    Ok(Json(RunRefusals {
        requests: counts.requests,
        hosts: counts.hosts,
        rejected: rejected.collect(),
    }))
}

/// When a new token ends; `None`: never.
pub(super) fn expiry(
    ttl: Option<&str>,
    expires_in: Option<u64>,
    now: Timestamp,
) -> Result<Option<Timestamp>, ApiError> {
    let (field, life) = match (ttl, expires_in) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(ApiError::field("expires_in", "must not be given together with `ttl`"));
        }
        (Some(ttl), None) => {
            let rule = "must be a number and a unit, such as 30m, 8h or 90d, up to a hundred years";
            let life = parse_duration(ttl).map_err(|_| ApiError::field("ttl", rule))?;
            ("ttl", life)
        }
        (None, Some(seconds)) => ("expires_in", Duration::from_secs(seconds)),
    };
    if life.is_zero() {
        return Err(ApiError::field(field, "must be longer than zero"));
    }
    let end = SignedDuration::try_from(life).ok().and_then(|life| now.checked_add(life).ok());
    end.map(Some).ok_or_else(|| ApiError::field(field, "is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str) -> Result<Option<Timestamp>, ApiError> {
        let options: TokenCreateOptions = serde_json::from_str(json).unwrap();
        expiry(options.ttl.as_deref(), options.expires_in, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn an_invalid_token_lifetime_is_refused() {
        let bad = [
            r#"{"ttl":"0s"}"#,
            r#"{"ttl":"soon"}"#,
            r#"{"expires_in":0}"#,
            r#"{"expires_in":18446744073709551615}"#,
            r#"{"ttl":"1h","expires_in":3600}"#,
        ];
        for json in bad {
            assert!(matches!(asked(json), Err(ApiError::Field { .. })), "{json}");
        }
    }

    #[test]
    fn debug_of_a_new_token_hides_its_text() {
        let text = Secret::from("kwa_canary".to_owned());
        let issued = IssuedToken { id: TokenId::random(), text, expires: None };
        let shown = shown_once(&issued, None).unwrap();
        assert!(!format!("{shown:?}").contains("canary"));
        assert_eq!(shown.token, "kwa_canary");
    }

    #[test]
    fn ttl_and_expires_in_mean_the_same() {
        let hour = Some(Timestamp::from_second(3_600).unwrap());
        assert_eq!(asked(r#"{"ttl":"1h"}"#), Ok(hour));
        assert_eq!(asked(r#"{"expires_in":3600}"#), Ok(hour));
        assert_eq!(asked("{}"), Ok(None));
    }
}
