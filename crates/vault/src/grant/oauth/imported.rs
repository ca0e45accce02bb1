//! Imports tokens from files of other tools: gcloud, Google's client libraries, and tools that store the
//! response of a token endpoint with `expires_at`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{ACCESS, REFRESH, TokenFacts, reply};
use crate::grant::GrantError;
use keyward_base::secret::Secret;

/// Replaces a document in the refresh token's field by its tokens. Also returns when its access token
/// expires.
///
/// # Errors
/// When the document contains no token.
pub(super) fn unpack(
    mut fields: BTreeMap<String, Secret>,
) -> Result<(BTreeMap<String, Secret>, TokenFacts), GrantError> {
    let is_file = |secret: &Secret| secret.expose().first() == Some(&b'{');
    let Some(file) = fields.get(REFRESH).filter(|secret| is_file(secret)).cloned() else {
        return Ok((fields, TokenFacts::default()));
    };
    let object = reply::object(file.expose()).unwrap_or_default();
    fields.remove(REFRESH);
    let tokens = [(REFRESH, REFRESH), (ACCESS, ACCESS), ("token", ACCESS)];
    for (member, field) in tokens {
        if let (Some(text), false) = (token(&object, member), fields.contains_key(field)) {
            fields.insert(field.to_owned(), Secret::new(text.as_bytes()));
        }
    }
    match fields.contains_key(REFRESH) || fields.contains_key(ACCESS) {
        true => Ok((fields, TokenFacts { expires: end(&object), ..TokenFacts::default() })),
        false => Err(GrantError::TokenFile { field: REFRESH.to_owned() }),
    }
}

fn token<'v>(object: &'v Map<String, Value>, member: &str) -> Option<&'v str> {
    let text = object.get(member)?.as_str()?;
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(text)
}

/// Formats of google-auth, googleapis for Node, and oauthlib.
fn end(object: &Map<String, Value>) -> Option<Timestamp> {
    let text = || object.get("expiry")?.as_str()?.parse().ok();
    let millis = || Timestamp::from_millisecond(object.get("expiry_date")?.as_i64()?).ok();
    let seconds = || {
        let seconds = object.get("expires_at")?.as_f64().filter(|seconds| seconds.is_finite())?;
        reply::at_second(seconds)
    };
    text().or_else(millis).or_else(seconds)
}
