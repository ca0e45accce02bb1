//! Headless links, for platforms with pages of their own: the link leads to the provider at once, and the provider's
//! callback leads back to the platform. No page of ours has asked the person, so the tokens wait until the platform
//! exchanges the code of the browser that consented: it knows which of its users this browser belongs to.

use std::sync::Arc;

use axum::response::Response;

use super::attempt::ConnectAttempt;
use super::browser::BrowserSession;
use super::offers::Offers;
use super::render;
use crate::consents::see_other;
use crate::context::Context;
use crate::error::ApiError;
use crate::state::Admin;
use keyward_model::{ConnectSession, ConnectSessionState, Record};
use keyward_vault::oauth::FlowState;

/// Sends the browser of a headless link on: to the provider, or with the result back to the platform. `again`: another
/// attempt, after one that failed.
pub(super) async fn next(admin: &Admin, opened: &BrowserSession, again: bool) -> Response {
    let session = &opened.session;
    let now = admin.deps().clock.now();
    let has_consented = session.facts.connected.is_some() || is_held(admin, session).await;
    let has_failed = session.facts.state(now) == ConnectSessionState::Failed;
    if has_consented || (has_failed && !again) || !session.facts.is_live(now) {
        let url = opened.return_url(has_consented);
        return url.map_or_else(|| render::ended_page(admin), |url| see_other(&url));
    }
    match begin(admin, opened).await {
        Ok(url) => see_other(&url),
        Err(error) => failed(admin, opened, &error).await,
    }
}

async fn begin(admin: &Admin, opened: &BrowserSession) -> Result<String, ApiError> {
    let session = &opened.session;
    let attempt = ConnectAttempt::of(admin, session.clone())?;
    let choice = Offers::consent(admin, &session.org, &session.spec)?;
    Ok(attempt.consent(choice, opened).await?.url)
}

/// A consent that cannot begin is a failed attempt: the platform reads why.
async fn failed(admin: &Admin, opened: &BrowserSession, error: &ApiError) -> Response {
    let why = error.text().message;
    let noted = admin.deps().flows.fail_connect_session(&opened.session, &why).await;
    match (noted, opened.return_url(false)) {
        (Ok(_), Some(url)) => see_other(&url),
        _ => render::failure_page(admin, error),
    }
}

/// Whether the person has consented and the tokens wait.
async fn is_held(admin: &Admin, session: &Record<ConnectSession>) -> bool {
    let Some(flow) = &session.facts.flow else { return false };
    let view = admin.deps().flows.view(&session.org, flow).await;
    view.is_ok_and(|view| matches!(view.state, FlowState::Held { .. }))
}

/// Puts the tokens of a consent in force. The code was checked. A connect session that is connected already stays as it is.
///
/// # Errors
/// When no tokens wait, or they are of another account than the connection's and `other_account` is false. Then
/// they wait on.
pub(super) async fn release(
    context: &Context,
    session: Arc<Record<ConnectSession>>,
    other_account: bool,
) -> Result<Arc<Record<ConnectSession>>, ApiError> {
    let (org, flows) = (&session.org, &context.deps().flows);
    let Some(flow) = session.facts.flow.as_ref().filter(|_| session.facts.connected.is_none())
    else {
        return Ok(session);
    };
    if context.view().entitled_user(&session).is_none() {
        let why = "the user of this connect session is paused, or no longer owns the connection";
        return Err(ApiError::refused(why));
    }
    if let FlowState::Held { before: Some(before), account } = flows.view(org, flow).await?.state
        && !other_account
    {
        let account =
            account.map_or_else(|| "an unknown account".to_owned(), |it| format!("`{it}`"));
        return Err(ApiError::refused(format!(
            "the person consented with {account}; the connection has `{before}`"
        ))
        .hint("send `other_account: true` to use it, or end the connect session"));
    }
    flows.release(org, flow, other_account).await?;
    let settled = flows.settle_connect_session(&session).await?;
    context.admin.enforce().await?;
    match &settled.facts.failure {
        Some(why) if settled.facts.connected.is_none() => Err(ApiError::refused(why.clone())),
        _ => Ok(settled),
    }
}
