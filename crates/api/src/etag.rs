//! [`Etag`] and [`IfMatch`]: entity tags of stored records, and requests that want to change only the version that they
//! read (RFC 9110 §8.8.3, §13.1.1). A tag is the record's version in quotes: the same after a restart, and another one after
//! every change.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::ApiError;
use keyward_model::{Record, Resource};

/// Bytes of the hash in the tag of a list, and in a version.
const HASH_BYTES: usize = 16;

/// The tag of one version of a record, or of a list of records.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Etag(String);

/// The condition of a request: the tags of which one must be the present one. By default there is none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct IfMatch(Option<TagCondition>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum TagCondition {
    /// `*`: any version.
    Any,
    Tags(Vec<String>),
}

/// An answer with the tag of what it shows; without one for what is not stored.
#[derive(Debug)]
pub(super) struct TaggedAnswer<T> {
    pub(super) etag: Option<Etag>,
    pub(super) body: T,
}

impl Etag {
    /// The tag of a record.
    pub(super) fn of<R: Resource>(record: &Record<R>) -> Self {
        Self(format!("\"{}\"", record.version()))
    }

    /// The tag of records in this order.
    pub(super) fn of_all<'a, R: Resource>(
        records: impl IntoIterator<Item = &'a Record<R>>,
    ) -> Self {
        let mut hash = Sha256::new();
        records.into_iter().for_each(|record| hash.update(record.version()));
        let hash = hash.finalize();
        Self(format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&hash[..HASH_BYTES])))
    }
}

impl IfMatch {
    /// # Errors
    /// When a tag is not written as `ETag` gave it.
    pub(super) fn of(fields: &HeaderMap) -> Result<Self, ApiError> {
        let mut wanted = None;
        for value in fields.get_all(header::IF_MATCH) {
            let text = value.to_str().map_err(|_| malformed())?.trim();
            match wanted.get_or_insert_with(|| TagCondition::Tags(Vec::new())) {
                TagCondition::Tags(tags) if text == "*" && tags.is_empty() => {
                    wanted = Some(TagCondition::Any)
                }
                TagCondition::Tags(tags) => {
                    for tag in text.split(',').map(str::trim) {
                        tags.push(read(tag).ok_or_else(malformed)?);
                    }
                }
                TagCondition::Any => return Err(malformed()),
            }
        }
        Ok(Self(wanted))
    }

    /// Whether a version with this tag may be changed. A weak tag matches none (RFC 9110 §13.1.1).
    fn allows(&self, present: &Etag) -> bool {
        match &self.0 {
            None | Some(TagCondition::Any) => true,
            Some(TagCondition::Tags(tags)) => tags.contains(&present.0),
        }
    }

    /// Whether this version of a record may be changed.
    pub(super) fn allows_record<R: Resource>(&self, record: &Record<R>) -> bool {
        self.check(record).is_ok()
    }

    /// Refuses to change a record that is not as it was read.
    ///
    /// # Errors
    /// When it has another tag.
    pub(super) fn check<R: Resource>(&self, record: &Record<R>) -> Result<(), ApiError> {
        let what = || format!("{} `{}`", R::KIND.one, record.name());
        self.check_tag(|| Etag::of(record), what)
    }

    /// Refuses to change what has another tag. `present` and `what` are only called where there is a condition.
    ///
    /// # Errors
    /// When it has another tag.
    pub(super) fn check_tag(
        &self,
        present: impl FnOnce() -> Etag,
        what: impl FnOnce() -> String,
    ) -> Result<(), ApiError> {
        match self.0.is_none() || self.allows(&present()) {
            true => Ok(()),
            false => Err(ApiError::Stale { what: what() }),
        }
    }
}

/// A tag with its quotes. Shells and some clients drop those of our own tags.
fn read(text: &str) -> Option<String> {
    let strong = text.strip_prefix("W/").unwrap_or(text);
    if strong.len() >= 2 && strong.starts_with('"') && strong.ends_with('"') {
        return Some(text.to_owned());
    }
    let is_ours = |hash: Vec<u8>| hash.len() == HASH_BYTES;
    BASE64_URL_SAFE_NO_PAD.decode(text).is_ok_and(is_ours).then(|| format!("\"{text}\""))
}

fn malformed() -> ApiError {
    ApiError::Unreadable(
        "`If-Match` must be an entity tag as `ETag` gave it, with its quotes, or a `version`"
            .to_owned(),
    )
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::of(&parts.headers)
    }
}

impl<T: Serialize> IntoResponse for TaggedAnswer<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        if let Some(Etag(tag)) = self.etag
            && let Ok(value) = HeaderValue::try_from(tag)
        {
            response.headers_mut().insert(header::ETAG, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use keyward_base::id::{OrgId, TokenId};
    use keyward_model::{Agent, AgentFacts, AgentSpec, ManagedBy};

    fn agent() -> Record<Agent> {
        let (spec, now) = (AgentSpec::named("ci"), Timestamp::UNIX_EPOCH);
        Record::new(&OrgId::default_org(), ManagedBy::Store, spec, AgentFacts::default(), now)
    }

    fn condition(values: &[&str]) -> Result<IfMatch, ApiError> {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(header::IF_MATCH, value.parse().unwrap());
        }
        IfMatch::of(&fields)
    }

    #[test]
    fn a_malformed_if_match_field_is_refused() {
        for bad in
            [&["abc"][..], &[""], &["\""], &["\"a\","], &["a\""], &["*", "\"a\""], &["\"a\"", "*"]]
        {
            assert!(matches!(condition(bad), Err(ApiError::Unreadable(_))), "{bad:?}");
        }
    }

    #[test]
    fn only_the_strong_tag_of_the_present_version_matches() {
        let record = agent();
        let Etag(tag) = Etag::of(&record);
        for stale in ["\"x\"".to_owned(), format!("W/{tag}"), tag.to_uppercase()] {
            let refused = condition(&[&stale]).unwrap().check(&record);
            assert!(matches!(refused, Err(ApiError::Stale { .. })), "{stale}");
        }
        for good in
            [vec![], vec!["*"], vec![&*tag], vec!["\"x\"", &tag], vec!["\"x\" , W/\"y\"", &tag]]
        {
            assert_eq!(condition(&good).unwrap().check(&record), Ok(()), "{good:?}");
        }
        let without_quotes = condition(&[tag.trim_matches('"')]).unwrap();
        assert_eq!(without_quotes.check(&record), Ok(()));
    }

    #[test]
    fn a_pause_changes_the_entity_tag_and_a_new_token_does_not() {
        let record = agent();
        let tag = |record: &Record<Agent>| Etag::of(record);
        let mut paused = record.clone();
        paused.facts.held = true;
        assert_ne!(tag(&paused), tag(&record));
        let mut with_token = record.clone();
        let token = json!({ "id": TokenId::random(), "hash": "", "created": record.created, "expires": null });
        with_token.facts.tokens.push(serde_json::from_value(token).unwrap());
        assert_eq!(tag(&with_token), tag(&record));
        let stored = serde_json::to_value(&record).unwrap();
        assert_eq!(tag(&serde_json::from_value(stored).unwrap()), tag(&record), "after a restart");
    }
}
