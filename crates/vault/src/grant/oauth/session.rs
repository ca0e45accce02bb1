//! `session`: the token of a login request that the provider's file describes. A session with a refresh token is renewed
//! with it; when that fails, and for all others, the owner's fields log in again.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use zeroize::Zeroizing;

use super::client::ClientProof;
use super::failure::{
    ActingParty, Correction, ErrorCode, Temporary, TokenFailure, bad_endpoint, incomplete_field,
};
use super::params::Params;
use super::request_context::{RequestContext, incomplete};
use super::signed::with_variables;
use super::{REFRESH, Tokens};
use keyward_base::secret::Secret;
use keyward_rules::inject::sign::message::MessageValues;
use keyward_rules::provider::session::{BodyTemplate, RequestTemplate};

/// A session that was renewed, or else a new one.
///
/// # Errors
/// When the server issues no token.
pub(super) async fn renewed(
    ask: &RequestContext<'_>,
    fields: &BTreeMap<String, Secret>,
) -> Result<Tokens, TokenFailure> {
    let missing = || {
        TokenFailure::ours(
            ActingParty::Operator(Correction::Request),
            "no_login",
            "the provider has no login",
        )
    };
    let session = ask.oauth.session.as_ref().ok_or_else(missing)?;
    if let Some(renewal) = session.renewal.as_ref().filter(|_| fields.contains_key(REFRESH)) {
        match requested(ask, renewal, fields).await {
            Err(failure) if ends_session(&failure) => {
                tracing::debug!(%failure, "a session is not renewed: its owner logs in again");
            }
            renewed => return renewed,
        }
    }
    requested(ask, &session.login, fields).await
}

/// Whether the server has refused the renewal, so that only a login helps.
fn ends_session(failure: &TokenFailure) -> bool {
    match failure {
        TokenFailure::Permanent { .. } => true,
        TokenFailure::Temporary(temporary) => temporary.unknown_code,
    }
}

/// Sends one of the requests, and reads the tokens of its answer.
async fn requested(
    ask: &RequestContext<'_>,
    template: &RequestTemplate,
    fields: &BTreeMap<String, Secret>,
) -> Result<Tokens, TokenFailure> {
    let request = request(ask, template, &with_variables(fields, ask.variables))?;
    let answer = ask.send(ClientProof::default(), request).await?;
    let params = Params::default();
    let mut reading = ask.reading(&params, false);
    reading.secrets.extend(fields.values());
    reading.tokens(&answer).map_err(|failure| of_login(failure, &answer))
}

fn request(
    ask: &RequestContext<'_>,
    template: &RequestTemplate,
    fields: &BTreeMap<String, Secret>,
) -> Result<Request<Bytes>, TokenFailure> {
    let values = MessageValues { fields, request: None, now: ask.now, nonce: "", signature: "" };
    let (kind, body) = match &template.body {
        BodyTemplate::Empty => (None, Zeroizing::new(Vec::new())),
        BodyTemplate::Json(json) => {
            (Some("application/json"), json.bytes(&values).map_err(incomplete_field)?)
        }
        BodyTemplate::Form(pairs) => {
            let mut params = Params::default();
            for (name, message) in pairs {
                let value = message.text(&values).map_err(incomplete_field)?;
                params.set(name, value);
            }
            let form = Zeroizing::new(params.form().as_bytes().to_vec());
            (Some("application/x-www-form-urlencoded"), form)
        }
    };
    let url = template.url.fill(ask.variables).map_err(incomplete)?;
    let body = Bytes::copy_from_slice(&body);
    let mut request = ask.request(template.method.clone(), &url, body)?;
    let headers = request.headers_mut();
    if let Some(kind) = kind {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for (name, value) in &template.headers {
        let value = value.render(fields).map_err(|_| bad_endpoint())?;
        let mut value = HeaderValue::from_bytes(value.expose()).map_err(|_| bad_endpoint())?;
        value.set_sensitive(true);
        headers.insert(name.clone(), value);
    }
    Ok(request)
}

/// A login that is answered with 401 is wrong, whatever the server's own code: it is not tried again, because many
/// services lock accounts after a few tries.
fn of_login(failure: TokenFailure, answer: &Response<Bytes>) -> TokenFailure {
    match failure {
        TokenFailure::Temporary(Temporary { code, said, .. })
            if answer.status() == StatusCode::UNAUTHORIZED =>
        {
            let code = code.unwrap_or_else(|| ErrorCode::of("login_refused"));
            TokenFailure::Permanent { who: ActingParty::Person, code, said }
        }
        other => other,
    }
}
