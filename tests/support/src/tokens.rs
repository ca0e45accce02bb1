//! A connection with tokens: an API that accepts the tokens of its authorization server, and a gateway that
//! refreshes them.

use std::sync::Arc;
use std::time::Duration;

use keyward_base::tokens::TokenSettings;

use super::Origin;
use super::authorization::{Authorization, CLIENT, ClientAuth, Pair, Rules};
use super::canary::Canary;
use super::lab::{Lab, Plan};
use super::wire::Message;

/// The auth method of [`plan`], and what may be added to it: a public client, which needs no app.
pub fn method(more: &str) -> String {
    format!(
        "{{ id: oauth, kind: oauth2, authorize: \"https://auth.acme.test/authorize\", \
         token: \"https://auth.acme.test/token\", client_auth: none, \
         token_params: {{ client_id: {CLIENT} }}{more} }}"
    )
}

/// What a server demands of such a client.
pub fn rules() -> Rules {
    Rules { auth: ClientAuth::None, ..Rules::default() }
}

/// The same, with access tokens of so many seconds.
pub fn short(seconds: f64) -> Rules {
    Rules { access_ttl: Some(seconds), ..rules() }
}

/// Fast enough for tests.
pub fn fast(settings: &mut TokenSettings) {
    settings.backoff_first = Duration::from_millis(50);
    settings.backoff_jitter_percent = 0;
}

/// As it is.
pub fn usual(_: &mut TokenSettings) {}

/// A gateway whose connection `acme` has this pair, imported.
pub fn plan(authorization: &Authorization, pair: &Pair) -> Plan {
    plan_of(authorization, pair, &method(""))
}

/// The same of another auth method.
pub fn plan_of(authorization: &Authorization, pair: &Pair, method: &str) -> Plan {
    let mut fields = Vec::new();
    if !pair.access.is_empty() {
        fields.push("access_token: { env: ACCESS }");
    }
    if pair.refresh.is_some() {
        fields.push("refresh_token: { env: REFRESH }");
    }
    let fields = format!("{{ {} }}", fields.join(", "));
    let mut plan = authorization.reached(Plan::new(method, &fields));
    if !pair.access.is_empty() {
        plan = plan.variable("ACCESS", &pair.access);
    }
    if let Some(refresh) = &pair.refresh {
        plan = plan.secret("REFRESH", &Canary::of(refresh.clone()));
    }
    plan
}

/// Changes the numbers of the engine.
pub fn set(lab: &Lab, change: impl FnOnce(&mut TokenSettings)) {
    let vault = &lab.gateway.running().services().vault;
    let mut settings = TokenSettings::clone(&vault.token_settings());
    change(&mut settings);
    vault.replace_token_settings(settings);
}

/// A pair without its access token: the first request has to fetch one.
pub fn refresh_only(authorization: &Authorization) -> Pair {
    Pair { access: String::new(), ..authorization.issuer().issue() }
}

/// The API: says `fine` to whoever has a live token.
pub fn api(authorization: &Authorization) -> Origin {
    let issuer = authorization.issuer().clone();
    Origin::answering(move |request: &Message| issuer.api(request, "fine"))
}

/// A running one, with nothing but a refresh token to begin with.
pub async fn bank(rules: Rules, change: impl FnOnce(&mut TokenSettings)) -> (Authorization, Lab) {
    bank_of(&method(""), rules, change).await
}

/// The same of another auth method.
pub async fn bank_of(
    method: &str,
    rules: Rules,
    change: impl FnOnce(&mut TokenSettings),
) -> (Authorization, Lab) {
    let authorization = Authorization::with(rules).await;
    let pair = refresh_only(&authorization);
    let origin = api(&authorization);
    let lab = plan_of(&authorization, &pair, method).start(origin).await;
    set(&lab, change);
    (authorization, lab)
}

/// Waits until no refresh is in progress.
pub async fn landed(lab: &Lab) {
    let vault = &lab.gateway.running().services().vault;
    assert!(
        vault.refresh().wait_for_flights(Duration::from_secs(20)).await,
        "a refresh goes on and on"
    );
}

/// Asks until the access token that was issued last has ended.
pub async fn until_dead(authorization: &Authorization) {
    let access = authorization.calls().last().and_then(|call| call.issued.clone());
    let access = access.expect("one was issued").access;
    super::wire::until("the end of a token", async || !authorization.issuer().is_live(&access))
        .await;
}

/// The same request from many agents' streams at once; statuses.
pub async fn crowd(lab: &Arc<Lab>, count: usize, request: &'static str) -> Vec<u16> {
    let mut wires = Vec::new();
    for _ in 0..count {
        wires.push(lab.tunnel(super::HOST).await);
    }
    let asked = wires.into_iter().map(|mut wire| async move {
        wire.ask(super::request_text(request, super::HOST)).await.head.status()
    });
    futures_util::future::join_all(asked).await
}
