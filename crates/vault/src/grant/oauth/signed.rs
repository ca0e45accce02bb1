//! `signed_jwt`: tokens that the owner's key signs here, without a request. They are stored and renewed as the tokens of a
//! token endpoint are.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::Tokens;
use super::failure::{ActingParty, Correction, TokenFailure};
use super::request_context::RequestContext;
use crate::grant::GrantError;
use keyward_base::secret::Secret;
use keyward_rules::inject::sign::SignError;
use keyward_rules::inject::sign::jwt::JwtTemplate;
use keyward_rules::inject::sign::message::{MessageValues, RequestParts};
use keyward_rules::inject::sign::request_signer::nonce;

/// A token of these fields.
///
/// # Errors
/// When the key does not sign.
pub(super) fn minted(
    ask: &RequestContext<'_>,
    fields: &BTreeMap<String, Secret>,
) -> Result<Tokens, TokenFailure> {
    let missing = || {
        TokenFailure::ours(
            ActingParty::Operator(Correction::Request),
            "no_token",
            "the provider has no token",
        )
    };
    let token = ask.oauth.signed.as_ref().ok_or_else(missing)?;
    let fields = with_variables(fields, ask.variables);
    let nonce = nonce().map_err(unsigned)?;
    let values = MessageValues {
        fields: &fields,
        request: None,
        now: ask.now,
        nonce: &nonce,
        signature: "",
    };
    let access = token.sign(&values).map_err(unsigned)?;
    let life = SignedDuration::try_from(token.life).unwrap_or_default();
    Ok(Tokens { expires: ask.now.checked_add(life).ok(), ..Tokens::of(access, ask.now) })
}

/// All variables and fields; a field has precedence over a variable of the same name.
pub(super) fn with_variables(
    fields: &BTreeMap<String, Secret>,
    variables: &BTreeMap<String, String>,
) -> BTreeMap<String, Secret> {
    let mut all: BTreeMap<String, Secret> =
        variables.iter().map(|(name, value)| (name.clone(), Secret::from(value.clone()))).collect();
    all.extend(fields.clone());
    all
}

/// Checks that the key of a new grant signs tokens.
///
/// # Errors
/// When it is not a key, or not of the algorithm.
pub fn check_key(token: &JwtTemplate, fields: &BTreeMap<String, Secret>) -> Result<(), GrantError> {
    let headers = http::HeaderMap::new();
    let request = RequestParts {
        method: "GET",
        authority: "localhost",
        target: "/",
        headers: &headers,
        body: &[],
    };
    let now = jiff::Timestamp::UNIX_EPOCH;
    let values = MessageValues { fields, request: Some(request), now, nonce: "", signature: "" };
    match token.sign(&values) {
        Err(error @ (SignError::Key | SignError::KeyAlgorithm)) => {
            Err(GrantError::Refused { field: token.key.to_string(), why: error.to_string() })
        }
        // Variables are known only later.
        _ => Ok(()),
    }
}

fn unsigned(error: SignError) -> TokenFailure {
    TokenFailure::ours(ActingParty::Person, "unusable_key", error.to_string())
}
